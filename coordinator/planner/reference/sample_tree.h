#ifndef SLUICE_COORDINATOR_PLANNER_REFERENCE_SAMPLE_TREE_H_
#define SLUICE_COORDINATOR_PLANNER_REFERENCE_SAMPLE_TREE_H_

// The storage tracker's map from sample ids to records: a hash tree of which
// older versions stay readable for the price of the nodes that change.
//
// Root -> branches of 256 -> buckets of a few records. Every node carries the
// generation in which it was made. Seal() starts a new generation; a node of an
// older one is never written again but copied first, so whoever holds an older
// root sees what it saw, from any thread, without locks or reference counts
// being asked.

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "absl/functional/function_ref.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "common/ids.h"
#include "coordinator/planner/reference/key_table.h"

namespace sluice::coordinator::reference {

// That a rank holds a sample, with these keys.
struct Holding {
  Rank rank = kNoRank;
  KeyTable::List keys = 0;

  friend bool operator==(const Holding&, const Holding&) = default;
};

struct KeyOwner {
  KeyTable::Key key = 0;
  Rank rank = kNoRank;
};

// Where one sample is. Invariant: it has a holding; the owner of a key holds
// it. What every planner reads stands in the record itself as far as it is of
// usual size: another place in memory costs more than the bytes.
struct SampleRecord {
  absl::string_view id() const { return {name.data(), name.size()}; }

  absl::InlinedVector<char, 40> name;  // the id; as long as a UUID and a little
  std::vector<Holding> holdings;       // by rank, ascending
  // One per owned key, in order of first owning.
  absl::InlinedVector<KeyOwner, 8> owners;
};

// A version of the tree. Copying it is cheap and shares all nodes.
class SampleTreeView {
 public:
  // Returns the record, or null; valid as long as this version is held.
  const SampleRecord* Find(absl::string_view id) const;
  // Find() of many, written to as many places: has several on their way from
  // memory at a time, and leaves the newest in the nearest cache.
  void FindAll(absl::Span<const absl::string_view> ids,
               absl::Span<const SampleRecord*> found) const;
  // Calls `visit` with every record, in no particular order.
  void ForEach(absl::FunctionRef<void(const SampleRecord&)> visit) const;
  int64_t size() const { return size_; }

 protected:
  static constexpr int kBranchBits = 8;
  struct Bucket {
    uint64_t generation = 0;
    // Upper half of the hash of each record's id.
    absl::InlinedVector<uint32_t, 24> tags;
    std::vector<SampleRecord> records;
  };
  struct Branch {
    uint64_t generation = 0;
    std::array<std::shared_ptr<Bucket>, 1 << kBranchBits> buckets;
  };

  static uint64_t Hash(absl::string_view id);
  // The bucket that has the id if any has; may be null.
  const Bucket* BucketFor(uint64_t hash) const;
  // Position of the first record from `from` with the hash's tag, or -1.
  static int FindTag(const Bucket& bucket, uint64_t hash, size_t from);
  // Position of the id's record in the bucket, or -1.
  static int FindIn(const Bucket& bucket, uint64_t hash, absl::string_view id);

  // 2^n branches; the low bits of a hash choose the bucket, the next ones the
  // branch.
  std::vector<std::shared_ptr<Branch>> branches_;
  int64_t size_ = 0;
};

// The version that changes. Not thread-safe.
class SampleTree : public SampleTreeView {
 public:
  SampleTree();

  // Returns a version that stays as it is now.
  SampleTreeView Seal();
  // Returns the record to be written, made if it is not there (`name` set, all
  // else empty). Valid until the next call.
  SampleRecord& Edit(absl::string_view id);
  // Returns whether it was there.
  bool Erase(absl::string_view id);

 private:
  Branch& WritableBranch(size_t branch);
  Bucket& WritableBucket(uint64_t hash);
  void Grow();

  uint64_t generation_ = 1;
};

}  // namespace sluice::coordinator::reference

#endif  // SLUICE_COORDINATOR_PLANNER_REFERENCE_SAMPLE_TREE_H_
