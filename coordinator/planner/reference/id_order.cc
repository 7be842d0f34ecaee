#include "coordinator/planner/reference/id_order.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace sluice::coordinator::reference {
namespace {

constexpr size_t kPrefix = 8;  // bytes

size_t CommonPrefix(const std::vector<IdOrder::Entry>& entries) {
  const absl::string_view first = entries.front().id;
  size_t common = first.size();
  for (const IdOrder::Entry& entry : entries) {
    const absl::string_view id = entry.id;
    common = std::min(common, id.size());
    if (std::memcmp(first.data(), id.data(), common) == 0) continue;
    common = static_cast<size_t>(
        std::mismatch(first.begin(), first.end(), id.begin()).first -
        first.begin());
  }
  return common;
}

// Eight bytes from `skip` on as a number, the first most significant. What is
// beyond the end counts as zero; real zeros are told apart by the whole id.
uint64_t PrefixOf(absl::string_view id, size_t skip) {
  std::array<unsigned char, kPrefix> bytes{};
  std::memcpy(bytes.data(), id.data() + skip,
              std::min(kPrefix, id.size() - skip));
  uint64_t prefix = 0;
  for (const unsigned char byte : bytes) prefix = prefix << 8 | byte;
  return prefix;
}

bool Less(const IdOrder::Entry& a, const IdOrder::Entry& b) {
  if (a.prefix != b.prefix) return a.prefix < b.prefix;
  const int order = a.id.compare(b.id);
  return order != 0 ? order < 0 : a.group < b.group;
}

// Numbers the leading bytes of prefixes by the values that occur at each, in
// their order, as digits of one number that ascends with the prefix. Digits in
// hexadecimal then fill their buckets as evenly as any byte.
class BucketNumbers {
 public:
  explicit BucketNumbers(const std::vector<IdOrder::Entry>& entries) {
    std::array<std::array<bool, 256>, kPrefix> seen{};
    for (const IdOrder::Entry& entry : entries) {
      for (size_t i = 0; i < kPrefix; ++i) seen[i][ByteAt(entry, i)] = true;
    }
    while (depth_ < kPrefix && count_ < entries.size()) {
      size_t values = 0;
      for (size_t byte = 0; byte < 256; ++byte) {
        digits_[depth_][byte] = static_cast<uint32_t>(values);
        values += static_cast<size_t>(seen[depth_][byte]);
      }
      // As many buckets as that would cost more than sorting fuller ones.
      if (count_ * values > 8 * entries.size()) break;
      radix_[depth_++] = static_cast<uint32_t>(values);
      count_ *= values;
    }
  }

  size_t count() const { return count_; }
  size_t Of(const IdOrder::Entry& entry) const {
    size_t number = 0;
    for (size_t i = 0; i < depth_; ++i) {
      number = number * radix_[i] + digits_[i][ByteAt(entry, i)];
    }
    return number;
  }

 private:
  static size_t ByteAt(const IdOrder::Entry& entry, size_t i) {
    return entry.prefix >> (8 * (kPrefix - 1 - i)) & 0xff;
  }

  size_t depth_ = 0;  // bytes that count
  size_t count_ = 1;
  std::array<uint32_t, kPrefix> radix_{};
  std::array<std::array<uint32_t, 256>, kPrefix> digits_{};
};

}  // namespace

void IdOrder::Sort(std::vector<Entry>& entries) {
  if (entries.empty()) return;
  const size_t skip = CommonPrefix(entries);
  for (Entry& entry : entries) entry.prefix = PrefixOf(entry.id, skip);
  const BucketNumbers numbers(entries);
  std::vector<uint32_t> ends(numbers.count() + 1);  // begins while dealing
  for (const Entry& entry : entries) ++ends[numbers.Of(entry) + 1];
  for (size_t b = 1; b < ends.size(); ++b) ends[b] += ends[b - 1];
  std::vector<Entry> dealt(entries.size());
  for (const Entry& entry : entries) dealt[ends[numbers.Of(entry)]++] = entry;
  entries.swap(dealt);
  int64_t begin = 0;
  for (size_t b = 0; b < numbers.count(); ++b) {
    const int64_t end = ends[b];
    if (end - begin > 1) {
      std::sort(entries.begin() + begin, entries.begin() + end, Less);
    }
    begin = end;
  }
}

}  // namespace sluice::coordinator::reference
