#ifndef SLUICE_COORDINATOR_CORE_CATALOG_H_
#define SLUICE_COORDINATOR_CORE_CATALOG_H_

// Where samples are: (sample id, key) -> metadata, holders, owner. Soft state,
// rebuilt from the agents' inventories.

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/btree_set.h"
#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/container/inlined_vector.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/box.h"
#include "common/dtype.h"
#include "common/ids.h"
#include "common/plan.h"

namespace sluice::coordinator {

// Made for millions of entries: ids, keys and kinds of tensors are stored once,
// an entry is 72 bytes in its sample, and what an agent holds is kept by
// sample. Entries are numbered and never reused.
//
// Thread rule: not thread-safe; used inside Step() only.
//
// Invariants: every entry has a holder; its owner is one of its holders; a
// sample has an entry; held_[r] is the set of samples of which rank r holds an
// entry, and bytes_[r] the size of those entries.
class Catalog {
 public:
  using EntryId = uint64_t;

  struct Located {
    EntryId id = 0;
    SampleEntry entry;
    std::vector<Rank> holders;  // ascending
    Rank owner = kNoRank;
  };

  // What became of the entries of an agent that left.
  struct Loss {
    int64_t reowned = 0;
    // "sample/key" of entries nobody holds any more; the first few.
    std::vector<std::string> lost;
    int64_t num_lost = 0;
  };

  // What one agent has to drop.
  struct Drop {
    Rank rank = kNoRank;
    std::vector<std::string> sample_ids;
    std::vector<std::string> keys;  // empty: all
  };

  // Adds what a worker put on this agent, all or nothing. What is known with
  // equal metadata gets a holder; what is new gets its owner.
  // Errors: INVALID_ARGUMENT - metadata unlike what is known, an empty id or
  // key (named).
  absl::Status Put(Rank rank, const std::vector<SampleEntry>& entries);
  // Adds a holder of an entry that was moved there, or that it told of in its
  // inventory (`owned`: it was its first holder). Returns whether it was added;
  // not if the metadata differ from what is known.
  bool AddHolder(Rank rank, const SampleEntry& entry, bool owned);
  // Makes the agent's holdings what its complete inventory says: entries it
  // lost leave as in RemoveHolder. `conflicts` gets "sample/key" of entries
  // that were not added because their metadata differ from what is known.
  Loss SetHoldings(Rank rank, const std::vector<SampleEntry>& entries,
                   const std::vector<bool>& owned,
                   std::vector<std::string>* conflicts);
  // Takes the agent out of all its entries; the lowest other holder becomes
  // owner of what it owned. Costs as many steps as it holds entries.
  Loss RemoveHolder(Rank rank);

  // Returns one entry; NOT_FOUND names id and key.
  absl::StatusOr<Located> Find(const std::string& sample_id,
                               const std::string& key) const;
  // Returns all entries of the samples, in order of the request, keys sorted;
  // only the given keys unless there are none.
  // Errors: NOT_FOUND - names the first id or key that nobody has.
  absl::StatusOr<std::vector<Located>> Locate(
      const std::vector<std::string>& sample_ids,
      std::vector<std::string> keys) const;
  // Returns at most `count` ids after `after`, ascending.
  std::vector<std::string> List(const std::string& after, int64_t count) const;
  // Whether an id follows this one.
  bool HasAfter(const std::string& id) const;

  // Drops samples everywhere, or (keep_owners) from all but their owners;
  // unknown ids are skipped. Returns what each agent has to drop.
  std::vector<Drop> Clear(const std::vector<std::string>& sample_ids,
                          bool keep_owners, int64_t* dropped);

  bool Has(const std::string& sample_id) const {
    return samples_.contains(sample_id);
  }
  int64_t num_samples() const { return static_cast<int64_t>(samples_.size()); }
  int64_t num_tensors() const { return num_entries_; }
  int64_t BytesOf(Rank rank) const;

 private:
  using KeyId = uint32_t;
  using FormId = uint32_t;
  // What many entries have in common.
  using Form = std::pair<DType, Shape>;  // and trailing shape
  struct Entry {
    EntryId id = 0;
    absl::InlinedVector<int64_t, 2> sequence_lengths;
    absl::InlinedVector<Rank, 4> holders;  // ascending
    KeyId key = 0;
    FormId form = 0;
    Rank owner = kNoRank;

    bool HeldBy(Rank rank) const;
  };
  struct Sample {
    std::string id;
    std::vector<Entry> entries;  // by id
  };
  // A place of an entry; valid until the next change of its sample.
  struct Place {
    Sample* sample = nullptr;
    Entry* entry = nullptr;  // null: the sample has no such key
  };
  struct ById {
    using is_transparent = void;
    static const std::string& Id(const Sample* sample) { return sample->id; }
    static const std::string& Id(const std::string& id) { return id; }
    template <typename A, typename B>
    bool operator()(const A& a, const B& b) const {
      return Id(a) < Id(b);
    }
  };

  absl::Status CheckPut(const SampleEntry& entry) const;
  Place FindPlace(const std::string& sample_id, const std::string& key) const;
  int64_t SizeOf(const Entry& entry) const;
  SampleEntry Metadata(const Sample& sample, const Entry& entry) const;
  bool SameMetadata(const Entry& entry, const SampleEntry& other) const;
  Place Add(Sample* sample, const SampleEntry& like);
  Place AddHolderOf(Rank rank, const SampleEntry& entry, bool owned);
  Loss DropHeldExcept(Rank rank, const absl::flat_hash_set<EntryId>& kept);
  // Takes the entries of a sample but those kept from a rank that holds them;
  // erases those that nobody holds any more.
  void DropFromSample(Sample& sample, Rank rank,
                      const absl::flat_hash_set<EntryId>& kept, Loss& loss);
  void AddHolderTo(Sample& sample, Entry& entry, Rank rank);
  void DropHolderFrom(Entry& entry, Rank rank);
  // Sets what held_ says of a sample and a rank that dropped entries of it.
  void UpdateHeld(Sample& sample, Rank rank);
  // Erases entries without a holder, and the sample with its last one.
  void EraseUnheld(Sample& sample);

  EntryId last_entry_ = 0;
  int64_t num_entries_ = 0;
  // By id; the keys are the ids inside the samples.
  absl::flat_hash_map<absl::string_view, std::unique_ptr<Sample>> samples_;
  absl::btree_set<Sample*, ById> by_id_;
  std::vector<std::string> keys_;
  absl::flat_hash_map<std::string, KeyId> key_ids_;
  std::vector<Form> forms_;
  absl::flat_hash_map<Form, FormId> form_ids_;
  absl::flat_hash_map<Rank, absl::flat_hash_set<Sample*>> held_;
  absl::flat_hash_map<Rank, int64_t> bytes_;
};

}  // namespace sluice::coordinator

#endif  // SLUICE_COORDINATOR_CORE_CATALOG_H_
