#include "agent/nccl/lane_step.h"

#include <algorithm>
#include <cstring>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace sluice::agent {
namespace {

// As it travels: three words, then the marks.
constexpr size_t kWord = sizeof(int64_t);
constexpr size_t kHead = 3;

}  // namespace

std::string LaneCard::Encode() const {
  std::vector<int64_t> words = {done ? 1 : 0, shared ? 1 : 0,
                                static_cast<int64_t>(count)};
  for (const LaneMark& mark : ready) {
    words.insert(words.end(), {mark.sends, mark.receives});
  }
  return {reinterpret_cast<const char*>(words.data()), words.size() * kWord};
}

absl::StatusOr<LaneCard> LaneCard::Decode(absl::string_view bytes,
                                          int members) {
  const size_t expected = (kHead + 2 * static_cast<size_t>(members)) * kWord;
  if (bytes.size() != expected) {
    return absl::InvalidArgumentError(
        absl::StrCat("a member's card of messages: expected ", expected,
                     " bytes, found ", bytes.size()));
  }
  std::vector<int64_t> words(expected / kWord);
  std::memcpy(words.data(), bytes.data(), bytes.size());
  LaneCard card;
  card.done = words[0] != 0;
  card.shared = words[1] != 0;
  card.count = static_cast<uint64_t>(words[2]);
  for (size_t i = kHead; i < words.size(); i += 2) {
    card.ready.push_back({words[i], words[i + 1]});
  }
  return card;
}

LaneStep PlanLaneStep(int self, const std::vector<LaneCard>& cards) {
  LaneStep step;
  step.over = true;
  const size_t own = static_cast<size_t>(self);
  for (size_t m = 0; m < cards.size(); ++m) {
    step.over = step.over && cards[m].done;
    step.shared = step.shared || cards[m].shared;
    step.count = std::max(step.count, cards[m].count + 1);
    const LaneMark& mine = cards[own].ready[m];
    const LaneMark& theirs = cards[m].ready[own];
    step.until.push_back({std::min(mine.sends, theirs.receives),
                          std::min(mine.receives, theirs.sends)});
    for (size_t to = 0; to < cards.size(); ++to) {
      step.moved +=
          std::min(cards[m].ready[to].sends, cards[to].ready[m].receives);
    }
  }
  return step;
}

}  // namespace sluice::agent
