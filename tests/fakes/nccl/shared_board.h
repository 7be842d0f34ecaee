#ifndef SLUICE_TESTS_FAKES_NCCL_SHARED_BOARD_H_
#define SLUICE_TESTS_FAKES_NCCL_SHARED_BOARD_H_

// The memory that the ranks of one fake communicator share: a file that each
// maps, made by whoever comes first, unlinked when all are there.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

namespace sluice::fake_nccl {

inline constexpr int kMaxRanks = 16;
inline constexpr uint64_t kRingBytes = 64 << 10;
// A rank enters a collective only when all have entered the one before.
inline constexpr int kLogLength = 4;

// Bytes from one rank to another, in order; one writer, one reader.
struct Ring {
  std::atomic<uint64_t> written;
  std::atomic<uint64_t> read;
  char bytes[kRingBytes];
};

// A collective as one rank entered it; all zero before.
struct LogEntry {
  std::atomic<uint64_t> number;  // from 1
  std::atomic<uint64_t> count;
  std::atomic<uint32_t> kind;
  std::atomic<int32_t> type;
  std::atomic<int32_t> op;
  std::atomic<int32_t> root;
};

struct Slot {
  std::atomic<uint32_t> joined;
  std::atomic<uint32_t> mapped;  // by then the file may lose its name
  std::atomic<uint32_t> finalized;
  std::atomic<uint64_t> host;
  std::atomic<uint64_t> device;
  std::atomic<uint32_t> shares;  // the device, with others that do
  // Changes whenever a peer did something this rank may wait for.
  std::atomic<uint32_t> bell;
  LogEntry log[kLogLength];
};

// All zero is the state before anybody came.
struct Header {
  std::atomic<int32_t> ranks;
  Slot slots[kMaxRanks];
};

// A mapping of it, as one rank has it. Thread-safe as its atomics are.
class SharedBoard {
 public:
  SharedBoard() = default;
  ~SharedBoard();
  SharedBoard(const SharedBoard&) = delete;
  SharedBoard& operator=(const SharedBoard&) = delete;

  // Maps the board in `folder` (made if absent); false if that fails.
  bool Open(const std::string& folder, int ranks);
  // Says that this rank lives, until the board goes or its process dies.
  bool Hold(int rank);
  // Whether another rank's hold is there.
  bool Held(int rank) const;
  // Removes the file and the folder; the memory stays with those who map it.
  void Unlink();

  Header& header() { return *static_cast<Header*>(memory_); }
  Slot& slot(int rank) { return header().slots[rank]; }
  Ring& ring(int from, int to);

  void Notify(int rank);
  void NotifyAll();
  // Waits until `ready` is true (then true) or `stop` is (then false). Both are
  // asked again whenever the bell of `rank` rings.
  bool Wait(int rank, const std::function<bool()>& ready,
            const std::atomic<bool>& stop);

 private:
  std::string folder_;
  int ranks_ = 0;
  size_t bytes_ = 0;
  int fd_ = -1;
  void* memory_ = nullptr;
};

}  // namespace sluice::fake_nccl

#endif  // SLUICE_TESTS_FAKES_NCCL_SHARED_BOARD_H_
