#include "agent/nccl/gpu_lanes.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/collective/collective.h"
#include "common/status_macros.h"

namespace sluice::agent {
namespace {

// Communicators kept for operations to come: more than a coordinator keeps in
// mind (coordinator/core/message_groups.cc), so that what is let go of here is
// nothing that it names again. Few: each takes memory of the GPU
// (docs/nccl.md).
constexpr size_t kMaxKept = 4;

// An operation's end of a lane.
class LaneEnd final : public MessageLane {
 public:
  explicit LaneEnd(std::shared_ptr<GpuLane> lane) : lane_(std::move(lane)) {}
  ~LaneEnd() override { lane_->Leave(); }

  bool Has(Rank peer) const override { return lane_->Has(peer); }
  void Begin(const absl::flat_hash_map<Rank, Counts>& counts) override {
    lane_->Begin(counts);
  }
  void Send(Rank peer, int64_t index, std::byte* data, int64_t bytes,
            Done done) override {
    lane_->Send(peer, index, data, bytes, std::move(done));
  }
  void Receive(Rank peer, int64_t index, std::byte* data, int64_t bytes,
               Done done) override {
    lane_->Receive(peer, index, data, bytes, std::move(done));
  }
  void Cancel(const absl::Status& reason, Done ended) override {
    lane_->Cancel(reason, std::move(ended));
  }
  bool Waiting() const override { return lane_->Waiting(); }

 private:
  const std::shared_ptr<GpuLane> lane_;
};

}  // namespace

GpuLanes::~GpuLanes() {
  MutexLock lock(mutex_);
  lanes_.clear();
}

void GpuLanes::Serve(Communicators& communicators) {
  MutexLock lock(mutex_);
  communicators_ = &communicators;
}

void GpuLanes::Refuse(const absl::Status& reason) {
  MutexLock lock(mutex_);
  communicators_ = nullptr;
  refusal_ = reason;
}

void GpuLanes::Shutdown() {
  const absl::Status stops = absl::CancelledError("the agent stops");
  Refuse(stops);
  CancelAll(stops);
  Lanes lanes;
  {
    MutexLock lock(mutex_);
    lanes = lanes_;
  }
  for (const auto& [operation, lane] : lanes) lane->AwaitOver();
}

void GpuLanes::SetPeers(const std::vector<Peer>& peers) {
  MutexLock lock(mutex_);
  peers_.clear();
  for (const Peer& peer : peers) peers_[peer.rank] = peer;
}

absl::StatusOr<CollectiveMembers> GpuLanes::MembersOf(const MessageGroup& group,
                                                      Rank self) const {
  CollectiveMembers members;
  members.name = group.name;
  members.self = -1;
  for (const MessageGroup::Member& member : group.members) {
    const auto peer = peers_.find(member.rank);
    if (peer == peers_.end() ||
        peer->second.incarnation != member.incarnation) {
      return absl::UnavailableError(
          absl::StrCat("group ", group.name, ": rank ", member.rank.value(),
                       " with incarnation ", member.incarnation.value(),
                       " is not known here"));
    }
    if (member.rank == self) {
      members.self = static_cast<int>(members.peers.size());
    }
    members.peers.push_back(peer->second);
  }
  return members;
}

absl::StatusOr<std::unique_ptr<MessageLane>> GpuLanes::Open(
    OperationId operation, const MessageGroup& group, Rank self,
    absl::Duration patience) {
  std::vector<std::shared_ptr<GpuLane>> ended;
  MutexLock lock(mutex_);
  if (communicators_ == nullptr) {
    return absl::FailedPreconditionError(absl::StrCat(
        "group ", group.name, " needs NCCL: ", refusal_.message()));
  }
  ended = ReapLocked();
  if (lanes_.contains(operation)) {
    return absl::AlreadyExistsError(
        absl::StrCat("operation ", operation.value(), " has a lane already"));
  }
  SLUICE_ASSIGN_OR_RETURN(const CollectiveMembers members,
                          MembersOf(group, self));
  SLUICE_RETURN_IF_ERROR(communicators_->Declare(members));
  SLUICE_ASSIGN_OR_RETURN(auto communicator,
                          communicators_->Find(members.Id()));
  auto lane = std::make_shared<GpuLane>(
      GpuLane::Deps{.operation = operation,
                    .communicators = *communicators_,
                    .communicator = std::move(communicator),
                    .turns = turns_,
                    .clock = clock_,
                    .patience = patience});
  UseLocked(members.Id());
  auto end = std::make_unique<LaneEnd>(lane);
  lanes_[operation] = std::move(lane);
  return end;
}

std::vector<std::shared_ptr<GpuLane>> GpuLanes::ReapLocked() {
  std::vector<std::shared_ptr<GpuLane>> ended;
  absl::erase_if(lanes_, [&](const auto& entry) {
    if (!entry.second->left()) return false;
    ended.push_back(entry.second);
    return true;
  });
  return ended;
}

void GpuLanes::UseLocked(uint64_t group) {
  used_.erase(std::remove(used_.begin(), used_.end(), group), used_.end());
  used_.push_front(group);
  size_t idle = 0;
  for (size_t i = 0; i < used_.size();) {
    const uint64_t id = used_[i];
    const bool busy =
        std::any_of(lanes_.begin(), lanes_.end(), [id](const auto& entry) {
          return !entry.second->over() && entry.second->group_id() == id;
        });
    if (busy || id == group || ++idle <= kMaxKept) {
      ++i;
      continue;
    }
    communicators_->Drop(id);
    used_.erase(used_.begin() + static_cast<int64_t>(i));
  }
}

void GpuLanes::Raise(Epoch epoch) {
  {
    MutexLock lock(mutex_);
    if (epoch <= epoch_) return;
    epoch_ = epoch;
  }
  CancelAll(absl::AbortedError(
      absl::StrCat("a coordinator of epoch ", epoch.value(), " took over")));
}

void GpuLanes::CancelAll(const absl::Status& reason) {
  MutexLock lock(mutex_);
  for (const auto& [operation, lane] : lanes_) {
    lane->Cancel(reason, [](const absl::Status&) {});
  }
}

}  // namespace sluice::agent
