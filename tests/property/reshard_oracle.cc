#include "tests/property/reshard_oracle.h"

#include <cstdint>
#include <functional>
#include <map>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/layout.h"

namespace sluice::testing {
namespace {

using Element = std::vector<int64_t>;

int64_t ValueOf(size_t tensor, const Shape& shape, const Element& e) {
  int64_t flat = 0;
  for (size_t d = 0; d < e.size(); ++d) flat = flat * shape[d] + e[d];
  return 1 + static_cast<int64_t>(tensor) * 1'000'000 + flat;
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

// One agent's memory of one placement: values and who wrote them last.
struct Memory {
  RankLayout layout;
  struct Slot {
    int64_t value = 0;
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
        memory.params.emplace_back(
            static_cast<size_t>(Box::Whole(param.shape).num_elements()));
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
      if (!holds) continue;  // stays 0: reading it gives a wrong value
      Memory& memory = memory_[{-1, source.mesh.ranks[static_cast<size_t>(i)]}];
      for (const View& view : memory.layout.views) {
        ForEach(view.box, [&](const Element& e) {
          for (Memory::Slot* slot : memory.Find(view.tensor, e)) {
            slot->value = Expected(view.tensor, e);
          }
        });
      }
    }
  }

  int64_t Expected(TensorIndex tensor, const Element& e) const {
    return ValueOf(static_cast<size_t>(tensor.value()),
                   input_.model->tensor(tensor).shape, e);
  }

  std::string Apply(const Transfer& transfer) {
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
    if (source.value != Expected(tensor, e)) return "reads a wrong value";
    if (transfer.reads_after && (source.writer != *transfer.reads_after ||
                                 source.round >= transfer.round)) {
      return "reads what has not landed";
    }
    const int64_t value = source.value;
    for (Memory::Slot* target : targets) {
      if (++target->writes > 1) return "writes twice";
      target->value = value;
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
            if (slot->writes != 1 || slot->value != Expected(view.tensor, e)) {
              fault = "an element is missing or wrong";
            }
          }
        });
      }
    }
    return fault;
  }

  const coordinator::ReshardInput& input_;
  const TransferPlan& plan_;
  std::map<Key, Memory> memory_;
};

}  // namespace

std::string RunPlan(const coordinator::ReshardInput& input,
                    const TransferPlan& plan) {
  return Oracle(input, plan).Run();
}

}  // namespace sluice::testing
