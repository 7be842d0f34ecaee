#include "agent/collective/group_board.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <new>
#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/device/memory_file.h"
#include "agent/device/shared_bell.h"
#include "common/status_macros.h"

namespace sluice::agent {
namespace {

constexpr uint64_t kMagic = 0x33707247'6f426c53ull;  // "SlBoGrp3"
constexpr uint32_t kRunning = 0;
constexpr uint32_t kWriting = 1;
constexpr uint32_t kFailed = 2;

}  // namespace

// Behind it: one relay word a member, the header's block, inputs' places,
// outputs' places.
struct GroupBoard::Layout {
  uint64_t magic;
  uint64_t group;
  uint64_t life;
  int32_t member;
  int32_t members;
  alignas(64) SharedBell bell;
  alignas(64) std::atomic<uint64_t> shown;
  std::atomic<uint64_t> finished;
  std::atomic<uint64_t> completed;
  std::atomic<uint64_t> moved;
  std::atomic<uint64_t> stalls;
  std::atomic<uint32_t> reading;
  std::atomic<uint32_t> state;
  int32_t code;
  uint32_t message_bytes;
  char message[1024];
  std::atomic<uint32_t> generations[kMemorySlots];
  std::atomic<uint64_t> relayed[1];
};

namespace {

constexpr int64_t RoundUp(int64_t bytes) { return (bytes + 63) / 64 * 64; }

}  // namespace

GroupBoard::GroupBoard(std::shared_ptr<MappedMemory> memory, int members)
    : memory_(std::move(memory)),
      layout_(reinterpret_cast<Layout*>(memory_->data())),
      members_(members) {
  // What lies in shared memory must work without a lock of this process.
  static_assert(std::atomic<uint64_t>::is_always_lock_free);
}

absl::StatusOr<std::unique_ptr<GroupBoard>> GroupBoard::Create(uint64_t group,
                                                               int member,
                                                               int members,
                                                               uint64_t life) {
  const int64_t bytes =
      RoundUp(sizeof(Layout) + members * int64_t{sizeof(uint64_t)}) +
      RoundUp(CallHeaderBytes(members)) +
      2 * RoundUp(members * int64_t{sizeof(BoardPlace)});
  SLUICE_ASSIGN_OR_RETURN(UniqueFd file, CreateMemoryFile(bytes, "group"));
  SLUICE_ASSIGN_OR_RETURN(
      std::shared_ptr<MappedMemory> memory,
      MapMemoryFile(std::move(file), bytes, Access::kReadWrite));
  // The rest is zero as the pages are.
  auto* layout = new (memory->data()) Layout{};
  layout->group = group;
  layout->life = life;
  layout->member = member;
  layout->members = members;
  layout->magic = kMagic;
  return std::unique_ptr<GroupBoard>(
      new GroupBoard(std::move(memory), members));
}

absl::StatusOr<std::unique_ptr<GroupBoard>> GroupBoard::Open(
    std::shared_ptr<MappedMemory> memory, uint64_t group, int member,
    int members) {
  const auto* layout = reinterpret_cast<const Layout*>(memory->data());
  if (memory->size() < int64_t{sizeof(Layout)} || layout->magic != kMagic ||
      layout->group != group || layout->member != member ||
      layout->members != members) {
    return absl::InvalidArgumentError(
        absl::StrCat("expected the board of member ", member, " of ", members,
                     ", found something else"));
  }
  return std::unique_ptr<GroupBoard>(
      new GroupBoard(std::move(memory), members));
}

uint64_t GroupBoard::life() const { return layout_->life; }

void* GroupBoard::header_block() const {
  return memory_->data() +
         RoundUp(sizeof(Layout) + members_ * int64_t{sizeof(uint64_t)});
}

BoardPlace* GroupBoard::input_places() const {
  return reinterpret_cast<BoardPlace*>(static_cast<std::byte*>(header_block()) +
                                       RoundUp(CallHeaderBytes(members_)));
}

BoardPlace* GroupBoard::output_places() const {
  return reinterpret_cast<BoardPlace*>(
      reinterpret_cast<std::byte*>(input_places()) +
      RoundUp(members_ * int64_t{sizeof(BoardPlace)}));
}

void GroupBoard::ShowCall(uint64_t ordinal) {
  for (int i = 0; i < members_; ++i) {
    layout_->relayed[i].store(0, std::memory_order_relaxed);
  }
  layout_->shown.store(ordinal, std::memory_order_release);
}

uint64_t GroupBoard::shown_call() const {
  return layout_->shown.load(std::memory_order_acquire);
}

void GroupBoard::SetRelayed(int output, int64_t bytes) {
  layout_->relayed[output].store(static_cast<uint64_t>(bytes),
                                 std::memory_order_release);
}

int64_t GroupBoard::relayed(int output) const {
  return static_cast<int64_t>(
      layout_->relayed[output].load(std::memory_order_acquire));
}

void GroupBoard::SetFinished(uint64_t ordinal) {
  layout_->finished.store(ordinal, std::memory_order_release);
}

uint64_t GroupBoard::finished() const {
  return layout_->finished.load(std::memory_order_acquire);
}

void GroupBoard::SetCompleted(uint64_t ordinal) {
  layout_->completed.store(ordinal, std::memory_order_release);
}

uint64_t GroupBoard::completed() const {
  return layout_->completed.load(std::memory_order_acquire);
}

// Sequentially consistent with state: either a reader sees that the owner of
// what it is about to read has ended, or that owner sees the reader.
void GroupBoard::SetReading(bool reading) {
  layout_->reading.store(reading ? 1 : 0, std::memory_order_seq_cst);
}

bool GroupBoard::reading() const {
  return layout_->reading.load(std::memory_order_seq_cst) != 0;
}

void GroupBoard::AddMoved(int64_t bytes) {
  layout_->moved.fetch_add(static_cast<uint64_t>(bytes),
                           std::memory_order_relaxed);
}

uint64_t GroupBoard::moved() const {
  return layout_->moved.load(std::memory_order_relaxed);
}

void GroupBoard::AddStall() {
  layout_->stalls.fetch_add(1, std::memory_order_relaxed);
}

uint64_t GroupBoard::stalls() const {
  return layout_->stalls.load(std::memory_order_relaxed);
}

void GroupBoard::SetGeneration(int slot, uint32_t generation) {
  layout_->generations[slot].store(generation, std::memory_order_release);
}

uint32_t GroupBoard::generation(int slot) const {
  return layout_->generations[slot].load(std::memory_order_acquire);
}

void GroupBoard::Fail(const absl::Status& status) {
  uint32_t expected = kRunning;
  if (!layout_->state.compare_exchange_strong(expected, kWriting)) return;
  layout_->code = static_cast<int32_t>(status.code());
  layout_->message_bytes = static_cast<uint32_t>(
      std::min(status.message().size(), sizeof(layout_->message)));
  std::memcpy(layout_->message, status.message().data(),
              layout_->message_bytes);
  layout_->state.store(kFailed, std::memory_order_seq_cst);
}

absl::Status GroupBoard::failure() const {
  if (layout_->state.load(std::memory_order_seq_cst) != kFailed) {
    return absl::OkStatus();
  }
  const size_t bytes =
      std::min<size_t>(layout_->message_bytes, sizeof(layout_->message));
  const absl::Status status(static_cast<absl::StatusCode>(layout_->code),
                            absl::string_view(layout_->message, bytes));
  return status.ok() ? absl::InternalError("a member ended without a reason")
                     : status;
}

uint32_t GroupBoard::bell() const { return layout_->bell.rung(); }

void GroupBoard::Ring() { layout_->bell.Ring(); }

void GroupBoard::WaitForBell(uint32_t seen, absl::Duration timeout) const {
  layout_->bell.Wait(seen, timeout);
}

}  // namespace sluice::agent
