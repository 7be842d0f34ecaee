#include "coordinator/planner/reference/id_order.h"

#include <algorithm>

namespace sluice::coordinator::reference {
namespace {

size_t CommonPrefix(const std::vector<IdOrder::Entry>& entries) {
  const std::string& first = *entries.front().id;
  size_t common = first.size();
  for (const IdOrder::Entry& entry : entries) {
    const std::string& id = *entry.id;
    common = std::min(common, id.size());
    common = static_cast<size_t>(
        std::mismatch(first.begin(),
                      first.begin() + static_cast<int64_t>(common), id.begin())
            .first -
        first.begin());
  }
  return common;
}

}  // namespace

void IdOrder::Sort(std::vector<Entry>& entries) {
  if (entries.empty()) return;
  const size_t skip = CommonPrefix(entries);
  for (Entry& entry : entries) {
    // Eight bytes as a number, the first most significant. What is beyond the
    // end counts as zero; real zeros are told apart by the whole id below.
    for (size_t i = skip; i < skip + 8; ++i) {
      const auto byte = i < entry.id->size()
                            ? static_cast<unsigned char>((*entry.id)[i])
                            : static_cast<unsigned char>(0);
      entry.prefix = entry.prefix << 8 | byte;
    }
  }
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    if (a.prefix != b.prefix) return a.prefix < b.prefix;
    const int order = a.id->compare(*b.id);
    return order != 0 ? order < 0 : a.group < b.group;
  });
}

}  // namespace sluice::coordinator::reference
