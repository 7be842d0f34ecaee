#include "agent/device/memory_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace sluice::agent {
namespace {

constexpr int64_t kPageBytes = 4096;
// From here on a huge page that is used in part is little.
constexpr int64_t kHugePagesFrom = int64_t{32} << 20;
// Large mappings begin at different multiples of kStepBytes, a huge page, in
// each kPeriodBytes: see Reserve.
constexpr int64_t kStepBytes = int64_t{2} << 20;
constexpr int64_t kSteps = 128;
constexpr int64_t kPeriodBytes = kStepBytes * kSteps;

absl::Status SystemError(absl::string_view what, int error) {
  const std::string message = absl::StrCat(what, ": ", std::strerror(error));
  switch (error) {
    case EMFILE:
    case ENFILE:
    case ENOMEM:
    case ENOSPC:
      return absl::ResourceExhaustedError(message);
    case EACCES:
    case EPERM:
      return absl::PermissionDeniedError(message);
    default:
      return absl::UnavailableError(message);
  }
}

// Address space for a large mapping, which the caller maps over or unmaps; null
// where there is none.
//
// Who reads the same range of many memories at once, as a reduction does, reads
// addresses that differ by multiples of the memories' size. Processors of AMD
// tell lines of the nearest cache apart by bits 12 to 27 of their addresses:
// those of eight memories of 256 MiB would drive each other out, at half the
// speed. So no two of kSteps mappings made in a row agree in bits 21 to 27.
void* Reserve(int64_t bytes) {
  static std::atomic<uint64_t> made{0};
  const auto step = static_cast<int64_t>(
      made.fetch_add(1, std::memory_order_relaxed) % uint64_t{kSteps});
  const int64_t pages = (bytes + kPageBytes - 1) / kPageBytes * kPageBytes;
  void* all =
      mmap(nullptr, static_cast<size_t>(pages + kPeriodBytes), PROT_NONE,
           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (all == MAP_FAILED) return nullptr;
  auto* first = static_cast<std::byte*>(all);
  const auto at = static_cast<int64_t>(reinterpret_cast<uintptr_t>(all) %
                                       uintptr_t{kPeriodBytes});
  const int64_t before = (step * kStepBytes - at + kPeriodBytes) % kPeriodBytes;
  if (before > 0) munmap(first, static_cast<size_t>(before));
  munmap(first + before + pages, static_cast<size_t>(kPeriodBytes - before));
  return first + before;
}

class FileMapping final : public MappedMemory {
 public:
  FileMapping(UniqueFd fd, void* data, int64_t size)
      : fd_(std::move(fd)), data_(data), size_(size) {}
  FileMapping(const FileMapping&) = delete;
  FileMapping& operator=(const FileMapping&) = delete;
  ~FileMapping() override { munmap(data_, static_cast<size_t>(size_)); }

  std::byte* data() const override { return static_cast<std::byte*>(data_); }
  int64_t size() const override { return size_; }
  int descriptor() const override { return fd_.get(); }

 private:
  UniqueFd fd_;
  void* data_;
  int64_t size_;
};

}  // namespace

absl::StatusOr<UniqueFd> CreateMemoryFile(int64_t bytes,
                                          absl::string_view label) {
  if (bytes < 1) {
    return absl::InvalidArgumentError(absl::StrCat(
        "memory \"", label, "\" of ", bytes, " bytes: expected at least 1"));
  }
  // The system's limit is 249 bytes of name.
  const std::string name(label.substr(0, 200));
  UniqueFd fd(memfd_create(name.c_str(), MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd.valid()) {
    return SystemError(absl::StrCat("creating memory \"", label, "\""), errno);
  }
  if (ftruncate(fd.get(), bytes) != 0 ||
      fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) != 0) {
    return SystemError(
        absl::StrCat("sizing memory \"", label, "\" to ", bytes, " bytes"),
        errno);
  }
  return fd;
}

absl::StatusOr<int64_t> CheckMemoryFile(int fd) {
  struct stat info;
  if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
    return absl::InvalidArgumentError(
        "descriptor: expected shared memory (a memfd), found something else");
  }
  const int seals = fcntl(fd, F_GET_SEALS);
  if (seals < 0 || (seals & F_SEAL_SHRINK) == 0) {
    return absl::InvalidArgumentError(
        "descriptor: expected a memfd sealed against shrinking "
        "(F_SEAL_SHRINK), found one that can shrink");
  }
  return static_cast<int64_t>(info.st_size);
}

absl::StatusOr<std::shared_ptr<MappedMemory>> MapMemoryFile(UniqueFd fd,
                                                            int64_t bytes,
                                                            Access access) {
  struct stat info;
  if (fstat(fd.get(), &info) != 0) return SystemError("fstat", errno);
  if (bytes < 1 || bytes > info.st_size) {
    return absl::InvalidArgumentError(absl::StrCat(
        "mapping ", bytes, " bytes of a memory of ", info.st_size, " bytes"));
  }
  const int protection =
      access == Access::kReadOnly ? PROT_READ : PROT_READ | PROT_WRITE;
  void* reserved = bytes >= kStepBytes ? Reserve(bytes) : nullptr;
  void* data =
      mmap(reserved, static_cast<size_t>(bytes), protection,
           MAP_SHARED | (reserved != nullptr ? MAP_FIXED : 0), fd.get(), 0);
  if (data == MAP_FAILED) {
    const int error = errno;
    if (reserved != nullptr) munmap(reserved, static_cast<size_t>(bytes));
    return SystemError(absl::StrCat("mapping ", bytes, " bytes"), error);
  }
  // Where the system lets shared memory have huge pages, the tables of a large
  // mapping are 512 times smaller; where it does not, nothing changes.
  if (bytes >= kHugePagesFrom) {
    madvise(data, static_cast<size_t>(bytes), MADV_HUGEPAGE);
  }
  return std::make_shared<FileMapping>(std::move(fd), data, bytes);
}

bool MakePages(const MappedMemory& memory, int64_t lo, int64_t hi) {
#ifdef MADV_POPULATE_WRITE
  lo = lo / kPageBytes * kPageBytes;  // the system takes whole pages
  return madvise(memory.data() + lo, static_cast<size_t>(hi - lo),
                 MADV_POPULATE_WRITE) == 0;
#else
  static_cast<void>(memory);
  return lo >= hi;
#endif
}

absl::StatusOr<UniqueFd> ReopenReadOnly(int fd) {
  const std::string path = absl::StrCat("/proc/self/fd/", fd);
  UniqueFd out(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!out.valid()) return SystemError(absl::StrCat("opening ", path), errno);
  return out;
}

absl::StatusOr<UniqueFd> Duplicate(int fd) {
  UniqueFd out(fcntl(fd, F_DUPFD_CLOEXEC, 0));
  if (!out.valid()) return SystemError("duplicating a descriptor", errno);
  return out;
}

}  // namespace sluice::agent
