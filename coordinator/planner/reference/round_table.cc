#include "coordinator/planner/reference/round_table.h"

#include <algorithm>
#include <bit>

namespace sluice::coordinator::reference {

int32_t RoundTable::Place(absl::Span<const int32_t> ranks) {
  numbers_.clear();
  for (const int32_t rank : ranks) {
    const auto [it, inserted] =
        number_of_.try_emplace(rank, static_cast<int32_t>(busy_.size()));
    if (inserted) busy_.emplace_back();
    numbers_.push_back(it->second);
  }
  size_t word = 0;
  uint64_t busy = 0;
  for (;; ++word) {
    busy = 0;
    for (const int32_t n : numbers_) {
      const std::vector<uint64_t>& bits = busy_[static_cast<size_t>(n)];
      if (word < bits.size()) busy |= bits[word];
    }
    if (~busy != 0) break;
  }
  const int bit = std::countr_one(busy);
  for (const int32_t n : numbers_) {
    std::vector<uint64_t>& bits = busy_[static_cast<size_t>(n)];
    if (bits.size() <= word) bits.resize(word + 1);
    bits[word] |= uint64_t{1} << bit;
  }
  const auto round = static_cast<int32_t>(word * 64) + bit;
  num_rounds_ = std::max(num_rounds_, round + 1);
  return round;
}

}  // namespace sluice::coordinator::reference
