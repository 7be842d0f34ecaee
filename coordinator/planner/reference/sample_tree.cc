#include "coordinator/planner/reference/sample_tree.h"

#include <algorithm>
#include <utility>

#include "absl/hash/hash.h"

namespace sluice::coordinator::reference {
namespace {

constexpr size_t kNumBuckets = size_t{1} << 8;  // of a branch
// The tree grows fourfold at this many records per bucket.
constexpr int64_t kMaxPerBucket = 16;

// Asks for lines of memory, here the first `bytes` at `data`.
void Prefetch(const void* data, size_t bytes) {
  constexpr size_t kLine = 64;
  if (bytes == 0) return;
  const char* const begin = static_cast<const char*>(data);
  for (size_t at = 0; at < bytes; at += kLine) __builtin_prefetch(begin + at);
  __builtin_prefetch(begin + bytes - 1);  // begin may be within a line
}
size_t BucketOf(uint64_t hash) { return hash % kNumBuckets; }
uint32_t TagOf(uint64_t hash) { return static_cast<uint32_t>(hash >> 32); }

}  // namespace

uint64_t SampleTreeView::Hash(absl::string_view id) {
  return absl::Hash<absl::string_view>()(id);
}

int SampleTreeView::FindTag(const Bucket& bucket, uint64_t hash, size_t from) {
  const uint32_t tag = TagOf(hash);
  for (size_t i = from; i < bucket.tags.size(); ++i) {
    if (bucket.tags[i] == tag) return static_cast<int>(i);
  }
  return -1;
}

int SampleTreeView::FindIn(const Bucket& bucket, uint64_t hash,
                           absl::string_view id) {
  int i = FindTag(bucket, hash, 0);
  while (i >= 0 && bucket.records[static_cast<size_t>(i)].id() != id) {
    i = FindTag(bucket, hash, static_cast<size_t>(i) + 1);
  }
  return i;
}

const SampleTreeView::Bucket* SampleTreeView::BucketFor(uint64_t hash) const {
  if (branches_.empty()) return nullptr;
  return branches_[(hash >> kBranchBits) & (branches_.size() - 1)]
      ->buckets[BucketOf(hash)]
      .get();
}

const SampleRecord* SampleTreeView::Find(absl::string_view id) const {
  const uint64_t hash = Hash(id);
  const Bucket* bucket = BucketFor(hash);
  const int i = bucket == nullptr ? -1 : FindIn(*bucket, hash, id);
  return i < 0 ? nullptr : &bucket->records[static_cast<size_t>(i)];
}

void SampleTreeView::FindAll(absl::Span<const absl::string_view> ids,
                             absl::Span<const SampleRecord*> found) const {
  // A block passes through each step before the next, so that what a step
  // waits for was asked for a block ago.
  constexpr size_t kBlock = 16;
  std::fill(found.begin(), found.end(), nullptr);
  std::array<uint64_t, kBlock> hashes{};
  std::array<const Bucket*, kBlock> buckets{};
  for (size_t first = 0; first < ids.size(); first += kBlock) {
    const size_t count = std::min(kBlock, ids.size() - first);
    for (size_t i = 0; i < count; ++i) {
      hashes[i] = Hash(ids[first + i]);
      buckets[i] = BucketFor(hashes[i]);
      if (buckets[i] != nullptr) Prefetch(buckets[i], sizeof(Bucket));
    }
    for (size_t i = 0; i < count; ++i) {
      const int at =
          buckets[i] == nullptr ? -1 : FindTag(*buckets[i], hashes[i], 0);
      if (at < 0) continue;
      found[first + i] = &buckets[i]->records[static_cast<size_t>(at)];
      Prefetch(found[first + i], sizeof(SampleRecord));
    }
    for (size_t i = 0; i < count; ++i) {
      if (found[first + i] == nullptr ||
          found[first + i]->id() == ids[first + i])
        continue;  // most often the first with the tag
      const int at = FindIn(*buckets[i], hashes[i], ids[first + i]);
      found[first + i] =
          at < 0 ? nullptr : &buckets[i]->records[static_cast<size_t>(at)];
    }
  }
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
  made.name.assign(id.begin(), id.end());
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
        const uint64_t hash = Hash(record.id());
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
