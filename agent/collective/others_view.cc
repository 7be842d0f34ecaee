#include "agent/collective/others_view.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "agent/collective/group_board.h"
#include "common/status_macros.h"

namespace sluice::agent {

std::vector<int> OthersView::NotMet() const {
  std::vector<int> out = node_.NotMet();
  if (net_ != nullptr) {
    const std::vector<int> far = net_->NotMet();
    out.insert(out.end(), far.begin(), far.end());
  }
  std::sort(out.begin(), out.end());
  return out;
}

absl::Status OthersView::Failure() const {
  for (const int m : node_.near()) {
    const GroupBoard* board = node_.board(m);
    if (board == nullptr) continue;
    SLUICE_RETURN_IF_ERROR(board->failure());
  }
  return net_ == nullptr ? absl::OkStatus() : net_->failure();
}

absl::Status OthersView::Gone() const {
  for (const int m : node_.near()) {
    if (node_.Gone(m)) {
      return absl::UnavailableError(
          absl::StrCat(MemberName(members_, m), " is gone"));
    }
  }
  return absl::OkStatus();
}

std::vector<int> OthersView::WithoutHeader(uint64_t ordinal) const {
  std::vector<int> out;
  for (const int m : node_.near()) {
    if (node_.board(m)->shown_call() < ordinal) out.push_back(m);
  }
  if (net_ != nullptr) {
    for (const int m : net_->far()) {
      if (net_->header(m) == nullptr) out.push_back(m);
    }
  }
  std::sort(out.begin(), out.end());
  return out;
}

std::vector<CallHeaderView> OthersView::Headers() const {
  const int size = static_cast<int>(members_.peers.size());
  std::vector<CallHeaderView> out(members_.peers.size());
  const auto set = [&](int m, const void* block) {
    out[static_cast<size_t>(m)] = ViewCallHeader(block, size);
  };
  set(members_.self, node_.own().header_block());
  for (const int m : node_.near()) set(m, node_.board(m)->header_block());
  if (net_ != nullptr) {
    for (const int m : net_->far()) set(m, net_->header(m));
  }
  return out;
}

std::vector<int> OthersView::NotFinished(uint64_t ordinal) const {
  std::vector<int> out;
  for (const int m : node_.near()) {
    if (node_.board(m)->finished() < ordinal) out.push_back(m);
  }
  if (net_ != nullptr) {
    for (const int m : net_->far()) {
      if (net_->finished(m) < ordinal) out.push_back(m);
    }
  }
  std::sort(out.begin(), out.end());
  return out;
}

bool OthersView::EverybodyFinished(uint64_t ordinal) const {
  for (const int m : node_.near()) {
    if (node_.board(m)->completed() >= ordinal) return true;
  }
  if (net_ != nullptr) {
    for (const int m : net_->far()) {
      if (net_->completed(m) >= ordinal) return true;
    }
  }
  return NotFinished(ordinal).empty();
}

uint64_t OthersView::Moved() const {
  uint64_t sum = node_.own().moved();
  for (const int m : node_.near()) {
    const GroupBoard& board = *node_.board(m);
    sum += board.moved() + board.shown_call() + board.finished();
  }
  if (net_ == nullptr) return sum;
  for (const int m : net_->far()) {
    sum += net_->finished(m) + (net_->header(m) != nullptr ? 1 : 0);
  }
  return sum;
}

StallWatch::Told OthersView::Told() const {
  StallWatch::Told out(members_.peers.size());
  const auto set = [&out](int m, uint64_t stalls) {
    out[static_cast<size_t>(m)] = stalls;
  };
  for (const int m : node_.near()) set(m, node_.board(m)->stalls());
  if (net_ != nullptr) {
    for (const int m : net_->far()) set(m, net_->stalls(m));
  }
  return out;
}

bool OthersView::NodeIsQuiet() const {
  return std::none_of(node_.near().begin(), node_.near().end(), [this](int m) {
    const GroupBoard* board = node_.board(m);
    return board != nullptr && board->reading() && !node_.Gone(m);
  });
}

}  // namespace sluice::agent
