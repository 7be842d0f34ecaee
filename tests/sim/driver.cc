#include "tests/sim/driver.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"

namespace sluice::sim {

uint64_t FingerprintOf(const std::string& request_id) {
  return std::hash<std::string>()(request_id);
}

Driver::Driver(World& world, SimCoordinator& coordinator, Setup setup)
    : Process(world, "driver"),
      coordinator_(coordinator),
      setup_(std::move(setup)) {}

void Driver::Start() {
  BeginLife();
  Do(
      "register model", -1,
      [this](coordinator::CallId call, const std::string& id) {
        return coordinator::RegisterModelRequest{call, id, FingerprintOf(id),
                                                 *world_.model};
      },
      [this](absl::Status status, const coordinator::ReplyBody&) {
        if (!status.ok()) {
          world_.history.Violation("register model: ", status.ToString());
          return;
        }
        DeclareNext(0);
      });
}

// --- calls
// ---------------------------------------------------------------------

void Driver::Do(const std::string& what, int tries, Make make, Done done) {
  const std::string request_id = absl::StrCat("r", next_request_++);
  ++open_;
  Try(what, tries, request_id, std::move(make), std::move(done));
}

void Driver::Try(const std::string& what, int tries,
                 const std::string& request_id, Make make, Done done) {
  auto call = std::make_shared<uint64_t>(0);
  auto answered = std::make_shared<bool>(false);
  *call = coordinator_.Call(
      [make, request_id](coordinator::CallId id) {
        return make(id, request_id);
      },
      [=, this](absl::Status status, const coordinator::ReplyBody& body) {
        // Whoever went away hears nothing more.
        if (std::exchange(*answered, true)) return;
        world_.history.Note(what, " (", request_id, "): ", status.ToString());
        if (absl::IsUnavailable(status) && tries != 0) {
          After(world_.random.Between(absl::Milliseconds(20),
                                      absl::Milliseconds(700)),
                [=, this] { Try(what, tries - 1, request_id, make, done); });
          return;
        }
        ++counts_[absl::StrCat(what, status.ok() ? " ok" : " failed")];
        --open_;
        done(status, body);
      });
  if (tries >= 0 && !quitting_ && world_.random.OneIn(15)) {
    After(world_.random.Between(absl::ZeroDuration(), absl::Milliseconds(200)),
          [=, this] {
            if (*answered) return;
            *answered = true;
            world_.history.Note(what, " (", request_id, "): caller goes away");
            coordinator_.Abandon(*call);
            --open_;
            done(absl::CancelledError("the caller went away"),
                 coordinator::StreamEnd{});
          });
  }
}

coordinator::OperationOptions Driver::RandomOptions(
    const std::string& request_id) {
  coordinator::OperationOptions options;
  options.request_id = request_id;
  options.fingerprint = FingerprintOf(request_id);
  options.on_caller_loss = world_.random.OneIn(2)
                               ? coordinator::CallerLossPolicy::kCancel
                               : coordinator::CallerLossPolicy::kDetach;
  options.deadline = world_.random.Between(absl::Seconds(3), absl::Seconds(20));
  options.wait_deadline =
      world_.random.Between(absl::Milliseconds(100), absl::Seconds(4));
  options.progress_timeout =
      world_.random.Between(absl::Milliseconds(800), absl::Seconds(4));
  return options;
}

// --- declarations
// ----------------------------------------------------------------

void Driver::DeclareNext(size_t index) {
  if (index == setup_.placements.size()) {
    ParameterLane();
    SampleLane();
    return;
  }
  const DeclaredPlacement& placement = setup_.placements[index];
  Do(
      absl::StrCat("register ", placement.name), -1,
      [&placement](coordinator::CallId call, const std::string& id) {
        coordinator::RegisterPlacementRequest request;
        request.call = call;
        request.request_id = id;
        request.fingerprint = FingerprintOf(id);
        request.model = kModel;
        request.placement = placement.name;
        request.axes = placement.axes;
        for (const SimAgent* agent : placement.agents) {
          request.agents.push_back(agent->name());
        }
        request.layout = placement.layout;
        request.storage = placement.storage;
        return request;
      },
      [this, index](absl::Status status, const coordinator::ReplyBody&) {
        // Its agents may not be there yet, or be gone at the moment.
        After(absl::Milliseconds(status.ok() ? 1 : 500),
              [this, index, ok = status.ok()] {
                DeclareNext(ok ? index + 1 : index);
              });
      });
}

// --- lanes
// -------------------------------------------------------------------------

void Driver::ParameterLane() {
  After(world_.random.Between(absl::Milliseconds(1), absl::Milliseconds(600)),
        [this] {
          if (quitting_) return;
          ++lanes_;
          NextParameter();
        });
}

void Driver::NextParameter() {
  const Done next = [this](absl::Status, const coordinator::ReplyBody&) {
    --lanes_;
    ParameterLane();
  };
  const bool lent = setup_.placements[0].storage == Storage::kLent;
  const int64_t what = world_.random.Below(10);
  if (what < 3 && lent) {
    Train([next](bool) { next(absl::OkStatus(), coordinator::StreamEnd{}); });
  } else if (what < 4 || (what < 6 && !lent)) {
    Load(world_.random.Pick<std::string>({"/ckpt-a", "/ckpt-b", "/truncated"}),
         3, next);
  } else if (what < 9) {
    std::vector<std::string> destinations;
    for (size_t i = 1; i < setup_.placements.size(); ++i) {
      if (i == 1 || world_.random.OneIn(2)) {
        destinations.push_back(setup_.placements[i].name);
      }
    }
    // Sometimes two at once that want the same.
    if (world_.random.OneIn(6)) {
      ++lanes_;
      Sync(destinations, false, 3,
           [this](absl::Status, const coordinator::ReplyBody&) { --lanes_; });
    }
    Sync(destinations, world_.random.OneIn(12), 3, next);
  } else {
    Verify(3, next);
  }
}

void Driver::SampleLane() {
  After(world_.random.Between(absl::Milliseconds(1), absl::Seconds(2)), [this] {
    if (quitting_) return;
    ++lanes_;
    NextSample();
  });
}

void Driver::NextSample() {
  const Done next = [this](absl::Status, const coordinator::ReplyBody&) {
    --lanes_;
    SampleLane();
  };
  if (LiveSamples().empty()) {
    next(absl::OkStatus(), coordinator::StreamEnd{});
  } else if (world_.random.OneIn(4)) {
    ClearSome(3, next);
  } else {
    Redistribute(3, next);
  }
}

// --- what it asks for
// -----------------------------------------------------------------

void Driver::Train(std::function<void(bool)> done) {
  const int64_t step = ++step_;
  auto left = std::make_shared<size_t>(setup_.trainers.size());
  auto ok = std::make_shared<bool>(true);
  for (Trainer* trainer : setup_.trainers) {
    After(world_.random.Between(absl::ZeroDuration(), absl::Milliseconds(20)),
          [=, this] {
            trainer->Write(step, [=, this](absl::Status status) {
              if (!status.ok()) {
                world_.history.Note(trainer->name(), " step ", step, ": ",
                                    status.ToString());
              }
              *ok = *ok && status.ok();
              if (--*left > 0) return;
              ++counts_[*ok ? "train ok" : "train failed"];
              done(*ok);
            });
          });
  }
}

void Driver::Load(const std::string& directory, int tries, Done done) {
  const auto options = RandomOptions("");
  Do(
      absl::StrCat("load ", directory), tries,
      [=, this](coordinator::CallId call, const std::string& id) {
        coordinator::LoadRequest request;
        request.call = call;
        request.options = options;
        request.options.request_id = id;
        request.options.fingerprint = FingerprintOf(id);
        request.model = kModel;
        request.placement = setup_.placements[0].name;
        request.directory = directory;
        return request;
      },
      std::move(done));
}

void Driver::Sync(const std::vector<std::string>& destinations, bool plan_only,
                  int tries, Done done) {
  const auto options = RandomOptions("");
  Do(
      plan_only ? "plan sync" : "sync", tries,
      [=, this](coordinator::CallId call, const std::string& id) {
        coordinator::SyncRequest request;
        request.call = call;
        request.options = options;
        request.options.request_id = id;
        request.options.fingerprint = FingerprintOf(id);
        request.model = kModel;
        request.source = setup_.placements[0].name;
        request.destinations = destinations;
        request.plan_only = plan_only;
        return request;
      },
      std::move(done));
}

void Driver::Verify(int tries, Done done) {
  const auto options = RandomOptions("");
  Do(
      "verify", tries,
      [=, this](coordinator::CallId call, const std::string& id) {
        coordinator::VerifyRequest request;
        request.call = call;
        request.options = options;
        request.options.request_id = id;
        request.options.fingerprint = FingerprintOf(id);
        request.model = kModel;
        request.placement = setup_.placements[1].name;
        request.against = setup_.placements[0].name;
        return request;
      },
      [this, done = std::move(done)](absl::Status status,
                                     const coordinator::ReplyBody& body) {
        if (absl::IsDataLoss(status)) {
          world_.history.Violation("verify: ", status.ToString());
        }
        done(std::move(status), body);
      });
}

std::vector<std::string> Driver::LiveSamples() const {
  std::vector<std::string> live;
  for (const auto& [id, sample] : setup_.book->put) {
    if (!sample.cleared) live.push_back(id);
  }
  return live;
}

void Driver::Redistribute(int tries, Done done) {
  const auto options = RandomOptions("");
  const std::vector<std::string> live = LiveSamples();
  std::vector<coordinator::WantSpec> wants(
      static_cast<size_t>(1 + world_.random.Below(2)));
  for (coordinator::WantSpec& want : wants) {
    want.keys = world_.random.OneIn(2)
                    ? std::vector<std::string>{"prompt"}
                    : std::vector<std::string>{"prompt", "reward"};
    std::set<std::string> ids, agents;
    for (int64_t i = 1 + world_.random.Below(4); i > 0; --i) {
      ids.insert(world_.random.Pick(live));
      agents.insert(world_.random.Pick(setup_.agents)->name());
    }
    want.sample_ids.assign(ids.begin(), ids.end());
    want.agents.assign(agents.begin(), agents.end());
  }
  const auto pattern =
      static_cast<coordinator::Pattern>(1 + world_.random.Below(3));
  Do(
      "redistribute", tries,
      [=](coordinator::CallId call, const std::string& id) {
        coordinator::RedistributeRequest request;
        request.call = call;
        request.options = options;
        request.options.request_id = id;
        request.options.fingerprint = FingerprintOf(id);
        request.wants = wants;
        request.pattern = pattern;
        return request;
      },
      std::move(done));
}

void Driver::ClearSome(int tries, Done done) {
  const std::string id = world_.random.Pick(LiveSamples());
  // From now on nobody relies on it.
  setup_.book->put[id].cleared = true;
  Do(
      "clear", tries,
      [id](coordinator::CallId call, const std::string& request_id) {
        coordinator::ClearRequest request;
        request.call = call;
        request.request_id = request_id;
        request.fingerprint = FingerprintOf(request_id);
        request.sample_ids = {id};
        return request;
      },
      std::move(done));
}

}  // namespace sluice::sim
