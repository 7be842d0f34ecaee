#include "tools/quickstart/plan_work.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/box.h"
#include "common/status_macros.h"

namespace sluice::quickstart {
namespace {

// The parts of `box` outside `other`: at most two per dimension.
std::vector<Box> Subtract(Box box, const Box& other) {
  if (!box.Intersect(other).has_value()) return {std::move(box)};
  std::vector<Box> parts;
  for (int d = 0; d < box.rank(); ++d) {
    const Interval cut = other.dim(d);
    if (box.dim(d).lo < cut.lo) {
      parts.push_back(box);
      parts.back().dim(d).hi = cut.lo;
      box.dim(d).lo = cut.lo;
    }
    if (box.dim(d).hi > cut.hi) {
      parts.push_back(box);
      parts.back().dim(d).lo = cut.hi;
      box.dim(d).hi = cut.hi;
    }
  }
  return parts;
}

// A set of elements as disjoint boxes.
class ElementSet {
 public:
  // Returns the number of elements that were not in it.
  int64_t Add(const Box& box) {
    std::vector<Box> fresh = {box};
    for (const Box& old : boxes_) {
      std::vector<Box> rest;
      for (Box& part : fresh) {
        for (Box& piece : Subtract(std::move(part), old)) {
          rest.push_back(std::move(piece));
        }
      }
      fresh = std::move(rest);
    }
    int64_t elements = 0;
    for (Box& part : fresh) {
      elements += part.num_elements();
      boxes_.push_back(std::move(part));
    }
    return elements;
  }

 private:
  std::vector<Box> boxes_;
};

bool IsContiguous(const View& view, const Box& piece) {
  int64_t expected = 1;
  for (int d = piece.rank() - 1; d >= 0; --d) {
    const int64_t extent = piece.dim(d).size();
    if (extent > 1 && view.strides[static_cast<size_t>(d)] != expected) {
      return false;
    }
    expected *= extent;
  }
  return true;
}

// Elements of `box` that lie in several runs of the rank's memory.
// Errors: INVALID_ARGUMENT - it does not hold all of the box.
absl::StatusOr<int64_t> ScatteredElements(const RankLayout& layout,
                                          TensorIndex tensor, const Box& box) {
  int64_t found = 0, scattered = 0;
  auto view = std::lower_bound(
      layout.views.begin(), layout.views.end(), tensor,
      [](const View& a, TensorIndex b) { return a.tensor < b; });
  for (; view != layout.views.end() && view->tensor == tensor; ++view) {
    const std::optional<Box> piece = box.Intersect(view->box);
    if (!piece.has_value()) continue;
    found += piece->num_elements();
    if (!IsContiguous(*view, *piece)) scattered += piece->num_elements();
  }
  if (found != box.num_elements()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "tensor ", tensor.value(), " box ", box.ToString(), ": the rank holds ",
        found, " of ", box.num_elements(), " elements"));
  }
  return scattered;
}

class SyncWorkCounter {
 public:
  SyncWorkCounter(const ModelSpec& model, const std::vector<RankEnds>& ranks)
      : model_(model), ranks_(ranks) {}

  absl::Status Add(const Transfer& transfer) {
    const auto num_ranks = static_cast<int64_t>(ranks_.size());
    for (const Rank rank : {transfer.source, transfer.destination}) {
      if (rank.value() < 0 || rank.value() >= num_ranks) {
        return absl::InvalidArgumentError(absl::StrCat("transfer ", transfer.id,
                                                       ": rank ", rank.value(),
                                                       " of ", num_ranks));
      }
    }
    work_.bytes[static_cast<size_t>(transfer.link)] += transfer.bytes;
    work_.digest_destination_bytes += transfer.bytes;
    for (const TensorIndex tensor : ExpandTensors(transfer.params.tensors)) {
      SLUICE_RETURN_IF_ERROR(AddTensor(transfer, tensor));
    }
    return absl::OkStatus();
  }

  const Work& work() const { return work_; }

 private:
  absl::Status AddTensor(const Transfer& transfer, TensorIndex tensor) {
    if (tensor.value() < 0 ||
        tensor.value() >= static_cast<int64_t>(model_.tensors.size())) {
      return absl::InvalidArgumentError(
          absl::StrCat("transfer ", transfer.id, ": tensor ", tensor.value()));
    }
    const Box& box = transfer.params.box;
    const int64_t element_bytes = ByteSize(model_.tensor(tensor).dtype);
    const RankEnds& source = Ends(transfer.source);
    const bool relayed = transfer.reads_after.has_value();
    if (!relayed) {
      ElementSet& given = given_[{transfer.source, tensor.value()}];
      work_.digest_source_bytes += given.Add(box) * element_bytes;
    }
    if (transfer.link != LinkClass::kBetweenNodes) return absl::OkStatus();
    SLUICE_ASSIGN_OR_RETURN(
        const int64_t packed,
        ScatteredElements(relayed ? source.destination : source.source, tensor,
                          box));
    const RankEnds& destination = Ends(transfer.destination);
    SLUICE_ASSIGN_OR_RETURN(
        const int64_t unpacked,
        ScatteredElements(destination.destination, tensor, box));
    work_.pack_bytes += packed * element_bytes;
    work_.unpack_bytes += unpacked * element_bytes;
    return absl::OkStatus();
  }

  const RankEnds& Ends(Rank rank) const {
    return ranks_[static_cast<size_t>(rank.value())];
  }

  const ModelSpec& model_;
  const std::vector<RankEnds>& ranks_;
  Work work_;
  // What each (rank, tensor) has given so far.
  std::map<std::pair<Rank, int32_t>, ElementSet> given_;
};

}  // namespace

absl::StatusOr<Work> SyncWork(const ModelSpec& model,
                              const std::vector<Transfer>& transfers,
                              const std::vector<RankEnds>& ranks) {
  SyncWorkCounter counter(model, ranks);
  for (const Transfer& transfer : transfers) {
    SLUICE_RETURN_IF_ERROR(counter.Add(transfer));
  }
  return counter.work();
}

Work SampleWork(const LinkBytes& moved, int64_t batch_bytes) {
  Work work;
  work.bytes = moved;
  work.digest_destination_bytes =
      std::accumulate(moved.begin(), moved.end(), int64_t{0});
  work.digest_source_bytes =
      std::min(batch_bytes, work.digest_destination_bytes);
  return work;
}

}  // namespace sluice::quickstart
