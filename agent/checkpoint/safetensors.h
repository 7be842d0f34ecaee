#ifndef SLUICE_AGENT_CHECKPOINT_SAFETENSORS_H_
#define SLUICE_AGENT_CHECKPOINT_SAFETENSORS_H_

// A safetensors file, mapped read-only.
//
//   8 bytes   length of the header, little-endian
//   header    JSON: see safetensors_header.h
//   data      the tensors' elements, row-major, little-endian
//
// The file must not shrink while it is mapped: reading beyond its new end would
// kill the process (SIGBUS). CheckUnchanged() finds what happened before.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "agent/checkpoint/safetensors_header.h"

namespace sluice::agent {

// Thread rule: immutable after Open; thread-safe.
class SafetensorsFile {
 public:
  // Opens, maps and checks a file.
  // Errors: NOT_FOUND and PERMISSION_DENIED - as the system says;
  // INVALID_ARGUMENT - no regular file, shorter than its header says, or a
  // header that ParseSafetensorsHeader refuses. Each names the file.
  static absl::StatusOr<std::unique_ptr<SafetensorsFile>> Open(
      const std::string& path, const SafetensorsLimits& limits = {});

  ~SafetensorsFile();
  SafetensorsFile(const SafetensorsFile&) = delete;
  SafetensorsFile& operator=(const SafetensorsFile&) = delete;

  const std::string& path() const { return path_; }
  // By offset.
  const std::vector<SafetensorsEntry>& entries() const {
    return header_.entries;
  }
  const SafetensorsHeader& header() const { return header_; }
  // Returns the bytes of one of entries().
  absl::Span<const uint8_t> Data(const SafetensorsEntry& entry) const;

  // Errors: FAILED_PRECONDITION - the file was replaced or has another size
  // than when it was opened.
  absl::Status CheckUnchanged() const;

  // Asks the system to read a part of Data() ahead; only a hint.
  static void ReadAhead(absl::Span<const uint8_t> bytes);

 private:
  SafetensorsFile() = default;

  std::string path_;
  int fd_ = -1;
  const uint8_t* map_ = nullptr;
  int64_t size_ = 0;
  int64_t data_offset_ = 0;
  SafetensorsHeader header_;
};

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_CHECKPOINT_SAFETENSORS_H_
