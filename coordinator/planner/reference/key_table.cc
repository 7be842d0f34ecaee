#include "coordinator/planner/reference/key_table.h"

#include <algorithm>

namespace sluice::coordinator::reference {

KeyTable::Key KeyTable::Find(absl::string_view name) const {
  const auto it = by_name_.find(name);
  return it == by_name_.end() ? -1 : it->second;
}

KeyTable::Key KeyTable::Intern(absl::string_view name) {
  const auto [it, inserted] =
      by_name_.try_emplace(name, static_cast<Key>(names_.size()));
  if (inserted) names_.emplace_back(name);
  return it->second;
}

bool KeyTable::Contains(List list, Key key) const {
  const std::vector<Key>& keys = Keys(list);
  return std::find(keys.begin(), keys.end(), key) != keys.end();
}

KeyTable::List KeyTable::FindExtended(List list, Key key) const {
  if (Contains(list, key)) return list;
  const auto it = extended_.find({list, key});
  return it == extended_.end() ? -1 : it->second;
}

KeyTable::List KeyTable::Extend(List list, Key key) {
  const List found = FindExtended(list, key);
  if (found >= 0) return found;
  const auto made = static_cast<List>(lists_.size());
  std::vector<Key> keys = Keys(list);
  keys.push_back(key);
  lists_.push_back(std::move(keys));
  extended_.emplace(std::make_pair(list, key), made);
  return made;
}

}  // namespace sluice::coordinator::reference
