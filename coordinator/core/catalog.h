#ifndef SLUICE_COORDINATOR_CORE_CATALOG_H_
#define SLUICE_COORDINATOR_CORE_CATALOG_H_

// Where samples are: (sample id, key) -> metadata, holders, owner. Soft state,
// rebuilt from the agents' inventories.

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/ids.h"
#include "common/plan.h"

namespace sluice::coordinator {

// Ids and keys are stored once; entries are numbered and never reused.
//
// Thread rule: not thread-safe; used inside Step() only.
//
// Invariants: every entry has a holder; its owner is one of its holders; a
// sample has an entry; held_[r] is the set of entries that rank r holds, and
// bytes_[r] their size.
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
  int64_t num_tensors() const { return static_cast<int64_t>(entries_.size()); }
  int64_t BytesOf(Rank rank) const;

 private:
  using KeyId = uint32_t;
  struct Entry {
    const std::string* sample_id = nullptr;  // key of samples_
    KeyId key = 0;
    DType dtype = DType::kUnspecified;
    std::vector<int64_t> sequence_lengths;
    Shape trailing_shape;
    int64_t bytes = 0;
    std::vector<Rank> holders;  // ascending
    Rank owner = kNoRank;
  };
  // Entries of one sample by key.
  using SampleKeys = std::vector<std::pair<KeyId, EntryId>>;

  absl::Status CheckPut(const SampleEntry& entry) const;
  const Entry* FindEntry(const SampleEntry& like, EntryId* id) const;
  static bool SameMetadata(const Entry& entry, const SampleEntry& other);
  Entry& Add(const SampleEntry& like, EntryId* id);
  // Returns the id; 0 if the metadata differ.
  EntryId AddHolderOf(Rank rank, const SampleEntry& entry, bool owned);
  Loss DropHeldExcept(Rank rank, const absl::flat_hash_set<EntryId>& kept);
  void AddHolderTo(Entry& entry, EntryId id, Rank rank);
  void DropHolderFrom(Entry& entry, EntryId id, Rank rank);
  void EraseEntry(EntryId id);
  Located Describe(EntryId id, const Entry& entry) const;

  EntryId last_entry_ = 0;
  // Node-stable: entries point at its keys.
  std::map<std::string, SampleKeys> samples_;
  absl::flat_hash_map<EntryId, Entry> entries_;
  std::vector<std::string> keys_;
  absl::flat_hash_map<std::string, KeyId> key_ids_;
  absl::flat_hash_map<Rank, absl::flat_hash_set<EntryId>> held_;
  absl::flat_hash_map<Rank, int64_t> bytes_;
};

}  // namespace sluice::coordinator

#endif  // SLUICE_COORDINATOR_CORE_CATALOG_H_
