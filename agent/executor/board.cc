#include "agent/executor/board.h"

#include <atomic>
#include <new>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "agent/device/memory_file.h"
#include "agent/device/shared_bell.h"
#include "common/check.h"
#include "common/status_macros.h"

namespace sluice::agent {
namespace {

constexpr uint64_t kMagic = 0x31647261'6f426c53ull;  // "SlBoard1"
constexpr uint32_t kRunning = 0;
constexpr uint32_t kFailed = 1;

}  // namespace

struct Board::Header {
  uint64_t magic;
  uint64_t operation;
  uint32_t num_slots;
  SharedBell bell;
  std::atomic<uint32_t> state;
  std::atomic<int32_t> culprit;
};

struct Board::Slot {
  std::atomic<uint64_t> available;
  std::atomic<uint64_t> lane0, lane1;
  std::atomic<uint32_t> has_digest;
};

Board::Board(std::shared_ptr<MappedMemory> memory, uint32_t num_slots)
    : memory_(std::move(memory)),
      header_(reinterpret_cast<Header*>(memory_->data())),
      num_slots_(num_slots) {
  // What lies in shared memory must work without a lock of this process, and be
  // zero-initialised by the pages themselves.
  static_assert(std::atomic<uint64_t>::is_always_lock_free);
  static_assert(sizeof(Header) <= 64 && sizeof(Slot) == 32);
}

Board::Slot* Board::slot(uint32_t id) const {
  SLUICE_CHECK(id < num_slots_) << "slot " << id << " of " << num_slots_;
  return reinterpret_cast<Slot*>(memory_->data() + 64) + id;
}

absl::StatusOr<std::unique_ptr<Board>> Board::Create(OperationId operation,
                                                     uint32_t num_slots) {
  const int64_t bytes = 64 + int64_t{num_slots} * sizeof(Slot);
  SLUICE_ASSIGN_OR_RETURN(UniqueFd file, CreateMemoryFile(bytes, "board"));
  SLUICE_ASSIGN_OR_RETURN(
      std::shared_ptr<MappedMemory> memory,
      MapMemoryFile(std::move(file), bytes, Access::kReadWrite));
  auto* header = new (memory->data()) Header{};
  header->operation = operation.value();
  header->num_slots = num_slots;
  header->magic = kMagic;
  return std::unique_ptr<Board>(new Board(std::move(memory), num_slots));
}

absl::StatusOr<std::unique_ptr<Board>> Board::Open(
    std::shared_ptr<MappedMemory> memory, OperationId operation,
    uint32_t num_slots) {
  if (memory == nullptr ||
      memory->size() < 64 + int64_t{num_slots} * int64_t{sizeof(Slot)}) {
    return absl::InvalidArgumentError(
        absl::StrCat("no board of ", num_slots, " transfers"));
  }
  const auto* header = reinterpret_cast<const Header*>(memory->data());
  if (header->magic != kMagic || header->operation != operation.value() ||
      header->num_slots != num_slots) {
    return absl::InvalidArgumentError(
        absl::StrCat("expected the board of operation ", operation.value(),
                     " with ", num_slots, " transfers, found operation ",
                     header->operation, " with ", header->num_slots));
  }
  return std::unique_ptr<Board>(new Board(std::move(memory), num_slots));
}

void Board::SetAvailable(uint32_t id, int64_t bytes) {
  slot(id)->available.store(static_cast<uint64_t>(bytes),
                            std::memory_order_release);
  Poke();
}

int64_t Board::available(uint32_t id) const {
  return static_cast<int64_t>(
      slot(id)->available.load(std::memory_order_acquire));
}

void Board::PublishDigest(uint32_t id, const Digest& digest) {
  Slot* s = slot(id);
  s->lane0.store(digest.lane0, std::memory_order_relaxed);
  s->lane1.store(digest.lane1, std::memory_order_relaxed);
  s->has_digest.store(1, std::memory_order_release);
  Poke();
}

std::optional<Digest> Board::digest(uint32_t id) const {
  const Slot* s = slot(id);
  if (s->has_digest.load(std::memory_order_acquire) == 0) return std::nullopt;
  return Digest{s->lane0.load(std::memory_order_relaxed),
                s->lane1.load(std::memory_order_relaxed)};
}

void Board::Fail(Rank culprit) {
  if (header_->state.load(std::memory_order_acquire) != kRunning) return;
  header_->culprit.store(culprit.value(), std::memory_order_relaxed);
  header_->state.store(kFailed, std::memory_order_release);
  Poke();
}

std::optional<Rank> Board::failed() const {
  if (header_->state.load(std::memory_order_acquire) != kFailed) {
    return std::nullopt;
  }
  return Rank(header_->culprit.load(std::memory_order_relaxed));
}

uint32_t Board::epoch() const { return header_->bell.rung(); }

void Board::Poke() { header_->bell.Ring(); }

void Board::Wait(uint32_t seen, absl::Duration timeout) const {
  header_->bell.Wait(seen, timeout);
}

}  // namespace sluice::agent
