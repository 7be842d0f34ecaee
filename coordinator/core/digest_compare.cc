#include "coordinator/core/digest_compare.h"

#include <algorithm>
#include <optional>
#include <set>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/layout_coverage.h"
#include "common/status_macros.h"

namespace sluice::coordinator {
namespace {

// Steps of the search for an exact cover, per tensor and replica.
constexpr int kMaxCoverSteps = 100000;

struct Held {
  Digest digest;
  std::string agent;
};

// What a replica holds of one tensor, each distinct box once.
using HeldBoxes = std::map<Box, Held>;

struct Replica {
  std::string name;  // "placement \"rollout\", replica 1"
  size_t placement = 0;
  std::map<TensorIndex, HeldBoxes> tensors;
};

std::string Text(const Digest& digest) {
  std::ostringstream text;
  text << digest;
  return text.str();
}

absl::Status Differ(const TensorSpec& tensor, const Box& box, const Held& a,
                    const Held& b) {
  return absl::DataLossError(absl::StrCat(
      "tensor \"", tensor.name, "\", box ", box.ToString(),
      ": digests differ: agent \"", a.agent, "\" has ", Text(a.digest),
      ", agent \"", b.agent, "\" has ", Text(b.digest)));
}

// The boxes of each replica; members that hold the same box must agree.
absl::Status Collect(const ModelSpec& model, const PlacementDigests& placement,
                     size_t number, std::vector<Replica>& replicas,
                     int64_t* compared) {
  std::map<int64_t, Replica> by_number;
  for (const AgentDigests& agent : placement.agents) {
    Replica& replica = by_number[agent.replica];
    replica.name = absl::StrCat("placement \"", placement.placement,
                                "\", replica ", agent.replica);
    replica.placement = number;
    for (const auto& [where, digest] : agent.boxes) {
      const auto& [tensor, box] = where;
      const Held held{digest, agent.agent};
      const auto [it, is_new] = replica.tensors[tensor].try_emplace(box, held);
      if (is_new) continue;
      if (it->second.digest != digest) {
        return Differ(model.tensor(tensor), box, it->second, held);
      }
      ++*compared;
    }
  }
  for (auto& [replica_number, replica] : by_number) {
    replicas.push_back(std::move(replica));
  }
  return absl::OkStatus();
}

// Finds boxes that tile a tensor of `elements`, among `boxes` (ascending by
// lower corner). The lowest point not covered yet must be the lower corner of
// the tile that covers it, so only boxes that begin there are tried.
class CoverSearch {
 public:
  CoverSearch(const HeldBoxes& boxes, int64_t elements) : missing_(elements) {
    for (const auto& [box, held] : boxes) {
      if (!box.empty()) boxes_.push_back(&box);
    }
    std::sort(boxes_.begin(), boxes_.end(), [](const Box* a, const Box* b) {
      const std::vector<int64_t> la = Lower(*a), lb = Lower(*b);
      return la != lb ? la < lb : *b < *a;
    });
  }

  bool Run() {
    if (missing_ == 0) return true;
    if (++steps_ > kMaxCoverSteps) return false;
    const Box* first = nullptr;
    for (const Box* box : boxes_) {
      if (first != nullptr && Lower(*box) != Lower(*first)) break;
      if (box->num_elements() > missing_ || Touches(*box)) continue;
      if (first == nullptr) first = box;
      chosen_.push_back(box);
      missing_ -= box->num_elements();
      if (Run()) return true;
      missing_ += box->num_elements();
      chosen_.pop_back();
    }
    return false;
  }

  const std::vector<const Box*>& chosen() const { return chosen_; }

 private:
  static std::vector<int64_t> Lower(const Box& box) {
    std::vector<int64_t> lower;
    for (const Interval& dim : box.dims()) lower.push_back(dim.lo);
    return lower;
  }
  bool Touches(const Box& box) const {
    return std::any_of(chosen_.begin(), chosen_.end(), [&box](const Box* c) {
      return c->Intersect(box).has_value();
    });
  }

  std::vector<const Box*> boxes_;
  std::vector<const Box*> chosen_;
  int64_t missing_ = 0;
  int steps_ = 0;
};

// The sum over boxes that hold each element once; nullopt if there are none.
std::optional<Digest> Sum(const TensorSpec& tensor, const HeldBoxes& boxes) {
  int64_t elements = 0;
  Digest all;
  for (const auto& [box, held] : boxes) {
    elements += box.num_elements();
    all += held.digest;
  }
  // Layouts leave no hole: as many elements as the tensor has are its own.
  if (elements == tensor.num_elements()) return all;
  CoverSearch search(boxes, tensor.num_elements());
  if (!search.Run()) return std::nullopt;
  Digest sum;
  for (const Box* box : search.chosen()) sum += boxes.at(*box).digest;
  return sum;
}

std::string AgentsOf(const HeldBoxes& boxes) {
  std::set<std::string> agents;
  for (const auto& [box, held] : boxes) agents.insert(held.agent);
  return absl::StrJoin(agents, ", ");
}

bool SameBoxes(const HeldBoxes& a, const HeldBoxes& b) {
  return std::equal(
      a.begin(), a.end(), b.begin(), b.end(),
      [](const auto& x, const auto& y) { return x.first == y.first; });
}

// One tensor of two replicas.
absl::Status CompareTensor(const TensorSpec& tensor, const Replica& one,
                           const HeldBoxes& a, const Replica& other,
                           const HeldBoxes& b, int64_t* compared) {
  for (const auto& [box, held] : a) {
    const auto same = b.find(box);
    if (same == b.end()) continue;
    if (same->second.digest != held.digest) {
      return Differ(tensor, box, held, same->second);
    }
    ++*compared;
  }
  if (SameBoxes(a, b)) return absl::OkStatus();
  const std::optional<Digest> sum_a = Sum(tensor, a);
  const std::optional<Digest> sum_b = Sum(tensor, b);
  if (!sum_a.has_value() || !sum_b.has_value()) {
    return absl::UnimplementedError(absl::StrCat(
        "tensor \"", tensor.name, "\": ", one.name, " and ", other.name,
        " cannot be compared: boxes of one overlap without an exact cover"));
  }
  if (*sum_a != *sum_b) {
    return absl::DataLossError(absl::StrCat(
        "tensor \"", tensor.name, "\", box ",
        Box::Whole(tensor.shape).ToString(), ": digests differ: ", one.name,
        " (agents ", AgentsOf(a), ") has ", Text(*sum_a), ", ", other.name,
        " (agents ", AgentsOf(b), ") has ", Text(*sum_b)));
  }
  ++*compared;
  return absl::OkStatus();
}

// Every element of the tensor was read in the replica.
absl::Status CheckWhole(const TensorSpec& tensor, const Replica& replica,
                        const HeldBoxes& boxes) {
  int64_t elements = 0;
  std::vector<Box> list;
  for (const auto& [box, held] : boxes) {
    elements += box.num_elements();
    list.push_back(box);
  }
  // The search for a hole costs more than a sum: only where it may find one.
  if (elements == tensor.num_elements()) return absl::OkStatus();
  const std::optional<Box> hole = FindHole(tensor.shape, std::move(list));
  if (!hole.has_value()) return absl::OkStatus();
  return absl::InternalError(absl::StrCat("tensor \"", tensor.name, "\", box ",
                                          hole->ToString(), ": no digest from ",
                                          replica.name));
}

}  // namespace

absl::Status ComparePlacements(const ModelSpec& model,
                               const std::vector<PlacementDigests>& placements,
                               int64_t* compared) {
  std::vector<Replica> replicas;
  for (size_t i = 0; i < placements.size(); ++i) {
    SLUICE_RETURN_IF_ERROR(
        Collect(model, placements[i], i, replicas, compared));
  }
  for (size_t t = 0; t < model.tensors.size(); ++t) {
    const TensorIndex index(static_cast<int32_t>(t));
    const TensorSpec& tensor = model.tensors[t];
    if (tensor.num_elements() == 0) continue;
    for (size_t r = 0; r < replicas.size(); ++r) {
      const HeldBoxes& boxes = replicas[r].tensors[index];
      SLUICE_RETURN_IF_ERROR(CheckWhole(tensor, replicas[r], boxes));
      if (r == 0) continue;
      SLUICE_RETURN_IF_ERROR(CompareTensor(tensor, replicas[0],
                                           replicas[0].tensors[index],
                                           replicas[r], boxes, compared));
    }
  }
  return absl::OkStatus();
}

}  // namespace sluice::coordinator
