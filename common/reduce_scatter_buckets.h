#ifndef SLUICE_COMMON_REDUCE_SCATTER_BUCKETS_H_
#define SLUICE_COMMON_REDUCE_SCATTER_BUCKETS_H_

// When many small reduce-scatters go, and which go together. As fairscale's
// ReduceScatterBucketer (fairscale/internal/reduce_scatter_bucketer.py), as a
// value: requests in, reductions out; who carries them out is not its concern.
//
// A bucket holds inputs of one (dtype, device, group). It is out before its
// reduction is returned, so a completion that asks for another reduction, or
// fails, finds it empty: nothing is reduced twice or lost.

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/dtype.h"

namespace sluice {

struct BucketOptions {
  int32_t world_size = 1;  // members of every group
  // Of a whole bucket, in MiB: each member's shard is a world_size-th of it.
  // 0 or less: no bucketing.
  double capacity_mib = 25;

  // Errors: INVALID_ARGUMENT - less than one member.
  absl::Status Validate() const;
};

struct BucketKey {
  DType dtype = DType::kUnspecified;
  int32_t device = 0;
  int32_t group = 0;

  friend bool operator==(const BucketKey&, const BucketKey&) = default;
};

// One reduce-scatter: world_size inputs of `numel` elements each, of which this
// rank gets one, reduced.
struct ReduceRequest {
  uint64_t id = 0;  // the caller's
  BucketKey key;
  int64_t numel = 0;
};

enum class ReductionReason {
  kImmediate,   // larger than a bucket's shard
  kBucketFull,  // the next request does not fit
  kFlush,
};

// What goes as one collective; its members complete in order. With no elements
// there is no collective, and they complete at once.
struct Reduction {
  struct Member {
    uint64_t id = 0;
    int64_t offset = 0;  // first element in the shard
    int64_t numel = 0;
  };
  BucketKey key;
  ReductionReason reason = ReductionReason::kImmediate;
  int64_t numel_per_shard = 0;
  std::vector<Member> members;
};

// Not thread-safe. The same requests in the same order go at the same time on
// every rank.
class ReduceScatterBuckets {
 public:
  struct BucketView {
    BucketKey key;
    int64_t shard_capacity = 0;  // elements
    int64_t shard_size = 0;      // of them in use
    int64_t num_members = 0;
  };

  // Errors: as BucketOptions::Validate.
  static absl::StatusOr<ReduceScatterBuckets> Create(
      const BucketOptions& options);

  // Takes a request. Returns what goes now, before it is stored: itself if it
  // is larger than a shard (its bucket stays as it is), or its bucket if it
  // does not fit into the rest (a bucket that is exactly full waits).
  // Errors: INVALID_ARGUMENT - a negative size, a dtype without a size.
  absl::StatusOr<std::vector<Reduction>> Add(const ReduceRequest& request);
  // Returns everything that waits, buckets in order of their first use.
  std::vector<Reduction> Flush();
  // Forgets the buckets' memory; they keep their place in the order.
  // Errors: FAILED_PRECONDITION - something waits.
  absl::Status Teardown() const;

  std::vector<BucketView> buckets() const;
  // Elements of a shard of this dtype.
  int64_t ShardCapacity(DType dtype) const;

 private:
  struct Bucket {
    BucketKey key;
    int64_t shard_size = 0;
    std::vector<Reduction::Member> members;
  };

  explicit ReduceScatterBuckets(const BucketOptions& options)
      : options_(options) {}

  Bucket& BucketOf(const BucketKey& key);
  static Reduction Empty(Bucket& bucket, ReductionReason reason);

  BucketOptions options_;
  std::vector<Bucket> buckets_;  // in order of first use; a handful
};

// Checks the inputs of one reduce-scatter: one for each member, all alike.
// Returns their number of elements.
// Errors: INVALID_ARGUMENT - names the first that differs.
absl::StatusOr<int64_t> CheckReduceInputs(
    absl::Span<const std::vector<int64_t>> shapes,
    absl::Span<const DType> dtypes, int32_t world_size);

}  // namespace sluice

#endif  // SLUICE_COMMON_REDUCE_SCATTER_BUCKETS_H_
