#include "tests/fakes/nccl/shared_board.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <ctime>

namespace sluice::fake_nccl {
namespace {

static_assert(std::atomic<uint64_t>::is_always_lock_free);
static_assert(sizeof(std::atomic<uint32_t>) == sizeof(uint32_t));

constexpr size_t kHeaderBytes = (sizeof(Header) + 63) / 64 * 64;

struct flock ByteOf(int rank) {
  struct flock lock = {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  lock.l_start = rank;
  lock.l_len = 1;
  return lock;
}

void FutexWait(std::atomic<uint32_t>& word, uint32_t seen) {
  // The bell may also be rung by a process that dies before it wakes us.
  const timespec limit = {.tv_sec = 0, .tv_nsec = 20'000'000};
  ::syscall(SYS_futex, &word, FUTEX_WAIT, seen, &limit, nullptr, 0);
}

}  // namespace

SharedBoard::~SharedBoard() {
  if (memory_ != nullptr) ::munmap(memory_, bytes_);
  if (fd_ >= 0) ::close(fd_);
}

bool SharedBoard::Open(const std::string& folder, int ranks) {
  folder_ = folder;
  ranks_ = ranks;
  bytes_ = kHeaderBytes + sizeof(Ring) * ranks * ranks;
  if (::mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST) return false;
  fd_ = ::open((folder + "/board").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd_ < 0) return false;
  const bool sized = ::ftruncate(fd_, static_cast<off_t>(bytes_)) == 0;
  void* memory = MAP_FAILED;
  if (sized) {
    memory =
        ::mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_SHARED, fd_, 0);
  }
  if (memory == MAP_FAILED) return false;
  memory_ = memory;
  return true;
}

// Locks of open files, which also tell ranks of one process apart.
bool SharedBoard::Hold(int rank) {
  struct flock lock = ByteOf(rank);
  return ::fcntl(fd_, F_OFD_SETLK, &lock) == 0;
}

bool SharedBoard::Held(int rank) const {
  struct flock lock = ByteOf(rank);
  return ::fcntl(fd_, F_OFD_GETLK, &lock) != 0 || lock.l_type != F_UNLCK;
}

void SharedBoard::Unlink() {
  ::unlink((folder_ + "/board").c_str());
  ::rmdir(folder_.c_str());
}

Ring& SharedBoard::ring(int from, int to) {
  auto* rings =
      reinterpret_cast<Ring*>(static_cast<char*>(memory_) + kHeaderBytes);
  return rings[from * ranks_ + to];
}

void SharedBoard::Notify(int rank) {
  std::atomic<uint32_t>& bell = slot(rank).bell;
  bell.fetch_add(1);
  ::syscall(SYS_futex, &bell, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}

void SharedBoard::NotifyAll() {
  for (int rank = 0; rank < ranks_; ++rank) Notify(rank);
}

bool SharedBoard::Wait(int rank, const std::function<bool()>& ready,
                       const std::atomic<bool>& stop) {
  std::atomic<uint32_t>& bell = slot(rank).bell;
  while (true) {
    const uint32_t seen = bell.load();
    if (stop.load()) return false;
    if (ready()) return true;
    FutexWait(bell, seen);
  }
}

}  // namespace sluice::fake_nccl
