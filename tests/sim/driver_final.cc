// Part of Driver: the last round, without faults, and what must be true then.

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "tests/sim/driver.h"

namespace sluice::sim {
namespace {

constexpr absl::Duration kBetweenAttempts = absl::Seconds(3);

}  // namespace

void Driver::Must(const std::string& what, std::function<void(Done)> attempt,
                  std::function<void()> next, int attempts) {
  attempt([=, this](absl::Status status, const coordinator::ReplyBody&) {
    if (status.ok()) {
      next();
    } else if (attempts == 0) {
      world_.history.Violation("without faults, ", what,
                               " fails: ", status.ToString());
    } else {
      After(kBetweenAttempts,
            [=, this] { Must(what, attempt, next, attempts - 1); });
    }
  });
}

void Driver::FinalRound(std::function<void()> done) {
  finished_ = std::move(done);
  FinalContent();
}

void Driver::FinalContent() {
  if (setup_.placements[0].storage != Storage::kLent) {
    Must(
        "a load", [this](Done done) { Load("/final", -1, std::move(done)); },
        [this] { FinalSync(); });
    return;
  }
  Must(
      "a training step",
      [this](Done done) {
        Train([done = std::move(done)](bool ok) {
          done(ok ? absl::OkStatus()
                  : absl::UnknownError("a trainer could not write"),
               coordinator::StreamEnd{});
        });
      },
      [this] { FinalSync(); });
}

void Driver::FinalSync() {
  std::vector<std::string> all;
  for (size_t i = 1; i < setup_.placements.size(); ++i) {
    all.push_back(setup_.placements[i].name);
  }
  Must(
      "a sync", [=, this](Done done) { Sync(all, false, -1, std::move(done)); },
      [this] {
        Must(
            "a verification",
            [this](Done done) { Verify(-1, std::move(done)); },
            [this] { FinalLook(); });
      });
}

// All agents are on one version, with the right bytes.
void Driver::CheckAllCurrent() {
  std::set<uint64_t> versions;
  for (size_t i = 1; i < setup_.placements.size(); ++i) {
    for (SimAgent* agent : setup_.placements[i].agents) {
      Version newest;
      for (const CopyInventory& copy :
           agent->CopiesOf(setup_.placements[i].name)) {
        if (copy.state == CopyState::kPublished) {
          newest = std::max(newest, copy.version);
        }
      }
      versions.insert(newest.value());
    }
  }
  if (versions.size() != 1 || *versions.begin() == 0) {
    world_.history.Violation("after the last sync the agents are on versions ",
                             absl::StrJoin(versions, ", "));
  }
}

void Driver::FinalLook() {
  CheckAllCurrent();
  for (SimAgent* agent : setup_.agents) {
    std::vector<std::string> names;
    for (const DeclaredPlacement& placement : setup_.placements) {
      names.push_back(placement.name);
    }
    agent->CheckCopies(names);
  }
  FinalLocate();
}

void Driver::FinalLocate() {
  const auto cleared = [this](const std::string& id) {
    const auto it = setup_.book->put.find(id);
    return it == setup_.book->put.end() || it->second.cleared;
  };
  // What its producer's agent has held since it was put cannot be lost.
  auto must_be_there = std::make_shared<std::vector<std::string>>();
  for (const auto& [id, sample] : setup_.book->put) {
    if (!cleared(id) && sample.agent->life() == sample.agent_life) {
      must_be_there->push_back(id);
    }
  }
  auto all = std::make_shared<std::vector<std::string>>();
  Must(
      "listing the samples",
      [=, this](Done done) {
        Do(
            "list samples", -1,
            [](coordinator::CallId call, const std::string&) {
              coordinator::ListSamplesRequest request;
              request.call = call;
              request.page_size = 10000;
              return request;
            },
            [=](absl::Status status, const coordinator::ReplyBody& body) {
              if (status.ok()) {
                *all = std::get<coordinator::ListSamplesReply>(body).sample_ids;
              }
              done(std::move(status), body);
            });
      },
      [=, this] {
        for (const std::string& id : *must_be_there) {
          if (std::find(all->begin(), all->end(), id) == all->end()) {
            world_.history.Violation("sample ", id,
                                     " was put and is not located");
          }
        }
        LocateAll(*all);
      });
}

void Driver::LocateAll(const std::vector<std::string>& ids) {
  if (ids.empty()) {
    FinalRemove(0);
    return;
  }
  Do(
      "locate", -1,
      [ids](coordinator::CallId call, const std::string&) {
        return coordinator::LocateRequest{call, ids, {}};
      },
      [this](absl::Status status, const coordinator::ReplyBody& body) {
        if (status.ok()) {
          CheckLocations(std::get<coordinator::LocateReply>(body));
        } else {
          world_.history.Violation("locate: ", status.ToString());
        }
        FinalClear();
      });
}

void Driver::CheckLocations(const coordinator::LocateReply& reply) {
  for (const coordinator::SampleLocation& location : reply.locations) {
    const SampleEntry& entry = location.entry;
    for (const std::string& holder : location.holders) {
      const auto agent =
          std::find_if(setup_.agents.begin(), setup_.agents.end(),
                       [&](const SimAgent* a) { return a->name() == holder; });
      const absl::Status status = (*agent)->CheckSample(entry);
      if (status.ok()) continue;
      world_.history.Violation("the catalogue says that ", holder,
                               " holds sample ", entry.sample_id, ", key ",
                               entry.key, "; it does not: ", status.ToString());
    }
  }
}

void Driver::FinalClear() {
  Do(
      "list samples", -1,
      [](coordinator::CallId call, const std::string&) {
        coordinator::ListSamplesRequest request;
        request.call = call;
        request.page_size = 10000;
        return request;
      },
      [this](absl::Status status, const coordinator::ReplyBody& body) {
        const auto ids =
            status.ok()
                ? std::get<coordinator::ListSamplesReply>(body).sample_ids
                : std::vector<std::string>();
        if (ids.empty()) {
          FinalRemove(0);
          return;
        }
        Do(
            "clear", -1,
            [ids](coordinator::CallId call, const std::string& request_id) {
              coordinator::ClearRequest request;
              request.call = call;
              request.request_id = request_id;
              request.fingerprint = FingerprintOf(request_id);
              request.sample_ids = ids;
              return request;
            },
            [this](absl::Status cleared, const coordinator::ReplyBody&) {
              if (!cleared.ok()) {
                world_.history.Violation("clear: ", cleared.ToString());
              }
              FinalRemove(0);
            });
      });
}

void Driver::FinalRemove(size_t index) {
  if (index == setup_.placements.size()) {
    finished_();
    return;
  }
  const std::string name = setup_.placements[index].name;
  Must(
      absl::StrCat("removing ", name),
      [this, name](Done done) {
        Do(
            absl::StrCat("remove ", name), -1,
            [name](coordinator::CallId call, const std::string& id) {
              return coordinator::RemovePlacementRequest{
                  call, id, FingerprintOf(id), kModel, name};
            },
            std::move(done));
      },
      [this, index] { FinalRemove(index + 1); });
}

}  // namespace sluice::sim
