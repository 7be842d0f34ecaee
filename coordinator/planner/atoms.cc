#include "coordinator/planner/atoms.h"

#include <algorithm>
#include <cstdlib>
#include <limits>
#include <optional>
#include <tuple>
#include <utility>

namespace sluice::coordinator {
namespace {

// A box of either family: destinations are numbered after all sources.
struct Region {
  Box box;
  std::vector<int32_t> covering;  // boxes that contain the region
  std::vector<int32_t> partial;   // boxes that cross it
};

struct Plane {
  int dim = 0;
  int64_t at = 0;
};

// Finds the plane of one dimension that crosses the fewest boxes, then the one
// that halves them best, then the lowest.
class PlaneSearch {
 public:
  explicit PlaneSearch(absl::Span<const Box* const> boxes) : boxes_(boxes) {}

  void Scan(int dim, const Interval& extent) {
    los_.clear();
    his_.clear();
    for (const Box* box : boxes_) {
      los_.push_back(box->dim(dim).lo);
      his_.push_back(box->dim(dim).hi);
    }
    std::sort(los_.begin(), los_.end());
    std::sort(his_.begin(), his_.end());
    cuts_ = los_;
    cuts_.insert(cuts_.end(), his_.begin(), his_.end());
    std::sort(cuts_.begin(), cuts_.end());
    cuts_.erase(std::unique(cuts_.begin(), cuts_.end()), cuts_.end());
    size_t started = 0;  // boxes with lo < at
    size_t ended = 0;    // boxes with hi <= at
    for (const int64_t at : cuts_) {
      while (started < los_.size() && los_[started] < at) ++started;
      while (ended < his_.size() && his_[ended] <= at) ++ended;
      if (at <= extent.lo || at >= extent.hi) continue;
      const auto crossed = static_cast<int64_t>(started - ended);
      const int64_t left = static_cast<int64_t>(started);
      const int64_t right = static_cast<int64_t>(boxes_.size() - ended);
      const auto cost = std::make_tuple(crossed, std::abs(left - right));
      if (cost < best_cost_) {
        best_cost_ = cost;
        best_ = {dim, at};
      }
    }
  }

  const Plane& best() const { return best_; }

 private:
  absl::Span<const Box* const> boxes_;
  std::vector<int64_t> los_, his_, cuts_;
  Plane best_;
  std::tuple<int64_t, int64_t> best_cost_{std::numeric_limits<int64_t>::max(),
                                          0};
};

class Cutter {
 public:
  Cutter(absl::Span<const Box> sources, absl::Span<const Box> destinations)
      : sources_(sources), destinations_(destinations) {}

  std::vector<Atom> Run(absl::Span<const int64_t> shape) {
    std::vector<int32_t> all(sources_.size() + destinations_.size());
    for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<int32_t>(i);
    Push(Box::Whole(shape), {}, all);
    while (!stack_.empty()) {
      const Region region = std::move(stack_.back());
      stack_.pop_back();
      if (region.partial.empty()) {
        Emit(region);
      } else {
        Split(region);
      }
    }
    return std::move(atoms_);
  }

 private:
  const Box& box(int32_t i) const {
    const auto at = static_cast<size_t>(i);
    return at < sources_.size() ? sources_[at]
                                : destinations_[at - sources_.size()];
  }
  bool IsDestination(int32_t i) const {
    return static_cast<size_t>(i) >= sources_.size();
  }

  // Keeps a region that some destination box touches.
  void Push(Box box, std::vector<int32_t> covering,
            const std::vector<int32_t>& candidates) {
    Region region{std::move(box), std::move(covering), {}};
    for (const int32_t i : candidates) {
      const Box& other = this->box(i);
      if (other.Contains(region.box)) {
        region.covering.push_back(i);
      } else if (Touches(other, region.box)) {
        region.partial.push_back(i);
      }
    }
    const auto wanted = [this](int32_t i) { return IsDestination(i); };
    if (region.box.empty() ||
        (std::none_of(region.covering.begin(), region.covering.end(), wanted) &&
         std::none_of(region.partial.begin(), region.partial.end(), wanted))) {
      return;
    }
    stack_.push_back(std::move(region));
  }

  static bool Touches(const Box& a, const Box& b) {
    for (int d = 0; d < a.rank(); ++d) {
      if (a.dim(d).lo >= b.dim(d).hi || b.dim(d).lo >= a.dim(d).hi) {
        return false;
      }
    }
    return true;
  }

  void Split(const Region& region) {
    std::vector<const Box*> boxes;
    boxes.reserve(region.partial.size());
    for (const int32_t i : region.partial) boxes.push_back(&box(i));
    PlaneSearch search(boxes);
    for (int d = 0; d < region.box.rank(); ++d) {
      search.Scan(d, region.box.dim(d));
    }
    const Plane plane = search.best();
    Box low = region.box;
    Box high = region.box;
    low.dim(plane.dim).hi = plane.at;
    high.dim(plane.dim).lo = plane.at;
    Push(std::move(high), region.covering, region.partial);
    Push(std::move(low), region.covering, region.partial);
  }

  void Emit(const Region& region) {
    std::vector<int32_t> covering = region.covering;
    std::sort(covering.begin(), covering.end());
    Atom& atom = atoms_.emplace_back();
    atom.box = region.box;
    for (const int32_t i : covering) {
      if (IsDestination(i)) {
        atom.destinations.push_back(i - static_cast<int32_t>(sources_.size()));
      } else {
        atom.sources.push_back(i);
      }
    }
  }

  absl::Span<const Box> sources_;
  absl::Span<const Box> destinations_;
  std::vector<Region> stack_;
  std::vector<Atom> atoms_;
};

// Orders boxes that can be joined along `dim` next to each other.
bool BeforeAlong(int dim, const Box& a, const Box& b) {
  for (int d = 0; d < a.rank(); ++d) {
    if (d != dim && a.dim(d) != b.dim(d)) return a.dim(d) < b.dim(d);
  }
  return a.dim(dim) < b.dim(dim);
}

bool TouchAlong(int dim, const Box& a, const Box& b) {
  for (int d = 0; d < a.rank(); ++d) {
    if (d != dim && a.dim(d) != b.dim(d)) return false;
  }
  return a.dim(dim).hi == b.dim(dim).lo;
}

// Joins what can be joined along one dimension; whether anything was.
bool MergeAlong(int dim, std::vector<MergedBox>& boxes) {
  std::sort(boxes.begin(), boxes.end(),
            [dim](const MergedBox& a, const MergedBox& b) {
              return BeforeAlong(dim, a.box, b.box);
            });
  size_t kept = 0;
  for (size_t i = 1; i < boxes.size(); ++i) {
    if (TouchAlong(dim, boxes[kept].box, boxes[i].box)) {
      boxes[kept].box.dim(dim).hi = boxes[i].box.dim(dim).hi;
      boxes[kept].parts.insert(boxes[kept].parts.end(), boxes[i].parts.begin(),
                               boxes[i].parts.end());
    } else if (++kept != i) {
      boxes[kept] = std::move(boxes[i]);
    }
  }
  const bool merged = kept + 1 < boxes.size();
  boxes.resize(kept + 1);
  return merged;
}

}  // namespace

std::vector<Atom> CutIntoAtoms(absl::Span<const int64_t> shape,
                               absl::Span<const Box> sources,
                               absl::Span<const Box> destinations) {
  return Cutter(sources, destinations).Run(shape);
}

std::vector<MergedBox> MergeBoxes(absl::Span<const Box> boxes) {
  std::vector<MergedBox> out;
  out.reserve(boxes.size());
  for (size_t i = 0; i < boxes.size(); ++i) {
    out.push_back({boxes[i], {static_cast<int32_t>(i)}});
  }
  bool merged = out.size() > 1;
  while (merged) {
    merged = false;
    for (int d = 0; out.size() > 1 && d < out[0].box.rank(); ++d) {
      merged |= MergeAlong(d, out);
    }
  }
  std::sort(out.begin(), out.end(), [](const MergedBox& a, const MergedBox& b) {
    return a.box < b.box;
  });
  return out;
}

}  // namespace sluice::coordinator
