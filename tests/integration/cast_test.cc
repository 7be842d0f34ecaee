// A trainer and an engine that hold the same tensors in other element types,
// with the daemons that users run: what arrives is the trainer's values cast,
// compared byte by byte.

#include <catch2/catch.hpp>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/integration/patterned_model.h"
#include "tests/integration/test_cluster.h"
#include "tests/support/status_matchers.h"

namespace sluice::testing {
namespace {

constexpr char kModel[] = "policy";

uint64_t Mixed(int64_t step, int64_t tensor, int64_t flat) {
  uint64_t x = static_cast<uint64_t>(flat) * 0x9e3779b97f4a7c15 +
               static_cast<uint64_t>(tensor * 4096 + step) * 0xd1342543de82ef95;
  x ^= x >> 29;
  x *= 0xbf58476d1ce4e5b9;
  return x ^ x >> 32;
}

double AsDouble(v1::DType dtype, uint32_t bits) {
  if (dtype == v1::DTYPE_BF16) bits <<= 16;
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

// What the trainer writes: any bits at all, so also infinities, NaNs and values
// below the normal ones.
uint32_t Written(v1::DType dtype, int64_t step, int64_t tensor, int64_t flat) {
  const uint64_t mixed = Mixed(step, tensor, flat);
  return static_cast<uint32_t>(dtype == v1::DTYPE_BF16 ? mixed & 0xffff
                                                       : mixed);
}

// Whether `found` is `written` as the engine must have it, by comparing
// distances: of the neighbours in BF16 the nearer, of two equally near the even
// one.
bool IsCast(v1::DType from, uint32_t written, v1::DType to, uint32_t found) {
  if (from == to) return written == found;
  const double value = AsDouble(from, written);
  if (std::isnan(value)) return std::isnan(AsDouble(to, found));
  if (to == v1::DTYPE_F32) return found == written << 16;
  const uint32_t down = written >> 16;  // towards zero
  if ((written & 0xffff) == 0) return found == down;
  const double low = AsDouble(to, down);
  // The neighbour of the largest one stands where it would lie.
  const double high = std::isinf(AsDouble(to, down + 1))
                          ? 2 * low - AsDouble(to, down - 1)
                          : AsDouble(to, down + 1);
  const double below = std::abs(value - low), above = std::abs(high - value);
  const bool up = above < below || (above == below && down % 2 == 1);
  return found == down + (up ? 1 : 0);
}

// Calls visit(tensor, flat logical index, type, address) for all that a rank
// holds.
template <typename Visit>
void ForEachElement(const v1::ModelSpec& model, const v1::RankLayout& layout,
                    std::byte* buffer, Visit visit) {
  for (const v1::View& view : layout.views()) {
    const v1::TensorSpec& tensor = model.tensors(view.tensor());
    const v1::LocalParam& param = layout.params(view.param());
    const int64_t size = param.dtype() == v1::DTYPE_BF16 ? 2 : 4;
    const int rank = tensor.shape_size();
    std::vector<int64_t> at(view.box().lo().begin(), view.box().lo().end());
    for (int d = rank; d >= 0;) {
      int64_t flat = 0;
      int64_t place = view.offset();
      for (int i = 0; i < rank; ++i) {
        flat = flat * tensor.shape(i) + at[static_cast<size_t>(i)];
        place +=
            (at[static_cast<size_t>(i)] - view.box().lo(i)) * view.strides(i);
      }
      visit(view.tensor(), flat, param.dtype(),
            buffer + param.offset_bytes() + place * size);
      for (d = rank - 1; d >= 0; --d) {
        int64_t& i = at[static_cast<size_t>(d)];
        if (++i < view.box().hi(d)) break;
        i = view.box().lo(d);
      }
    }
  }
}

v1::ModelSpec Model(v1::DType dtype) {
  v1::ModelSpec model;
  model.set_name(kModel);
  const auto add = [&](const std::string& name, v1::DType type,
                       const std::vector<int64_t>& shape) {
    v1::TensorSpec& tensor = *model.add_tensors();
    tensor.set_name(name);
    tensor.set_dtype(type);
    tensor.mutable_shape()->Assign(shape.begin(), shape.end());
  };
  add("wide", dtype, {1021, 1537});  // rows of an odd number of bytes' words
  add("shared", dtype, {600, 500});
  add("norm", v1::DTYPE_F32, {333});
  for (int layer = 0; layer < 3; ++layer) {
    add(absl::StrCat("layers.", layer, ".w"), dtype, {64, 128});
  }
  return model;
}

// `dim` < 0: replicated.
void AddRule(v1::Layout& layout, const std::string& pattern, int dim,
             v1::DType dtype) {
  v1::LayoutRule& rule = *layout.add_rules();
  rule.set_pattern(pattern);
  rule.set_local_name(pattern);
  rule.set_dtype(dtype);
  if (dim < 0) return;
  v1::DimSplit& split = *rule.add_splits();
  split.set_dim(dim);
  split.add_axes("tensor");
}

// The matrices held as `dtype`, the norm as it is.
v1::Layout LayoutOf(const std::string& name, v1::DType dtype, int wide_dim,
                    int shared_dim) {
  v1::Layout layout;
  layout.set_name(name);
  layout.add_replica_axes("data");
  AddRule(layout, "wide", wide_dim, dtype);
  AddRule(layout, "shared", shared_dim, dtype);
  AddRule(layout, "norm", -1, v1::DTYPE_UNSPECIFIED);
  AddRule(layout, "layers.{layer}.w", wide_dim, dtype);
  return layout;
}

struct Rank {
  std::unique_ptr<Worker> worker;
  v1::RankLayout layout;
  std::shared_ptr<SharedBytes> memory;  // of a trainer
};

// Two nodes of two agents. The trainer's two ranks are one agent of each node,
// the engine's two replicas are the nodes: matrices cross inside an agent,
// inside a node and between nodes; "shared" is passed on inside a node.
class CastRig {
 public:
  CastRig(v1::DType own, v1::DType trained, v1::DType served)
      : model_(Model(own)), trained_(trained), served_(served) {
    REQUIRE_OK_AND_ASSIGN(
        cluster_, TestCluster::Start({.nodes = 2, .agents_per_node = 2}));
    v1::RegisterModelRequest model;
    *model.mutable_model() = model_;
    REQUIRE_OK(cluster_->client().RegisterModel(model));
    Register("trainer", {0, 2}, {{"data", 1}, {"tensor", 2}},
             LayoutOf("rows", trained, 0, 0), v1::STORAGE_LENT);
    Register("engine", {0, 1, 2, 3}, {{"data", 2}, {"tensor", 2}},
             LayoutOf("columns", served, 1, -1), v1::STORAGE_ARENA);
    for (const int agent : {0, 2}) trainer_.push_back(Attach(agent, "trainer"));
    for (Rank& rank : trainer_) {
      REQUIRE_OK_AND_ASSIGN(rank.memory, rank.worker->Lend(kModel, "trainer"));
    }
    for (int agent = 0; agent < 4; ++agent) {
      engine_.push_back(Attach(agent, "engine"));
    }
  }

  // Returns the version.
  uint64_t WriteStep(int64_t step) {
    for (Rank& rank : trainer_) {
      REQUIRE_OK(rank.worker->BeginWrite(kModel, "trainer"));
      ForEachElement(
          model_, rank.layout, rank.memory->data(),
          [&](int64_t tensor, int64_t flat, v1::DType dtype, std::byte* at) {
            const uint32_t value = Written(dtype, step, tensor, flat);
            std::memcpy(at, &value, dtype == v1::DTYPE_BF16 ? 2 : 4);
          });
    }
    uint64_t version = 0;
    for (Rank& rank : trainer_) {
      REQUIRE_OK_AND_ASSIGN(const uint64_t ended,
                            rank.worker->EndWrite(kModel, "trainer", step));
      if (ended != 0) version = ended;
    }
    return version;
  }

  absl::StatusOr<v1::OperationResult> Sync() {
    v1::SyncRequest request;
    request.set_model(kModel);
    request.set_source("trainer");
    request.add_destinations("engine");
    return cluster_->client().Sync(request);
  }

  absl::Status Verify(const std::string& against) {
    v1::VerifyRequest request;
    request.set_model(kModel);
    request.set_placement("engine");
    request.set_against(against);
    return cluster_->client().Verify(request).status();
  }

  // Looks at every element of the engine; returns how many there are.
  int64_t CheckEngine(uint64_t version, int64_t step) {
    int64_t elements = 0, wrong = 0;
    for (Rank& rank : engine_) {
      REQUIRE_OK_AND_ASSIGN(const auto pin,
                            rank.worker->Pin(kModel, "engine", version));
      // Only read.
      auto* buffer = const_cast<std::byte*>(pin->data());
      ForEachElement(
          model_, rank.layout, buffer,
          [&](int64_t tensor, int64_t flat, v1::DType dtype,
              const std::byte* at) {
            const bool norm = model_.tensors(tensor).name() == "norm";
            const v1::DType from = norm ? v1::DTYPE_F32 : trained_;
            const v1::DType to = norm ? v1::DTYPE_F32 : served_;
            uint32_t found = 0;
            std::memcpy(&found, at, dtype == v1::DTYPE_BF16 ? 2 : 4);
            const uint32_t written = Written(from, step, tensor, flat);
            ++elements;
            wrong += dtype != to || !IsCast(from, written, to, found);
          });
    }
    CHECK(wrong == 0);
    return elements;
  }

 private:
  void Register(const std::string& placement, const std::vector<int>& agents,
                const std::vector<std::pair<std::string, int64_t>>& axes,
                v1::Layout layout, v1::Storage storage) {
    v1::RegisterPlacementRequest request;
    request.set_model(kModel);
    request.set_placement(placement);
    *request.mutable_mesh() = MeshOf(axes, cluster_->AgentNames(agents));
    *request.mutable_layout() = std::move(layout);
    request.set_storage(storage);
    REQUIRE_OK(cluster_->client().RegisterPlacement(request));
  }

  Rank Attach(int agent, const std::string& placement) {
    Rank rank;
    REQUIRE_OK_AND_ASSIGN(rank.worker, cluster_->Attach(agent, placement));
    REQUIRE_OK_AND_ASSIGN(const v1::GetPlacementResponse described,
                          rank.worker->GetPlacement(kModel, placement));
    rank.layout = described.layout();
    return rank;
  }

  const v1::ModelSpec model_;
  const v1::DType trained_, served_;
  std::unique_ptr<TestCluster> cluster_;
  std::vector<Rank> trainer_, engine_;
};

TEST_CASE("an engine gets the trainer's values cast, whoever is wider",
          "[integration][cast]") {
  struct Types {
    v1::DType own, trained, served;
  };
  const auto types = GENERATE(
      values<Types>({{v1::DTYPE_BF16, v1::DTYPE_F32, v1::DTYPE_BF16},
                     {v1::DTYPE_BF16, v1::DTYPE_BF16, v1::DTYPE_F32}}));
  CAPTURE(v1::DType_Name(types.trained), v1::DType_Name(types.served));
  CastRig rig(types.own, types.trained, types.served);
  int64_t elements = 0;
  for (int64_t step = 1; step <= 2; ++step) {
    CAPTURE(step);
    const uint64_t version = rig.WriteStep(step);
    REQUIRE_OK_AND_ASSIGN(const v1::OperationResult result, rig.Sync());
    CHECK(result.version() == version);
    CHECK(result.digests_compared() > 0);
    // Two replicas of all matrices in 2 bytes ("shared" on both ranks of each)
    // and of the norm in 4, on four ranks.
    const int64_t moved = result.bytes().same_device() +
                          result.bytes().same_node() +
                          result.bytes().between_nodes();
    CHECK(moved ==
          2 * 2 * (1021 * 1537 + 2 * 600 * 500 + 3 * 64 * 128) + 4 * 4 * 333);
    elements = rig.CheckEngine(version, step);
    CHECK(elements ==
          2 * (1021 * 1537 + 2 * 600 * 500 + 3 * 64 * 128) + 4 * 333);
    CHECK_OK(rig.Verify(""));
    CHECK_OK(rig.Verify("trainer"));
  }
}

}  // namespace
}  // namespace sluice::testing
