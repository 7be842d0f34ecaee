#include "tests/integration/patterned_model.h"

#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace sluice::testing {
namespace {

constexpr int64_t kColumns = 1024;
constexpr int64_t kLayers = 8;
constexpr int kHashBits = 20;

// What the element holds at step 0; a step is added in the high bits.
uint32_t PlaceHash(int32_t tensor, int64_t flat) {
  uint64_t mixed = static_cast<uint64_t>(flat) * 0x9e3779b97f4a7c15 +
                   static_cast<uint64_t>(tensor) * 0xd1342543de82ef95;
  mixed ^= mixed >> 29;
  return static_cast<uint32_t>(mixed * 0xbf58476d1ce4e5b9 >> 44);
}

void AddTensor(v1::ModelSpec& model, const std::string& name,
               std::vector<int64_t> shape) {
  v1::TensorSpec& tensor = *model.add_tensors();
  tensor.set_name(name);
  tensor.set_dtype(v1::DTYPE_I32);
  tensor.mutable_shape()->Assign(shape.begin(), shape.end());
}

// `dim` < 0: replicated.
void AddRule(v1::Layout& layout, const std::string& pattern, int dim) {
  v1::LayoutRule& rule = *layout.add_rules();
  rule.set_pattern(pattern);
  rule.set_local_name(pattern);
  if (dim < 0) return;
  v1::DimSplit& split = *rule.add_splits();
  split.set_dim(dim);
  split.add_axes("tensor");
}

// Calls visit(first element of the row in the buffer, flat logical index of it,
// count, stride in elements) for each row (last dimension) of a view, until one
// returns false.
template <typename Visit>
bool ForEachRow(const v1::ModelSpec& model, const v1::RankLayout& layout,
                const v1::View& view, const Visit& visit) {
  const v1::TensorSpec& tensor = model.tensors(view.tensor());
  const v1::LocalParam& param = layout.params(view.param());
  const int last = tensor.shape_size() - 1;
  std::vector<int64_t> at(view.box().lo().begin(), view.box().lo().end());
  const int64_t count = view.box().hi(last) - view.box().lo(last);
  for (int d = 0; d <= last; ++d) {
    if (view.box().lo(d) >= view.box().hi(d)) return true;
  }
  for (;;) {
    int64_t flat = 0;
    int64_t place = view.offset();
    for (int d = 0; d <= last; ++d) {
      flat = flat * tensor.shape(d) + at[d];
      place += (at[d] - view.box().lo(d)) * view.strides(d);
    }
    if (!visit(param.offset_bytes() + place * 4, flat, count,
               view.strides(last))) {
      return false;
    }
    int d = last - 1;
    for (; d >= 0 && ++at[d] == view.box().hi(d); --d) at[d] = view.box().lo(d);
    if (d < 0) return true;
  }
}

}  // namespace

v1::ModelSpec PatternedModel(const std::string& name, int64_t rows) {
  v1::ModelSpec model;
  model.set_name(name);
  AddTensor(model, "wide", {rows, kColumns});
  AddTensor(model, "tall", {rows, kColumns});
  AddTensor(model, "shared", {rows / 2, kColumns});
  for (int64_t layer = 0; layer < kLayers; ++layer) {
    AddTensor(model, absl::StrCat("layers.", layer, ".w"), {64, 128});
  }
  return model;
}

v1::Layout RowLayout() {
  v1::Layout layout;
  layout.set_name("rows");
  AddRule(layout, "wide", 0);
  AddRule(layout, "tall", 0);
  AddRule(layout, "shared", 0);
  AddRule(layout, "layers.{layer}.w", 0);
  return layout;
}

v1::Layout ServingLayout() {
  v1::Layout layout;
  layout.set_name("serving");
  layout.add_replica_axes("data");
  AddRule(layout, "wide", 1);
  AddRule(layout, "tall", 0);
  AddRule(layout, "shared", -1);
  AddRule(layout, "layers.{layer}.w", 1);
  return layout;
}

v1::Mesh MeshOf(const std::vector<std::pair<std::string, int64_t>>& axes,
                const std::vector<std::string>& agents) {
  v1::Mesh mesh;
  for (const auto& [name, size] : axes) {
    v1::MeshAxis& axis = *mesh.add_axes();
    axis.set_name(name);
    axis.set_size(size);
  }
  for (const std::string& agent : agents) mesh.add_agents(agent);
  return mesh;
}

void FillStep(const v1::ModelSpec& model, const v1::RankLayout& layout,
              int64_t step, std::byte* buffer) {
  const uint32_t high = static_cast<uint32_t>(step) << kHashBits;
  for (const v1::View& view : layout.views()) {
    ForEachRow(model, layout, view,
               [&](int64_t bytes, int64_t flat, int64_t count, int64_t stride) {
                 auto* row = reinterpret_cast<uint32_t*>(buffer + bytes);
                 for (int64_t i = 0; i < count; ++i) {
                   row[i * stride] = high | PlaceHash(view.tensor(), flat + i);
                 }
                 return true;
               });
  }
}

absl::StatusOr<int64_t> ReadStep(const v1::ModelSpec& model,
                                 const v1::RankLayout& layout,
                                 const std::byte* buffer) {
  int64_t step = -1;
  absl::Status bad;
  for (const v1::View& view : layout.views()) {
    ForEachRow(
        model, layout, view,
        [&](int64_t bytes, int64_t flat, int64_t count, int64_t stride) {
          const auto* row = reinterpret_cast<const uint32_t*>(buffer + bytes);
          if (step < 0) step = row[0] >> kHashBits;
          const uint32_t high = static_cast<uint32_t>(step) << kHashBits;
          for (int64_t i = 0; i < count; ++i) {
            const uint32_t expected = high | PlaceHash(view.tensor(), flat + i);
            if (row[i * stride] == expected) continue;
            bad = absl::DataLossError(absl::StrCat(
                model.tensors(view.tensor()).name(), " element ", flat + i,
                ": expected step ", step, " (", expected, "), found step ",
                row[i * stride] >> kHashBits, " (", row[i * stride], ")"));
            return false;
          }
          return true;
        });
    if (!bad.ok()) return bad;
  }
  return step;
}

void StepsOfVersions::Add(uint64_t version, int64_t step) {
  MutexLock lock(mutex_);
  steps_[version] = step;
}

absl::StatusOr<int64_t> StepsOfVersions::Step(uint64_t version) const {
  MutexLock lock(mutex_);
  const auto it = steps_.find(version);
  if (it == steps_.end()) {
    return absl::NotFoundError(absl::StrCat("nobody wrote version ", version));
  }
  return it->second;
}

absl::StatusOr<std::unique_ptr<PatternedTrainer>> PatternedTrainer::Start(
    TestCluster& cluster, const v1::ModelSpec& model,
    const std::string& placement, const std::vector<int>& agents) {
  std::unique_ptr<PatternedTrainer> trainer(new PatternedTrainer());
  trainer->model_ = model;
  trainer->placement_ = placement;
  for (const int agent : agents) {
    RankMemory rank;
    SLUICE_ASSIGN_OR_RETURN(
        rank.worker,
        cluster.Attach(agent, absl::StrCat("trainer-", placement)));
    SLUICE_ASSIGN_OR_RETURN(const v1::GetPlacementResponse described,
                            rank.worker->GetPlacement(model.name(), placement));
    rank.layout = described.layout();
    SLUICE_ASSIGN_OR_RETURN(rank.memory,
                            rank.worker->Lend(model.name(), placement));
    trainer->ranks_.push_back(std::move(rank));
  }
  return trainer;
}

absl::StatusOr<uint64_t> PatternedTrainer::WriteNextStep() {
  ++step_;
  for (RankMemory& rank : ranks_) {
    SLUICE_RETURN_IF_ERROR(rank.worker->BeginWrite(model_.name(), placement_));
    FillStep(model_, rank.layout, step_, rank.memory->data());
  }
  uint64_t version = 0;
  for (RankMemory& rank : ranks_) {
    SLUICE_ASSIGN_OR_RETURN(
        const uint64_t ended,
        rank.worker->EndWrite(model_.name(), placement_, step_));
    if (ended != 0) version = ended;
  }
  if (version == 0) {
    return absl::InternalError(
        absl::StrCat("all ended step ", step_, " and it got no version"));
  }
  steps_.Add(version, step_);
  return version;
}

}  // namespace sluice::testing
