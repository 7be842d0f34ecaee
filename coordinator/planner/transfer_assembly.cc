#include "coordinator/planner/transfer_assembly.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "coordinator/planner/atoms.h"

namespace sluice::coordinator {
namespace {

using Range = std::pair<int32_t, int32_t>;  // [first, last)

// Drafts of equal box with all their tensors.
struct Bundle {
  Box box;
  std::vector<Range> ranges;  // ascending, not touching
  std::vector<int32_t> drafts;
};

class Assembler {
 public:
  Assembler(const ModelSpec& model, const Topology& topology,
            const std::vector<GeometryPair>& pairs,
            const std::vector<Draft>& drafts)
      : model_(model),
        topology_(topology),
        pairs_(pairs),
        drafts_(drafts),
        transfer_of_draft_(drafts.size(), -1) {}

  std::vector<Transfer> Run() {
    AssembleRound(0);
    AssembleRound(1);
    OrderAndNumber(topology_.num_ranks(), transfers_);
    return std::move(transfers_);
  }

 private:
  const Draft& draft(int32_t i) const {
    return drafts_[static_cast<size_t>(i)];
  }
  int32_t ParentTransfer(const Draft& d) const {
    return d.parent < 0 ? -1
                        : transfer_of_draft_[static_cast<size_t>(d.parent)];
  }
  // Drafts of equal key may travel in one transfer.
  auto KeyOf(const Draft& d) const {
    return std::make_tuple(d.pair, d.source, d.destination, ParentTransfer(d));
  }

  void AssembleRound(int32_t round) {
    std::vector<int32_t> order;
    for (size_t i = 0; i < drafts_.size(); ++i) {
      if ((drafts_[i].parent >= 0) == (round == 1)) {
        order.push_back(static_cast<int32_t>(i));
      }
    }
    std::sort(order.begin(), order.end(), [this](int32_t a, int32_t b) {
      const auto key_a = KeyOf(draft(a));
      const auto key_b = KeyOf(draft(b));
      if (key_a != key_b) return key_a < key_b;
      return std::tie(draft(a).box, draft(a).first) <
             std::tie(draft(b).box, draft(b).first);
    });
    for (size_t begin = 0; begin < order.size();) {
      size_t end = begin;
      while (end < order.size() &&
             KeyOf(draft(order[end])) == KeyOf(draft(order[begin]))) {
        ++end;
      }
      Join(absl::MakeConstSpan(order).subspan(begin, end - begin), round);
      begin = end;
    }
  }

  // Joins drafts that go the same way: first over tensors, then over boxes.
  void Join(absl::Span<const int32_t> drafts, int32_t round) {
    std::vector<Bundle> bundles;
    for (const int32_t i : drafts) {
      const Draft& d = draft(i);
      if (bundles.empty() || bundles.back().box != d.box) {
        bundles.push_back({d.box, {}, {}});
      }
      Bundle& bundle = bundles.back();
      bundle.drafts.push_back(i);
      if (!bundle.ranges.empty() && bundle.ranges.back().second == d.first) {
        bundle.ranges.back().second = d.last;
      } else {
        bundle.ranges.emplace_back(d.first, d.last);
      }
    }
    std::stable_sort(
        bundles.begin(), bundles.end(),
        [](const Bundle& a, const Bundle& b) { return a.ranges < b.ranges; });
    for (size_t begin = 0; begin < bundles.size();) {
      std::vector<Box> boxes;
      size_t end = begin;
      for (;
           end < bundles.size() && bundles[end].ranges == bundles[begin].ranges;
           ++end) {
        boxes.push_back(bundles[end].box);
      }
      for (const MergedBox& merged : MergeBoxes(boxes)) {
        for (const int32_t part : merged.parts) {
          for (const int32_t i :
               bundles[begin + static_cast<size_t>(part)].drafts) {
            transfer_of_draft_[static_cast<size_t>(i)] =
                static_cast<int32_t>(transfers_.size());
          }
        }
        Emit(draft(drafts[0]), merged.box, bundles[begin].ranges, round);
      }
      begin = end;
    }
  }

  void Emit(const Draft& like, const Box& box, const std::vector<Range>& ranges,
            int32_t round) {
    const GeometryPair& pair = pairs_[static_cast<size_t>(like.pair)];
    std::vector<TensorIndex> tensors;
    for (const auto& [first, last] : ranges) {
      tensors.insert(tensors.end(), pair.tensors.begin() + first,
                     pair.tensors.begin() + last);
    }
    Transfer& transfer = transfers_.emplace_back();
    transfer.round = round;
    transfer.source = like.source;
    transfer.destination = like.destination;
    transfer.kind = like.source == like.destination ? TransferKind::kLocalCopy
                                                    : TransferKind::kSendRecv;
    transfer.link = topology_.Between(like.source, like.destination);
    transfer.destination_placement = pair.destination_placement;
    if (round == 1) {
      transfer.reads_after = static_cast<uint32_t>(ParentTransfer(like));
    }
    transfer.bytes = box.num_elements() *
                     ByteSize(model_.tensor(tensors[0]).dtype) *
                     static_cast<int64_t>(tensors.size());
    transfer.params = {box, CompressTensors(tensors)};
  }

  const ModelSpec& model_;
  const Topology& topology_;
  const std::vector<GeometryPair>& pairs_;
  const std::vector<Draft>& drafts_;
  std::vector<int32_t> transfer_of_draft_;
  std::vector<Transfer> transfers_;
};

// Where a transfer stands in its round.
auto OrderKey(const Transfer& t, bool relayed, int32_t num_ranks) {
  const int32_t shift =
      (t.source.value() - t.destination.value() + num_ranks) % num_ranks;
  return std::make_tuple(t.round, !relayed, shift, t.destination,
                         t.destination_placement);
}

}  // namespace

std::vector<Transfer> AssembleTransfers(const ModelSpec& model,
                                        const Topology& topology,
                                        const std::vector<GeometryPair>& pairs,
                                        const std::vector<Draft>& drafts) {
  return Assembler(model, topology, pairs, drafts).Run();
}

void OrderAndNumber(int32_t num_ranks, std::vector<Transfer>& transfers) {
  std::vector<char> relayed(transfers.size());
  for (const Transfer& transfer : transfers) {
    if (transfer.reads_after) relayed[*transfer.reads_after] = 1;
  }
  std::vector<uint32_t> order(transfers.size());
  for (size_t i = 0; i < order.size(); ++i) {
    order[i] = static_cast<uint32_t>(i);
  }
  std::stable_sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) {
    return OrderKey(transfers[a], relayed[a] != 0, num_ranks) <
           OrderKey(transfers[b], relayed[b] != 0, num_ranks);
  });
  std::vector<uint32_t> id_of(transfers.size());
  std::vector<Transfer> ordered;
  ordered.reserve(transfers.size());
  for (const uint32_t i : order) {
    id_of[i] = static_cast<uint32_t>(ordered.size());
    ordered.push_back(std::move(transfers[i]));
    ordered.back().id = id_of[i];
  }
  for (Transfer& transfer : ordered) {
    if (transfer.reads_after) {
      transfer.reads_after = id_of[*transfer.reads_after];
    }
  }
  transfers = std::move(ordered);
}

}  // namespace sluice::coordinator
