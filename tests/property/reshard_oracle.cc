#include "tests/property/reshard_oracle.h"

#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/dtype.h"
#include "common/layout.h"
#include "tests/property/float_reference.h"

namespace sluice::testing {
namespace {

using Element = std::vector<int64_t>;

// Names one element of one tensor.
int64_t IdOf(size_t tensor, const Shape& shape, const Element& e) {
  int64_t flat = 0;
  for (size_t d = 0; d < e.size(); ++d) flat = flat * shape[d] + e[d];
  return 1 + static_cast<int64_t>(tensor) * 1'000'000 + flat;
}

// What an element is before a placement rounds it: all magnitudes, with what
// does not fit, rounds to even or is no number among them.
double ValueOf(int64_t id) {
  uint64_t bits = static_cast<uint64_t>(id) * 0x9e3779b97f4a7c15u;
  bits ^= bits >> 29;
  const double sign = (bits & 1) != 0 ? -1 : 1;
  const auto fraction = static_cast<double>((bits >> 8) & 0xFFFFF);
  switch ((bits >> 1) % 16) {
    case 0:
      return std::numeric_limits<double>::quiet_NaN();
    case 1:
      return sign * std::numeric_limits<double>::infinity();
    case 2:
      return sign * 1e200;
    case 3:
      return sign * 0.0;
    default:
      return sign *
             std::ldexp(fraction, static_cast<int>((bits >> 40) % 48) - 40);
  }
}

void ForEach(const Box& box, const std::function<void(const Element&)>& f) {
  if (box.empty()) return;
  Element e;
  for (const Interval& dim : box.dims()) e.push_back(dim.lo);
  while (true) {
    f(e);
    int d = box.rank() - 1;
    for (; d >= 0; --d) {
      const auto i = static_cast<size_t>(d);
      if (++e[i] < box.dim(d).hi) break;
      e[i] = box.dim(d).lo;
    }
    if (d < 0) return;
  }
}

// One agent's memory of one placement: values, whose, and who wrote them last.
struct Memory {
  RankLayout layout;
  struct Slot {
    DType dtype = DType::kUnspecified;
    int64_t id = 0;
    double value = 0;
    int writes = 0;
    int64_t writer = -1;
    int32_t round = -1;
  };
  std::vector<std::vector<Slot>> params;

  // The slots that hold this element: one per view that contains it.
  std::vector<Slot*> Find(TensorIndex tensor, const Element& e) {
    std::vector<Slot*> out;
    for (const View& view : layout.views) {
      if (view.tensor != tensor) continue;
      int64_t at = view.offset;
      bool inside = true;
      for (size_t d = 0; d < e.size(); ++d) {
        const Interval& dim = view.box.dim(static_cast<int>(d));
        inside = inside && e[d] >= dim.lo && e[d] < dim.hi;
        at += (e[d] - dim.lo) * view.strides[d];
      }
      if (!inside) continue;
      out.push_back(
          &params[static_cast<size_t>(view.param)][static_cast<size_t>(at)]);
    }
    return out;
  }
};

class Oracle {
 public:
  Oracle(const coordinator::ReshardInput& input, const TransferPlan& plan)
      : input_(input), plan_(plan) {
    AddPlacement(-1, input.source);
    for (size_t p = 0; p < input.destinations.size(); ++p) {
      AddPlacement(static_cast<int>(p), input.destinations[p]);
    }
    FillSource();
  }

  std::string Run() {
    int32_t round = 0;
    for (size_t i = 0; i < plan_.transfers.size(); ++i) {
      const Transfer& transfer = plan_.transfers[i];
      if (transfer.id != i || transfer.round < round) return "order";
      round = transfer.round;
      const std::string fault = Apply(transfer);
      if (!fault.empty()) return absl::StrCat("transfer ", i, ": ", fault);
    }
    return CheckAll();
  }

 private:
  using Key = std::pair<int, Rank>;  // placement (-1 = source), rank

  void AddPlacement(int number, const coordinator::PlacementGeometry& p) {
    for (int64_t i = 0; i < p.mesh.size(); ++i) {
      auto layout = ExpandLayout(*input_.model, *p.layout, p.mesh, i);
      SLUICE_CHECK_OK(layout.status());
      Memory memory;
      memory.layout = *std::move(layout);
      for (const LocalParam& param : memory.layout.params) {
        Memory::Slot empty;
        empty.dtype = param.dtype;
        memory.params.emplace_back(
            static_cast<size_t>(Box::Whole(param.shape).num_elements()), empty);
      }
      memory_[{number, p.mesh.ranks[static_cast<size_t>(i)]}] =
          std::move(memory);
    }
  }

  void FillSource() {
    const coordinator::PlacementGeometry& source = input_.source;
    for (int64_t i = 0; i < source.mesh.size(); ++i) {
      const int64_t replica = ReplicaOf(*source.layout, source.mesh, i);
      bool holds = false;
      for (const int64_t r : input_.source_replicas) holds |= r == replica;
      if (!holds) continue;  // stays 0: reading it gives a wrong element
      Memory& memory = memory_[{-1, source.mesh.ranks[static_cast<size_t>(i)]}];
      for (const View& view : memory.layout.views) {
        ForEach(view.box, [&](const Element& e) {
          for (Memory::Slot* slot : memory.Find(view.tensor, e)) {
            slot->id = Expected(view.tensor, e);
            slot->value = RoundedTo(slot->dtype, ValueOf(slot->id));
            source_dtype_[view.tensor] = slot->dtype;
          }
        });
      }
    }
  }

  int64_t Expected(TensorIndex tensor, const Element& e) const {
    return IdOf(static_cast<size_t>(tensor.value()),
                input_.model->tensor(tensor).shape, e);
  }

  std::string Apply(const Transfer& transfer) {
    if (transfer.wire_dtype == DType::kUnspecified) return "no wire type";
    const bool relay = transfer.reads_after.has_value();
    const auto from = memory_.find(
        {relay ? transfer.destination_placement : -1, transfer.source});
    const auto to =
        memory_.find({transfer.destination_placement, transfer.destination});
    if (from == memory_.end() || to == memory_.end()) return "no such memory";
    std::string fault;
    for (const TensorIndex tensor : ExpandTensors(transfer.params.tensors)) {
      if (tensor.value() < 0 ||
          static_cast<size_t>(tensor.value()) >= input_.model->tensors.size() ||
          !transfer.params.box.FitsIn(input_.model->tensor(tensor).shape)) {
        return "box outside";
      }
      ForEach(transfer.params.box, [&](const Element& e) {
        if (fault.empty()) {
          fault = Move(transfer, from->second, to->second, tensor, e);
        }
      });
    }
    return fault;
  }

  std::string Move(const Transfer& transfer, Memory& from, Memory& to,
                   TensorIndex tensor, const Element& e) const {
    const std::vector<Memory::Slot*> sources = from.Find(tensor, e);
    const std::vector<Memory::Slot*> targets = to.Find(tensor, e);
    if (sources.empty() || targets.empty()) return "no view there";
    const Memory::Slot& source = *sources[0];
    if (source.id != Expected(tensor, e)) return "reads a wrong element";
    if (transfer.reads_after && (source.writer != *transfer.reads_after ||
                                 source.round >= transfer.round)) {
      return "reads what has not landed";
    }
    // The source may be a target, too.
    const int64_t id = source.id;
    const double crossing = RoundedTo(transfer.wire_dtype, source.value);
    for (Memory::Slot* target : targets) {
      if (++target->writes > 1) return "writes twice";
      target->id = id;
      target->value = RoundedTo(target->dtype, crossing);
      target->writer = transfer.id;
      target->round = transfer.round;
    }
    return "";
  }

  std::string CheckAll() {
    std::string fault;
    for (auto& [key, memory] : memory_) {
      if (key.first < 0) continue;
      for (const View& view : memory.layout.views) {
        ForEach(view.box, [&, &memory = memory](const Element& e) {
          for (const Memory::Slot* slot : memory.Find(view.tensor, e)) {
            if (slot->writes != 1 || slot->id != Expected(view.tensor, e)) {
              fault = "an element is missing or wrong";
            } else if (!SameValue(slot->value, Converted(view.tensor, *slot))) {
              fault = "a value was not converted as it must be";
            }
          }
        });
      }
    }
    return fault;
  }

  // A slot's value by brute force: the source's, converted.
  double Converted(TensorIndex tensor, const Memory::Slot& slot) const {
    return RoundedTo(slot.dtype,
                     RoundedTo(source_dtype_.at(tensor), ValueOf(slot.id)));
  }

  const coordinator::ReshardInput& input_;
  const TransferPlan& plan_;
  std::map<Key, Memory> memory_;
  std::map<TensorIndex, DType> source_dtype_;
};

}  // namespace

std::string RunPlan(const coordinator::ReshardInput& input,
                    const TransferPlan& plan) {
  return Oracle(input, plan).Run();
}

}  // namespace sluice::testing
