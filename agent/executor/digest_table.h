#ifndef SLUICE_AGENT_EXECUTOR_DIGEST_TABLE_H_
#define SLUICE_AGENT_EXECUTOR_DIGEST_TABLE_H_

// Digests of source boxes: computed once per version, kept by the name of the
// immutable content they were read from.

#include <cstdint>
#include <optional>
#include <string>
#include <tuple>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "common/box.h"
#include "common/digest_value.h"
#include "common/dtype.h"
#include "common/mutex.h"

namespace sluice::agent {

// A tensor's name, the element type it was cast to, and the box read of it.
using DigestKey = std::tuple<std::string, DType, Box>;

// Thread-safe.
class DigestTable {
 public:
  // Entries of all contents together; above it, all are forgotten.
  static constexpr int64_t kMaxEntries = 1 << 20;

  std::optional<Digest> Find(const std::string& content,
                             const DigestKey& key) const;
  void Store(const std::string& content, const DigestKey& key,
             const Digest& digest);
  void Forget(const std::string& content);

 private:
  using Digests = absl::flat_hash_map<DigestKey, Digest>;

  mutable Mutex mutex_;
  absl::flat_hash_map<std::string, Digests> contents_ ABSL_GUARDED_BY(mutex_);
  int64_t entries_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_EXECUTOR_DIGEST_TABLE_H_
