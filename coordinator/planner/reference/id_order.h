#ifndef SLUICE_COORDINATOR_PLANNER_REFERENCE_ID_ORDER_H_
#define SLUICE_COORDINATOR_PLANNER_REFERENCE_ID_ORDER_H_

// Sorting many sample ids.

#include <cstdint>
#include <vector>

#include "absl/strings/string_view.h"

namespace sluice::coordinator::reference {

// Ids mostly differ within eight bytes after what they have in common, so that
// comparing one number replaces comparing strings somewhere else in memory, and
// the first few of these bytes deal them into buckets of about one.
struct IdOrder {
  struct Entry {
    uint64_t prefix = 0;  // set by Sort()
    absl::string_view id;
    int32_t group = 0;
  };

  // Sorts by id, bytewise, then by group.
  static void Sort(std::vector<Entry>& entries);
  // Whether two sorted entries have the same id.
  static bool Same(const Entry& a, const Entry& b) {
    return a.prefix == b.prefix && a.id == b.id;
  }
};

}  // namespace sluice::coordinator::reference

#endif  // SLUICE_COORDINATOR_PLANNER_REFERENCE_ID_ORDER_H_
