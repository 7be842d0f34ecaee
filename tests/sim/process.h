#ifndef SLUICE_TESTS_SIM_PROCESS_H_
#define SLUICE_TESTS_SIM_PROCESS_H_

// A process that can be killed, stopped (SIGSTOP) and started again. What it
// was about to do dies with it; what reaches it while it is stopped waits.

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "tests/sim/world.h"

namespace sluice::sim {

class Process {
 public:
  Process(World& world, std::string name)
      : world_(world), name_(std::move(name)) {}
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  const std::string& name() const { return name_; }
  bool alive() const { return alive_; }
  bool stopped() const { return stopped_; }
  bool running() const { return alive_ && !stopped_; }
  // One number per life; 0 before the first.
  uint64_t life() const { return life_; }

  void BeginLife() {
    alive_ = true;
    stopped_ = false;
    ++life_;
    held_.clear();
  }
  void EndLife() {
    alive_ = stopped_ = false;
    held_.clear();
  }
  void Stop() { stopped_ = alive_; }
  void Continue() {
    stopped_ = false;
    for (auto& task : std::exchange(held_, {})) {
      After(absl::ZeroDuration(), std::move(task));
    }
  }

  // Runs the task in this life, or never.
  void After(absl::Duration delay, std::function<void()> task) {
    world_.scheduler.After(
        delay, [this, life = life_, task = std::move(task)]() mutable {
          if (!alive_ || life != life_) return;
          if (stopped_) {
            held_.push_back(std::move(task));
          } else {
            task();
          }
        });
  }

 protected:
  World& world_;

 private:
  const std::string name_;
  bool alive_ = false;
  bool stopped_ = false;
  uint64_t life_ = 0;
  std::vector<std::function<void()>> held_;
};

}  // namespace sluice::sim

#endif  // SLUICE_TESTS_SIM_PROCESS_H_
