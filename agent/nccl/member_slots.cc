#include "agent/nccl/member_slots.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "agent/collective/call_header.h"
#include "common/dtype.h"
#include "common/status_macros.h"

namespace sluice::agent {
namespace {

// What is given, behind its size: cards of those who join, headers of calls.
constexpr int64_t kLeastSlotBytes = 1024;

int64_t SlotBytes(int members) {
  const int64_t wanted = int64_t{sizeof(uint64_t)} + CallHeaderBytes(members);
  return (std::max(kLeastSlotBytes, wanted) + 63) / 64 * 64;
}

}  // namespace

absl::StatusOr<MemberSlots> MemberSlots::Create(
    Device& host, const CollectiveMembers& members) {
  const int count = static_cast<int>(members.peers.size());
  SLUICE_ASSIGN_OR_RETURN(
      std::shared_ptr<MappedMemory> memory,
      host.Allocate((count + 1) * SlotBytes(count),
                    absl::StrCat("control of ", members.name)));
  return MemberSlots(count, std::move(memory));
}

std::byte* MemberSlots::Slot(int index) const {
  return memory_->data() + index * SlotBytes(members_);
}

absl::Status MemberSlots::Write(const std::string& own) const {
  const uint64_t bytes = own.size();
  const int64_t most = SlotBytes(members_) - int64_t{sizeof bytes};
  if (bytes > static_cast<uint64_t>(most)) {
    return absl::InvalidArgumentError(
        absl::StrCat("what members tell each other: expected at most ", most,
                     " bytes, found ", bytes));
  }
  std::memcpy(Slot(0), &bytes, sizeof bytes);
  std::memcpy(Slot(0) + sizeof bytes, own.data(), own.size());
  return absl::OkStatus();
}

CollectiveCall MemberSlots::Call() const {
  const int64_t slot_bytes = SlotBytes(members_);
  CollectiveCall call;
  call.kind = CollectiveKind::kAllGather;
  call.dtype = DType::kU8;
  call.description = "members of a group of GPUs meet";
  call.inputs = {{memory_, 0, slot_bytes}};
  for (int m = 0; m < members_; ++m) {
    call.outputs.push_back({memory_, (m + 1) * slot_bytes, slot_bytes});
  }
  return call;
}

absl::StatusOr<std::vector<std::string>> MemberSlots::Read() const {
  const int64_t slot_bytes = SlotBytes(members_);
  std::vector<std::string> all;
  for (int m = 0; m < members_; ++m) {
    uint64_t bytes = 0;
    std::memcpy(&bytes, Slot(m + 1), sizeof bytes);
    if (bytes > static_cast<uint64_t>(slot_bytes) - sizeof bytes) {
      return absl::InternalError(absl::StrCat("member ", m, " gave ", bytes,
                                              " bytes, more than ", slot_bytes,
                                              " at most"));
    }
    all.emplace_back(reinterpret_cast<const char*>(Slot(m + 1)) + sizeof bytes,
                     bytes);
  }
  return all;
}

}  // namespace sluice::agent
