#include "agent/collective/node_side.h"

#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/device/memory_file.h"
#include "common/status_macros.h"

namespace sluice::agent {
namespace {

uint64_t RandomLife() {
  std::random_device device;
  return static_cast<uint64_t>(device()) << 32 | device();
}

size_t At(int index) { return static_cast<size_t>(index); }

}  // namespace

NodeSide::NodeSide(const CollectiveMembers& members, std::vector<int> near,
                   GroupDirectory& directory, std::unique_ptr<GroupBoard> own)
    : members_(members),
      group_(members.Id()),
      near_(std::move(near)),
      directory_(directory),
      own_(std::move(own)),
      boards_(members.peers.size()),
      asked_(members.peers.size(), false),
      mappings_(members.peers.size()) {}

absl::StatusOr<std::shared_ptr<NodeSide>> NodeSide::Create(
    const CollectiveMembers& members, std::vector<int> near,
    GroupDirectory& directory) {
  SLUICE_ASSIGN_OR_RETURN(
      auto own,
      GroupBoard::Create(members.Id(), members.self,
                         static_cast<int>(members.peers.size()), RandomLife()));
  return std::shared_ptr<NodeSide>(
      new NodeSide(members, std::move(near), directory, std::move(own)));
}

const Peer& NodeSide::peer(int member) const {
  return members_.peers[At(member)];
}

GroupBoard* NodeSide::board(int member) const {
  MutexLock lock(mutex_);
  return boards_[At(member)].get();
}

absl::Status NodeSide::Meet(int member, SharedDescriptor board) {
  SLUICE_RETURN_IF_ERROR(CheckMemoryFile(board.fd.get()).status());
  SLUICE_ASSIGN_OR_RETURN(
      auto memory,
      MapMemoryFile(std::move(board.fd), board.bytes, Access::kReadWrite));
  SLUICE_ASSIGN_OR_RETURN(
      auto opened, GroupBoard::Open(std::move(memory), group_, member,
                                    static_cast<int>(members_.peers.size())));
  MutexLock lock(mutex_);
  if (boards_[At(member)] == nullptr) {
    boards_[At(member)] = std::move(opened);
    return absl::OkStatus();
  }
  if (boards_[At(member)]->life() == opened->life()) return absl::OkStatus();
  return absl::NotFoundError("met another life of this group");
}

absl::StatusOr<SharedDescriptor> NodeSide::Join(int from, uint64_t life,
                                                SharedDescriptor board) {
  bool near = false;
  for (const int m : near_) near = near || m == from;
  if (!near) {
    return absl::InvalidArgumentError(
        absl::StrCat("member ", from, " is not one of this node"));
  }
  {
    MutexLock lock(mutex_);
    if (closed_) return absl::NotFoundError("the group is over");
    const GroupBoard* met = boards_[At(from)].get();
    if (met != nullptr && met->life() != life) {
      return absl::NotFoundError("met another life of this group");
    }
  }
  SLUICE_RETURN_IF_ERROR(Meet(from, std::move(board)));
  own_->Ring();
  const MappedMemory& memory = *own_->memory();
  SLUICE_ASSIGN_OR_RETURN(UniqueFd fd, Duplicate(memory.descriptor()));
  return SharedDescriptor{std::move(fd), memory.size()};
}

void NodeSide::Ask(bool all, absl::Duration timeout) {
  for (const int m : near_) {
    if (asked_[At(m)] || (!all && board(m) == nullptr)) continue;
    const MappedMemory& memory = *own_->memory();
    absl::StatusOr<UniqueFd> fd = Duplicate(memory.descriptor());
    if (!fd.ok()) return;
    absl::StatusOr<SharedDescriptor> reply =
        directory_.Join(peer(m), {group_, m}, members_.self, own_->life(),
                        {*std::move(fd), memory.size()}, timeout);
    if (!reply.ok()) continue;
    asked_[At(m)] = Meet(m, *std::move(reply)).ok();
  }
}

std::vector<int> NodeSide::NotMet() const {
  std::vector<int> out;
  for (const int m : near_) {
    if (!asked_[At(m)] || board(m) == nullptr) out.push_back(m);
  }
  return out;
}

bool NodeSide::Gone(int member) const { return directory_.Gone(peer(member)); }

void NodeSide::RingAll() const {
  for (const int m : near_) {
    if (GroupBoard* other = board(m)) other->Ring();
  }
}

int NodeSide::FreeSlot(uint64_t ordinal) {
  int best = -1;
  for (int i = 0; i < GroupBoard::kMemorySlots; ++i) {
    const Slot& slot = slots_[At(i)];
    if (slot.generation == 0 || slot.memory.expired()) return i;
    if (slot.last_call < ordinal &&
        (best < 0 || slot.last_call < slots_[At(best)].last_call)) {
      best = i;
    }
  }
  return best;
}

absl::StatusOr<BoardPlace> NodeSide::Show(const CollectiveRange& range,
                                          uint64_t ordinal) {
  if (range.elements == 0) return BoardPlace{};
  int at = -1;
  for (int i = 0; i < GroupBoard::kMemorySlots && at < 0; ++i) {
    // Owners compare: an address may be another memory's by now.
    if (slots_[At(i)].generation != 0 &&
        slots_[At(i)].memory.lock() == range.memory) {
      at = i;
    }
  }
  if (at < 0) {
    if (range.memory->descriptor() < 0) {
      return absl::InvalidArgumentError(
          "memory without a descriptor: members of the node cannot map it");
    }
    at = FreeSlot(ordinal);
    if (at < 0) {
      return absl::ResourceExhaustedError(
          absl::StrCat("a call with ranges in more than ",
                       GroupBoard::kMemorySlots, " memories"));
    }
    slots_[At(at)].memory = range.memory;
    slots_[At(at)].generation = next_generation_++;
    own_->SetGeneration(at, slots_[At(at)].generation);
  }
  slots_[At(at)].last_call = ordinal;
  return BoardPlace{at, slots_[At(at)].generation, range.offset_bytes};
}

absl::Status NodeSide::ShowSide(const std::vector<CollectiveRange>& ranges,
                                uint64_t ordinal, BoardPlace* places) {
  for (size_t i = 0; i < ranges.size(); ++i) {
    SLUICE_ASSIGN_OR_RETURN(places[i], Show(ranges[i], ordinal));
  }
  return absl::OkStatus();
}

absl::Status NodeSide::ShowRanges(const CollectiveCall& call,
                                  uint64_t ordinal) {
  MutexLock lock(mutex_);
  for (int i = 0; i < GroupBoard::kMemorySlots; ++i) {
    Slot& slot = slots_[At(i)];
    if (slot.generation == 0 || !slot.memory.expired()) continue;
    slot.generation = 0;
    own_->SetGeneration(i, 0);
  }
  SLUICE_RETURN_IF_ERROR(ShowSide(call.inputs, ordinal, own_->input_places()));
  return ShowSide(call.outputs, ordinal, own_->output_places());
}

absl::StatusOr<SharedDescriptor> NodeSide::OpenMemory(int slot,
                                                      uint32_t generation) {
  std::shared_ptr<MappedMemory> memory;
  {
    MutexLock lock(mutex_);
    if (slot >= 0 && slot < GroupBoard::kMemorySlots && generation != 0 &&
        slots_[At(slot)].generation == generation) {
      memory = slots_[At(slot)].memory.lock();
    }
  }
  if (memory == nullptr) {
    return absl::NotFoundError(
        absl::StrCat("memory ", slot, " is not shown any more"));
  }
  SLUICE_ASSIGN_OR_RETURN(UniqueFd fd, ReopenReadOnly(memory->descriptor()));
  return SharedDescriptor{std::move(fd), memory->size()};
}

absl::StatusOr<std::shared_ptr<MappedMemory>> NodeSide::Map(
    int member, const BoardPlace& place, absl::Duration timeout) {
  Mapping& mapping = mappings_[At(member)][place.slot];
  if (mapping.memory != nullptr && mapping.generation == place.generation) {
    return mapping.memory;
  }
  SLUICE_ASSIGN_OR_RETURN(
      SharedDescriptor found,
      directory_.OpenMemory(peer(member), {group_, member}, place.slot,
                            place.generation, timeout));
  SLUICE_RETURN_IF_ERROR(CheckMemoryFile(found.fd.get()).status());
  SLUICE_ASSIGN_OR_RETURN(
      auto memory,
      MapMemoryFile(std::move(found.fd), found.bytes, Access::kReadOnly));
  mapping = {place.generation, memory};
  return memory;
}

void NodeSide::DropStale() {
  for (const int m : near_) {
    const GroupBoard* other = board(m);
    if (other == nullptr) continue;
    absl::erase_if(mappings_[At(m)], [other](const auto& item) {
      return other->generation(item.first) != item.second.generation;
    });
  }
}

void NodeSide::Close() {
  MutexLock lock(mutex_);
  closed_ = true;
}

}  // namespace sluice::agent
