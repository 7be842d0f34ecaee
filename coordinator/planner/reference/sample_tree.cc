#include "coordinator/planner/reference/sample_tree.h"

#include <utility>

#include "absl/hash/hash.h"

namespace sluice::coordinator::reference {
namespace {

constexpr size_t kNumBuckets = size_t{1} << 8;  // of a branch
// The tree grows fourfold at this many records per bucket.
constexpr int64_t kMaxPerBucket = 16;

size_t BucketOf(uint64_t hash) { return hash % kNumBuckets; }
uint32_t TagOf(uint64_t hash) { return static_cast<uint32_t>(hash >> 32); }

}  // namespace

uint64_t SampleTreeView::Hash(absl::string_view id) {
  return absl::Hash<absl::string_view>()(id);
}

int SampleTreeView::FindIn(const Bucket& bucket, uint64_t hash,
                           absl::string_view id) {
  const uint32_t tag = TagOf(hash);
  for (size_t i = 0; i < bucket.tags.size(); ++i) {
    if (bucket.tags[i] == tag && bucket.records[i].id == id) {
      return static_cast<int>(i);
    }
  }
  return -1;
}

const SampleRecord* SampleTreeView::Find(absl::string_view id) const {
  if (branches_.empty()) return nullptr;
  const uint64_t hash = Hash(id);
  const Branch& branch =
      *branches_[(hash >> kBranchBits) & (branches_.size() - 1)];
  const Bucket* bucket = branch.buckets[BucketOf(hash)].get();
  if (bucket == nullptr) return nullptr;
  const int i = FindIn(*bucket, hash, id);
  return i < 0 ? nullptr : &bucket->records[static_cast<size_t>(i)];
}

void SampleTreeView::ForEach(
    absl::FunctionRef<void(const SampleRecord&)> visit) const {
  for (const std::shared_ptr<Branch>& branch : branches_) {
    for (const std::shared_ptr<Bucket>& bucket : branch->buckets) {
      if (bucket == nullptr) continue;
      for (const SampleRecord& record : bucket->records) visit(record);
    }
  }
}

SampleTree::SampleTree() {
  branches_.push_back(std::make_shared<Branch>());
  branches_.back()->generation = generation_;
}

SampleTreeView SampleTree::Seal() {
  ++generation_;
  return *this;
}

SampleTreeView::Branch& SampleTree::WritableBranch(size_t branch) {
  std::shared_ptr<Branch>& node = branches_[branch];
  if (node->generation != generation_) {
    node = std::make_shared<Branch>(*node);
    node->generation = generation_;
  }
  return *node;
}

SampleTreeView::Bucket& SampleTree::WritableBucket(uint64_t hash) {
  Branch& branch =
      WritableBranch((hash >> kBranchBits) & (branches_.size() - 1));
  std::shared_ptr<Bucket>& node = branch.buckets[BucketOf(hash)];
  if (node == nullptr) {
    node = std::make_shared<Bucket>();
  } else if (node->generation != generation_) {
    node = std::make_shared<Bucket>(*node);
  }
  node->generation = generation_;
  return *node;
}

SampleRecord& SampleTree::Edit(absl::string_view id) {
  const uint64_t hash = Hash(id);
  {
    Bucket& bucket = WritableBucket(hash);
    const int i = FindIn(bucket, hash, id);
    if (i >= 0) return bucket.records[static_cast<size_t>(i)];
  }
  if (size_ >=
      static_cast<int64_t>(branches_.size() * kNumBuckets) * kMaxPerBucket) {
    Grow();
  }
  Bucket& bucket = WritableBucket(hash);
  bucket.tags.push_back(TagOf(hash));
  SampleRecord& made = bucket.records.emplace_back();
  made.id = std::string(id);
  ++size_;
  return made;
}

bool SampleTree::Erase(absl::string_view id) {
  if (Find(id) == nullptr) return false;  // copies nothing for nothing
  const uint64_t hash = Hash(id);
  Bucket& bucket = WritableBucket(hash);
  const auto i = static_cast<size_t>(FindIn(bucket, hash, id));
  bucket.tags[i] = bucket.tags.back();
  bucket.tags.pop_back();
  if (i + 1 != bucket.records.size()) {
    bucket.records[i] = std::move(bucket.records.back());
  }
  bucket.records.pop_back();
  --size_;
  return true;
}

void SampleTree::Grow() {
  std::vector<std::shared_ptr<Branch>> old(branches_.size() * 4);
  for (std::shared_ptr<Branch>& branch : old) {
    branch = std::make_shared<Branch>();
    branch->generation = generation_;
  }
  old.swap(branches_);
  for (const std::shared_ptr<Branch>& branch : old) {
    for (const std::shared_ptr<Bucket>& bucket : branch->buckets) {
      if (bucket == nullptr) continue;
      const bool ours = branch->generation == generation_ &&
                        bucket->generation == generation_;
      for (SampleRecord& record : bucket->records) {
        const uint64_t hash = Hash(record.id);
        Bucket& to = WritableBucket(hash);
        to.tags.push_back(TagOf(hash));
        if (ours) {
          to.records.push_back(std::move(record));
        } else {
          to.records.push_back(record);
        }
      }
    }
  }
}

}  // namespace sluice::coordinator::reference
