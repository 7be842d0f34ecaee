#ifndef SLUICE_COORDINATOR_PLANNER_REFERENCE_WANTED_SAMPLES_H_
#define SLUICE_COORDINATOR_PLANNER_REFERENCE_WANTED_SAMPLES_H_

// A redistribution's question in numbers: samples by id, keys as requested.
// What a planner reads of every sample stands in columns; the rest stays in the
// storage's records until somebody asks.

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "common/ids.h"
#include "coordinator/planner/planner_inputs.h"
#include "coordinator/planner/rank_sets.h"
#include "coordinator/planner/reference/id_order.h"
#include "coordinator/planner/reference/key_table.h"
#include "coordinator/planner/reference/redistribution_request.h"
#include "coordinator/planner/reference/sample_tree.h"
#include "coordinator/planner/reference/storage_tracker.h"

namespace sluice::coordinator::reference {

// Not thread-safe. What it was made of must outlive it; spans and records are
// valid as long as it.
class WantedSamples {
 public:
  WantedSamples(const StorageSnapshot& storage,
                const RedistributionRequest& request);
  WantedSamples(const WantedSamples&) = delete;
  WantedSamples& operator=(const WantedSamples&) = delete;

  // Reads everything; call it first and once.
  // Errors: as PlanGatherScatter().
  absl::Status Read();

  size_t num_samples() const { return ids_.size(); }
  size_t num_keys() const { return keys_.size(); }
  RankSets& sets() { return sets_; }
  // By sample: 0, 1, 2, ...; who wants it (never nobody); where it is.
  absl::Span<const int32_t> samples() const { return samples_; }
  absl::Span<const RankSets::Id> wanted() const { return wanted_; }
  const SampleRecord& record(size_t sample) const { return *records_[sample]; }
  // By sample: the rank that owns it.
  absl::Span<const int32_t> owners(size_t key) const { return owners_[key]; }

  // Whether all that want the samples have the key of them.
  bool Satisfied(size_t key) const;
  // Whether the rank has the key of all samples.
  bool HasAll(size_t key, Rank rank) const;
  // The set of ranks that hold each key of the sample, valid until the next
  // call.
  absl::Span<const RankSets::Id> HoldersOf(size_t sample);

  // Moves the samples' ids out, ascending.
  std::vector<std::string> TakeIds() { return std::move(names_); }

 private:
  absl::Status ReadKeys();
  absl::Status ReadGroups();
  absl::Status ReadWants();
  // Number the wanted samples and who wants each.
  absl::Status NumberSamples(const std::vector<IdOrder::Entry>& wants);
  // Finds samples [first, first + count) and notes who owns what of them.
  absl::Status ReadBlock(size_t first, size_t count);
  absl::Status NoOwner(size_t sample, absl::Span<const int32_t> owners) const;
  // Whether all that want the sample have the key of it.
  bool Satisfied(size_t key, size_t sample) const;
  // Returns the key's position in the request, or -1.
  int32_t PositionOf(KeyTable::Key key) const;
  // Interns a set that is mostly one rank, or the one asked for before.
  RankSets::Id SetOf(const std::vector<Rank>& ranks);

  const StorageSnapshot& storage_;
  const RedistributionRequest& request_;
  const Topology topology_;
  RankSets sets_;
  std::vector<KeyTable::Key> keys_;   // of the storage; -1: it has none such
  std::vector<int32_t> position_of_;  // by key of the storage: in the request
  std::vector<RankSets::Id> group_sets_;  // by group
  // By sample.
  std::vector<absl::string_view> ids_;
  std::vector<std::string> names_;  // the same, our own
  std::vector<int32_t> samples_;
  std::vector<RankSets::Id> wanted_;
  std::vector<const SampleRecord*> records_;
  std::vector<std::vector<int32_t>> owners_;  // by key
  std::vector<int32_t> block_;  // owners of a few samples, by sample and key
  // What HoldersOf() and SetOf() were asked last.
  const SampleRecord* last_record_ = nullptr;
  std::vector<RankSets::Id> holders_;
  std::vector<std::vector<Rank>> ranks_of_key_;
  std::vector<Rank> last_ranks_;
  RankSets::Id last_set_ = -1;
  std::vector<RankSets::Id> alone_;  // by rank: the set of it alone, or -1
};

}  // namespace sluice::coordinator::reference

#endif  // SLUICE_COORDINATOR_PLANNER_REFERENCE_WANTED_SAMPLES_H_
