#include "common/reduce_scatter_buckets.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/status_macros.h"

namespace sluice {
namespace {

constexpr double kBytesPerMib = 1024.0 * 1024.0;

}  // namespace

absl::Status BucketOptions::Validate() const {
  if (world_size < 1) {
    return absl::InvalidArgumentError(absl::StrCat(
        "buckets: expected at least one member, found ", world_size));
  }
  if (!std::isfinite(capacity_mib)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "buckets: expected a finite capacity, found ", capacity_mib));
  }
  return absl::OkStatus();
}

absl::StatusOr<ReduceScatterBuckets> ReduceScatterBuckets::Create(
    const BucketOptions& options) {
  SLUICE_RETURN_IF_ERROR(options.Validate());
  return ReduceScatterBuckets(options);
}

int64_t ReduceScatterBuckets::ShardCapacity(DType dtype) const {
  const int64_t element = ByteSize(dtype);
  if (options_.capacity_mib <= 0 || element == 0) return 0;
  const double elements =
      options_.capacity_mib * kBytesPerMib / static_cast<double>(element);
  // The quotient without its remainder, free of the quotient's rounding.
  const auto members = static_cast<double>(options_.world_size);
  return static_cast<int64_t>(
      std::round((elements - std::fmod(elements, members)) / members));
}

ReduceScatterBuckets::Bucket& ReduceScatterBuckets::BucketOf(
    const BucketKey& key) {
  for (Bucket& bucket : buckets_) {
    if (bucket.key == key) return bucket;
  }
  buckets_.push_back({key, 0, {}});
  return buckets_.back();
}

Reduction ReduceScatterBuckets::Empty(Bucket& bucket, ReductionReason reason) {
  return {bucket.key, reason, std::exchange(bucket.shard_size, 0),
          std::exchange(bucket.members, {})};
}

absl::StatusOr<std::vector<Reduction>> ReduceScatterBuckets::Add(
    const ReduceRequest& request) {
  if (request.numel < 0 || ByteSize(request.key.dtype) == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("reduce-scatter ", request.id,
                     ": expected at least 0 elements of a known type, found ",
                     request.numel, " of ", DTypeName(request.key.dtype)));
  }
  const int64_t capacity = ShardCapacity(request.key.dtype);
  std::vector<Reduction> now;
  if (request.numel > capacity) {
    now.push_back({request.key,
                   ReductionReason::kImmediate,
                   request.numel,
                   {{request.id, 0, request.numel}}});
    return now;
  }
  Bucket& bucket = BucketOf(request.key);
  if (request.numel > capacity - bucket.shard_size) {
    now.push_back(Empty(bucket, ReductionReason::kBucketFull));
  }
  bucket.members.push_back({request.id, bucket.shard_size, request.numel});
  bucket.shard_size += request.numel;
  return now;
}

std::vector<Reduction> ReduceScatterBuckets::Flush() {
  std::vector<Reduction> now;
  for (Bucket& bucket : buckets_) {
    if (bucket.members.empty()) continue;
    now.push_back(Empty(bucket, ReductionReason::kFlush));
  }
  return now;
}

absl::Status ReduceScatterBuckets::Teardown() const {
  for (const Bucket& bucket : buckets_) {
    if (bucket.members.empty()) continue;
    return absl::FailedPreconditionError(absl::StrCat(
        "buckets: expected nothing to wait, found ", bucket.members.size(),
        " reduce-scatters of ", DTypeName(bucket.key.dtype), " in group ",
        bucket.key.group));
  }
  return absl::OkStatus();
}

std::vector<ReduceScatterBuckets::BucketView> ReduceScatterBuckets::buckets()
    const {
  std::vector<BucketView> views;
  for (const Bucket& bucket : buckets_) {
    views.push_back({bucket.key, ShardCapacity(bucket.key.dtype),
                     bucket.shard_size,
                     static_cast<int64_t>(bucket.members.size())});
  }
  return views;
}

absl::StatusOr<int64_t> CheckReduceInputs(
    absl::Span<const std::vector<int64_t>> shapes,
    absl::Span<const DType> dtypes, int32_t world_size) {
  const auto members = static_cast<size_t>(std::max(world_size, 0));
  if (shapes.size() != members || dtypes.size() != members || members == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("reduce-scatter: expected an input for each of ",
                     world_size, " members, found ", shapes.size(),
                     " shapes and ", dtypes.size(), " types"));
  }
  for (size_t i = 1; i < members; ++i) {
    if (shapes[i] == shapes[0] && dtypes[i] == dtypes[0]) continue;
    return absl::InvalidArgumentError(absl::StrCat(
        "reduce-scatter: input ", i, ": expected ", DTypeName(dtypes[0]), "[",
        absl::StrJoin(shapes[0], ","), "], found ", DTypeName(dtypes[i]), "[",
        absl::StrJoin(shapes[i], ","), "]"));
  }
  int64_t numel = 1;
  for (const int64_t size : shapes[0]) {
    if (size < 0 || __builtin_mul_overflow(numel, size, &numel)) {
      return absl::InvalidArgumentError(absl::StrCat(
          "reduce-scatter: expected sizes of at least 0 and below 2^63 "
          "elements, found [",
          absl::StrJoin(shapes[0], ","), "]"));
    }
  }
  return numel;
}

}  // namespace sluice
