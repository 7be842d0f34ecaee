#ifndef SLUICE_AGENT_COLLECTIVE_REDUCE_LOG_H_
#define SLUICE_AGENT_COLLECTIVE_REDUCE_LOG_H_

// What a member of a reduce group asked for so far, as a digest that members
// compare with each collective, and in words for when they differ.

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "agent/collective/collective.h"
#include "common/dtype.h"

namespace sluice::agent {

// Not thread-safe. Equal requests in equal order give equal digests and words
// on every member, in every process.
class ReduceLog {
 public:
  // The settings are part of the digest: they decide what goes when.
  ReduceLog(ReduceOp operation, double bucket_mib, int members);

  void Add(DType dtype, const std::vector<int64_t>& shape);

  // Digest of everything added.
  uint64_t digest() const { return digest_; }
  // The settings in words.
  std::string Settings() const;
  // What was added since the last call, in words of at most `max_bytes`: its
  // numbers and types, "requests 3 to 5: 2 x F32[4,4], I32[7]".
  std::string TakeRecent(size_t max_bytes);

 private:
  struct Run {
    std::string words;
    int64_t count = 0;
  };

  void Mix(uint64_t value);

  const ReduceOp operation_;
  const double bucket_mib_;
  uint64_t digest_;
  int64_t num_requests_ = 0;
  int64_t first_recent_ = 1;
  std::vector<Run> recent_;
};

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_COLLECTIVE_REDUCE_LOG_H_
