#include "coordinator/planner/transfer_assembly.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "coordinator/planner/atoms.h"
#include "coordinator/planner/tensor_runs.h"

namespace sluice::coordinator {
namespace {

// Pieces of equal box with all their tensors.
struct Bundle {
  Box box;
  PositionRanges ranges;
  std::vector<int32_t> drafts;
};

class Assembler {
 public:
  Assembler(const Topology& topology, const std::vector<GeometryPair>& pairs,
            const std::vector<Piece>& pieces, absl::Span<const Draft> drafts)
      : topology_(topology),
        pairs_(pairs),
        pieces_(pieces),
        drafts_(drafts),
        transfer_of_draft_(drafts.size(), -1) {}

  std::vector<Transfer> Run() {
    int32_t rounds = 0;
    for (const Draft& d : drafts_) rounds = std::max(rounds, d.round + 1);
    transfers_.reserve(drafts_.size());
    for (int32_t round = 0; round < rounds; ++round) AssembleRound(round);
    OrderAndNumber(topology_.num_ranks(), transfers_);
    return std::move(transfers_);
  }

 private:
  // Drafts of equal way may travel in one transfer.
  struct Keyed {
    uint64_t high = 0;  // pair, source
    uint64_t low = 0;   // destination, parent's transfer
    int32_t draft = 0;

    friend auto operator<=>(const Keyed&, const Keyed&) = default;
    bool SameWay(const Keyed& other) const {
      return high == other.high && low == other.low;
    }
  };

  const Draft& draft(int32_t i) const {
    return drafts_[static_cast<size_t>(i)];
  }
  const Piece& PieceOf(int32_t draft_index) const {
    return pieces_[static_cast<size_t>(draft(draft_index).piece)];
  }
  static uint64_t Packed(int32_t a, int32_t b) {
    return (static_cast<uint64_t>(static_cast<uint32_t>(a)) << 32) |
           static_cast<uint32_t>(b);
  }
  int32_t ParentTransfer(const Draft& d) const {
    return d.parent < 0 ? -1
                        : transfer_of_draft_[static_cast<size_t>(d.parent)];
  }

  void AssembleRound(int32_t round) {
    std::vector<Keyed> order;
    for (size_t i = 0; i < drafts_.size(); ++i) {
      const Draft& d = drafts_[i];
      if (d.round != round) continue;
      const int32_t pair = pieces_[static_cast<size_t>(d.piece)].pair;
      order.push_back({Packed(pair, d.source.value()),
                       Packed(d.destination.value(), ParentTransfer(d) + 1),
                       static_cast<int32_t>(i)});
    }
    std::sort(order.begin(), order.end());
    std::vector<int32_t> group;
    for (size_t begin = 0; begin < order.size();) {
      group.clear();
      size_t end = begin;
      for (; end < order.size() && order[end].SameWay(order[begin]); ++end) {
        group.push_back(order[end].draft);
      }
      Join(group, round);
      begin = end;
    }
  }

  // Joins drafts that go the same way: first over tensors, then over boxes.
  void Join(std::vector<int32_t>& group, int32_t round) {
    if (group.size() == 1) {
      const Piece& piece = PieceOf(group[0]);
      Emit(group, piece.box, {{piece.first, piece.last}}, round);
      return;
    }
    std::sort(group.begin(), group.end(), [this](int32_t a, int32_t b) {
      const Piece& x = PieceOf(a);
      const Piece& y = PieceOf(b);
      return std::tie(x.box, x.first) < std::tie(y.box, y.first);
    });
    std::vector<Bundle> bundles;
    for (const int32_t i : group) {
      const Piece& piece = PieceOf(i);
      if (bundles.empty() || bundles.back().box != piece.box) {
        bundles.push_back({piece.box, {}, {}});
      }
      Bundle& bundle = bundles.back();
      bundle.drafts.push_back(i);
      if (!bundle.ranges.empty() &&
          bundle.ranges.back().second == piece.first) {
        bundle.ranges.back().second = piece.last;
      } else {
        bundle.ranges.emplace_back(piece.first, piece.last);
      }
    }
    std::stable_sort(
        bundles.begin(), bundles.end(),
        [](const Bundle& a, const Bundle& b) { return a.ranges < b.ranges; });
    for (size_t begin = 0; begin < bundles.size();) {
      size_t end = begin + 1;
      while (end < bundles.size() &&
             bundles[end].ranges == bundles[begin].ranges) {
        ++end;
      }
      JoinBoxes(absl::MakeConstSpan(bundles).subspan(begin, end - begin),
                round);
      begin = end;
    }
  }

  // Bundles of the same tensors, of several boxes.
  void JoinBoxes(absl::Span<const Bundle> bundles, int32_t round) {
    std::vector<Box> boxes;
    for (const Bundle& bundle : bundles) boxes.push_back(bundle.box);
    for (const MergedBox& merged : MergeBoxes(boxes)) {
      std::vector<int32_t> drafts;
      for (const int32_t part : merged.parts) {
        const Bundle& bundle = bundles[static_cast<size_t>(part)];
        drafts.insert(drafts.end(), bundle.drafts.begin(), bundle.drafts.end());
      }
      Emit(drafts, merged.box, bundles[0].ranges, round);
    }
  }

  // Makes one transfer of these drafts, which go the same way.
  void Emit(const std::vector<int32_t>& drafts, const Box& box,
            const PositionRanges& ranges, int32_t round) {
    for (const int32_t i : drafts) {
      transfer_of_draft_[static_cast<size_t>(i)] =
          static_cast<int32_t>(transfers_.size());
    }
    const Draft& like = draft(drafts[0]);
    const int32_t list = PieceOf(drafts[0]).pair;
    const GeometryPair& pair = pairs_[static_cast<size_t>(list)];
    Transfer& transfer = transfers_.emplace_back();
    transfer.round = round;
    transfer.source = like.source;
    transfer.destination = like.destination;
    transfer.kind = like.source == like.destination ? TransferKind::kLocalCopy
                                                    : TransferKind::kSendRecv;
    transfer.link = topology_.Between(like.source, like.destination);
    transfer.destination_placement = pair.destination_placement;
    if (like.parent >= 0) {
      transfer.reads_after = static_cast<uint32_t>(ParentTransfer(like));
    }
    int64_t count = 0;
    for (const auto& [first, last] : ranges) count += last - first;
    transfer.wire_dtype = pair.wire_dtype;
    transfer.bytes = box.num_elements() * ByteSize(pair.wire_dtype) * count;
    transfer.params = {box, runs_.Runs(list, pair.tensors, ranges)};
  }

  const Topology& topology_;
  const std::vector<GeometryPair>& pairs_;
  const std::vector<Piece>& pieces_;
  const absl::Span<const Draft> drafts_;
  std::vector<int32_t> transfer_of_draft_;
  RunTable runs_;
  std::vector<Transfer> transfers_;
};

// Where a transfer stands in the plan: by round, relayed ones first, then by
// step of the rotation, destination and placement; equals as they came.
struct OrderKey {
  uint64_t high = 0;
  uint64_t low = 0;
  uint32_t position = 0;
  friend auto operator<=>(const OrderKey&, const OrderKey&) = default;
};

OrderKey KeyOf(const Transfer& t, bool relayed, int32_t num_ranks,
               uint32_t position) {
  const int32_t shift =
      (t.source.value() - t.destination.value() + num_ranks) % num_ranks;
  const auto round = static_cast<uint64_t>(static_cast<uint32_t>(t.round));
  return {
      (round << 33) | (uint64_t{!relayed} << 32) | static_cast<uint32_t>(shift),
      (static_cast<uint64_t>(static_cast<uint32_t>(t.destination.value()))
       << 32) |
          static_cast<uint32_t>(t.destination_placement),
      position};
}

// Puts item order[i].position at i, with one item in hand.
void Permute(const std::vector<OrderKey>& order,
             std::vector<Transfer>& transfers) {
  std::vector<char> placed(transfers.size());
  for (size_t start = 0; start < transfers.size(); ++start) {
    if (placed[start] || order[start].position == start) continue;
    Transfer in_hand = std::move(transfers[start]);
    size_t at = start;
    while (true) {
      placed[at] = 1;
      const size_t from = order[at].position;
      if (from == start) break;
      transfers[at] = std::move(transfers[from]);
      at = from;
    }
    transfers[at] = std::move(in_hand);
  }
}

}  // namespace

std::vector<Transfer> AssembleTransfers(const Topology& topology,
                                        const std::vector<GeometryPair>& pairs,
                                        const std::vector<Piece>& pieces,
                                        absl::Span<const Draft> drafts) {
  return Assembler(topology, pairs, pieces, drafts).Run();
}

void OrderAndNumber(int32_t num_ranks, std::vector<Transfer>& transfers) {
  std::vector<char> relayed(transfers.size());
  for (const Transfer& transfer : transfers) {
    if (transfer.reads_after) relayed[*transfer.reads_after] = 1;
  }
  std::vector<OrderKey> order;
  order.reserve(transfers.size());
  for (size_t i = 0; i < transfers.size(); ++i) {
    order.push_back(KeyOf(transfers[i], relayed[i] != 0, num_ranks,
                          static_cast<uint32_t>(i)));
  }
  std::sort(order.begin(), order.end());
  std::vector<uint32_t> id_of(transfers.size());
  for (size_t i = 0; i < order.size(); ++i) {
    id_of[order[i].position] = static_cast<uint32_t>(i);
  }
  Permute(order, transfers);
  for (size_t i = 0; i < transfers.size(); ++i) {
    transfers[i].id = static_cast<uint32_t>(i);
    if (transfers[i].reads_after) {
      transfers[i].reads_after = id_of[*transfers[i].reads_after];
    }
  }
}

}  // namespace sluice::coordinator
