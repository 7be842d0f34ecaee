#ifndef SLUICE_TESTS_SIM_DRIVER_H_
#define SLUICE_TESTS_SIM_DRIVER_H_

// The cluster's client: declares model and placements, then trains, loads,
// syncs, verifies and moves samples at random; loses calls, repeats them under
// their request ids, sometimes goes away. In the end, without faults,
// everything it asks for must succeed.

#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "coordinator/core/events.h"
#include "tests/sim/process.h"
#include "tests/sim/producer.h"
#include "tests/sim/sim_agent.h"
#include "tests/sim/sim_coordinator.h"
#include "tests/sim/trainer.h"
#include "tests/sim/world.h"

namespace sluice::sim {

inline constexpr char kModel[] = "policy";

// Of a request without its id: in the simulation an id is used for one request.
uint64_t FingerprintOf(const std::string& request_id);

// A placement as the driver declares it.
struct DeclaredPlacement {
  std::string name;
  std::vector<MeshAxis> axes;
  Layout layout;
  Storage storage = Storage::kArena;
  std::vector<SimAgent*> agents;  // by mesh index
};

class Driver : public Process {
 public:
  using Done = std::function<void(absl::Status, const coordinator::ReplyBody&)>;

  struct Setup {
    // The first one is the trainer, the others are synced from it.
    std::vector<DeclaredPlacement> placements;
    std::vector<Trainer*> trainers;  // of lent memory
    std::vector<SimAgent*> agents;
    SampleBook* book = nullptr;
  };

  Driver(World& world, SimCoordinator& coordinator, Setup setup);

  void Start();
  // Begins nothing new.
  void Quit() { quitting_ = true; }
  // Nothing it began is still open.
  bool quiet() const { return open_ == 0 && lanes_ == 0; }
  // Train, sync, verify, look at everything, clear it away; then `done`.
  void FinalRound(std::function<void()> done);
  int64_t count(const std::string& what) const {
    const auto it = counts_.find(what);
    return it == counts_.end() ? 0 : it->second;
  }

 private:
  using Make = std::function<coordinator::Event(coordinator::CallId,
                                                const std::string& request_id)>;

  // Calls until there is an answer other than UNAVAILABLE, under one request
  // id. `tries` < 0: for ever.
  void Do(const std::string& what, int tries, Make make, Done done);
  void Try(const std::string& what, int tries, const std::string& request_id,
           Make make, Done done);
  coordinator::OperationOptions RandomOptions(const std::string& request_id);

  void DeclareNext(size_t index);
  void ParameterLane();
  void SampleLane();
  void NextParameter();
  void NextSample();
  void Train(std::function<void(bool)> done);
  void Load(const std::string& directory, int tries, Done done);
  void Sync(const std::vector<std::string>& destinations, bool plan_only,
            int tries, Done done);
  void Verify(int tries, Done done);
  void Redistribute(int tries, Done done);
  void ClearSome(int tries, Done done);
  std::vector<std::string> LiveSamples() const;

  // Final round, step by step; each must succeed within a few attempts.
  void Must(const std::string& what, std::function<void(Done)> attempt,
            std::function<void()> next, int attempts = 12);
  void FinalContent();
  void FinalSync();
  void FinalLook();
  void FinalLocate();
  void LocateAll(const std::vector<std::string>& ids);
  void FinalClear();
  void FinalRemove(size_t index);
  void CheckLocations(const coordinator::LocateReply& reply);
  void CheckAllCurrent();

  SimCoordinator& coordinator_;
  const Setup setup_;
  bool quitting_ = false;
  int64_t step_ = 0;
  int64_t next_request_ = 1;
  int64_t open_ = 0;   // calls without an answer
  int64_t lanes_ = 0;  // lanes in the middle of something
  std::map<std::string, int64_t> counts_;
  std::function<void()> finished_;
};

}  // namespace sluice::sim

#endif  // SLUICE_TESTS_SIM_DRIVER_H_
