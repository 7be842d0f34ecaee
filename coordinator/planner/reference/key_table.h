#ifndef SLUICE_COORDINATOR_PLANNER_REFERENCE_KEY_TABLE_H_
#define SLUICE_COORDINATOR_PLANNER_REFERENCE_KEY_TABLE_H_

// Keys and lists of keys, each stored once and known by a number. Ranks hold
// samples with the same few lists of keys, so a million holdings cost a number
// each.

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"

namespace sluice::coordinator::reference {

// A value: copying it is what keeps an older version. Not thread-safe while it
// changes.
class KeyTable {
 public:
  using Key = int32_t;   // in order of first use
  using List = int32_t;  // 0 is the empty list

  KeyTable() : lists_(1) {}

  // Returns the key's number, or -1.
  Key Find(absl::string_view name) const;
  // Returns the key's number, a new one if need be.
  Key Intern(absl::string_view name);
  const std::string& Name(Key key) const {
    return names_[static_cast<size_t>(key)];
  }

  // The keys of a list, in the order in which they were added.
  const std::vector<Key>& Keys(List list) const {
    return lists_[static_cast<size_t>(list)];
  }
  bool Contains(List list, Key key) const;
  // Returns the list with `key` at its end, or -1 if there is none yet; the
  // list itself if it has the key.
  List FindExtended(List list, Key key) const;
  // FindExtended(), which makes the list if need be.
  List Extend(List list, Key key);

 private:
  std::vector<std::string> names_;
  absl::flat_hash_map<std::string, Key> by_name_;
  std::vector<std::vector<Key>> lists_;
  absl::flat_hash_map<std::pair<List, Key>, List> extended_;
};

}  // namespace sluice::coordinator::reference

#endif  // SLUICE_COORDINATOR_PLANNER_REFERENCE_KEY_TABLE_H_
