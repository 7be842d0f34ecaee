#include "agent/checkpoint/safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace sluice::agent {

absl::StatusOr<std::unique_ptr<SafetensorsFile>> SafetensorsFile::Open(
    const std::string& path, const SafetensorsLimits& limits) {
  std::unique_ptr<SafetensorsFile> file(new SafetensorsFile());
  file->path_ = path;
  const auto bad = [&path](absl::string_view why) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": ", why));
  };
  // O_NONBLOCK: a FIFO in the directory must not hang us.
  file->fd_ = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (file->fd_ < 0) return absl::ErrnoToStatus(errno, path);
  struct stat info;
  if (fstat(file->fd_, &info) != 0) return absl::ErrnoToStatus(errno, path);
  if (!S_ISREG(info.st_mode)) return bad("is no regular file");
  file->size_ = info.st_size;
  if (file->size_ < kSafetensorsLengthBytes) {
    return bad(absl::StrCat("has ", file->size_,
                            " bytes: truncated before the header's length"));
  }
  void* map = mmap(nullptr, static_cast<size_t>(file->size_), PROT_READ,
                   MAP_SHARED, file->fd_, 0);
  if (map == MAP_FAILED) {
    return absl::ErrnoToStatus(errno, absl::StrCat("mapping ", path));
  }
  file->map_ = static_cast<const uint8_t*>(map);
  uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, file->map_, sizeof(header_bytes));
  const int64_t rest = file->size_ - kSafetensorsLengthBytes;
  if (header_bytes > static_cast<uint64_t>(limits.max_header_bytes)) {
    return bad(absl::StrCat("header length ", header_bytes,
                            ": expected at most ", limits.max_header_bytes,
                            " (is it a safetensors file?)"));
  }
  if (header_bytes > static_cast<uint64_t>(rest)) {
    return bad(absl::StrCat("header length ", header_bytes, ", but only ", rest,
                            " bytes follow: the file is truncated"));
  }
  file->data_offset_ =
      kSafetensorsLengthBytes + static_cast<int64_t>(header_bytes);
  const absl::string_view text(
      reinterpret_cast<const char*>(file->map_) + kSafetensorsLengthBytes,
      static_cast<size_t>(header_bytes));
  absl::StatusOr<SafetensorsHeader> header =
      ParseSafetensorsHeader(text, file->size_ - file->data_offset_, limits);
  if (!header.ok()) return Annotate(header.status(), path);
  file->header_ = *std::move(header);
  return file;
}

SafetensorsFile::~SafetensorsFile() {
  if (map_ != nullptr) {
    munmap(const_cast<uint8_t*>(map_), static_cast<size_t>(size_));
  }
  if (fd_ >= 0) close(fd_);
}

absl::Span<const uint8_t> SafetensorsFile::Data(
    const SafetensorsEntry& entry) const {
  return absl::MakeConstSpan(map_ + data_offset_ + entry.offset,
                             static_cast<size_t>(entry.num_bytes));
}

absl::Status SafetensorsFile::CheckUnchanged() const {
  struct stat now;
  struct stat opened;
  if (stat(path_.c_str(), &now) != 0 || fstat(fd_, &opened) != 0) {
    return absl::ErrnoToStatus(errno, path_);
  }
  if (now.st_ino != opened.st_ino || now.st_dev != opened.st_dev ||
      opened.st_size != size_) {
    return absl::FailedPreconditionError(absl::StrCat(
        path_, ": was replaced, or has ", opened.st_size,
        " bytes: expected the file of ", size_, " bytes that was opened"));
  }
  return absl::OkStatus();
}

void SafetensorsFile::ReadAhead(absl::Span<const uint8_t> bytes) {
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const auto begin = reinterpret_cast<uintptr_t>(bytes.data());
  const uintptr_t aligned = begin / page * page;
  madvise(reinterpret_cast<void*>(aligned), begin - aligned + bytes.size(),
          MADV_WILLNEED);
}

}  // namespace sluice::agent
