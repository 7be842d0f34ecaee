#include "agent/checkpoint/safetensors_writer.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/checkpoint/safetensors_header.h"
#include "common/status_macros.h"

namespace sluice::agent {
namespace {

absl::Status WriteAll(int fd, const char* data, size_t size, int64_t offset,
                      const std::string& path) {
  while (size > 0) {
    const ssize_t wrote = pwrite(fd, data, size, offset);
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0) {
      return absl::ErrnoToStatus(errno, absl::StrCat("writing ", path));
    }
    data += wrote;
    size -= static_cast<size_t>(wrote);
    offset += wrote;
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<SafetensorsWriter>> SafetensorsWriter::Create(
    const std::string& path, std::vector<TensorSpec> tensors,
    const std::map<std::string, std::string>& metadata) {
  ModelSpec check;
  check.name = path;
  check.tensors = tensors;
  SLUICE_RETURN_IF_ERROR(check.Validate());
  std::unique_ptr<SafetensorsWriter> writer(new SafetensorsWriter());
  const std::string header = PrintSafetensorsHeader(tensors, metadata);
  int64_t offset =
      kSafetensorsLengthBytes + static_cast<int64_t>(header.size());
  for (const TensorSpec& tensor : tensors) {
    writer->offsets_.push_back(offset);
    offset += tensor.num_bytes();
    writer->data_bytes_ += tensor.num_bytes();
  }
  writer->file_bytes_ = offset;
  writer->tensors_ = std::move(tensors);
  const int fd =
      open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  if (fd < 0) return absl::ErrnoToStatus(errno, path);
  writer->fd_ = fd;
  writer->path_ = path;
  // Not every file system can reserve; it then runs out while writing.
  const int reserved = posix_fallocate(fd, 0, writer->file_bytes_);
  if (reserved == ENOSPC || reserved == EFBIG) {
    return absl::ErrnoToStatus(
        reserved,
        absl::StrCat(path, ": needs ", writer->file_bytes_, " bytes"));
  }
  uint64_t length = header.size();
  char prefix[kSafetensorsLengthBytes];
  std::memcpy(prefix, &length, sizeof(prefix));
  SLUICE_RETURN_IF_ERROR(WriteAll(fd, prefix, sizeof(prefix), 0, path));
  SLUICE_RETURN_IF_ERROR(WriteAll(fd, header.data(), header.size(),
                                  kSafetensorsLengthBytes, path));
  return writer;
}

SafetensorsWriter::~SafetensorsWriter() {
  if (fd_ < 0) return;
  close(fd_);
  unlink(path_.c_str());
}

absl::Status SafetensorsWriter::Write(size_t index, int64_t offset,
                                      absl::Span<const uint8_t> bytes) {
  const auto size = static_cast<int64_t>(bytes.size());
  if (index >= tensors_.size() || offset < 0 ||
      offset > tensors_[index].num_bytes() ||
      size > tensors_[index].num_bytes() - offset) {
    return absl::OutOfRangeError(absl::StrCat(path_, ": bytes [", offset, ",+",
                                              size, ") of tensor ", index,
                                              " are outside of it"));
  }
  SLUICE_RETURN_IF_ERROR(
      WriteAll(fd_, reinterpret_cast<const char*>(bytes.data()), bytes.size(),
               offsets_[index] + offset, path_));
  written_.fetch_add(size, std::memory_order_relaxed);
  return absl::OkStatus();
}

absl::Status SafetensorsWriter::Finish() {
  const int64_t written = written_.load(std::memory_order_relaxed);
  if (written != data_bytes_) {
    return absl::FailedPreconditionError(absl::StrCat(
        path_, ": ", written, " bytes were written: expected ", data_bytes_));
  }
  // Where nothing could be reserved, an empty tail still makes the size right.
  if (ftruncate(fd_, file_bytes_) != 0 || close(std::exchange(fd_, -1)) != 0) {
    return absl::ErrnoToStatus(errno, path_);
  }
  return absl::OkStatus();
}

}  // namespace sluice::agent
