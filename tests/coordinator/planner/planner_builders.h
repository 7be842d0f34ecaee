#ifndef SLUICE_TESTS_COORDINATOR_PLANNER_PLANNER_BUILDERS_H_
#define SLUICE_TESTS_COORDINATOR_PLANNER_PLANNER_BUILDERS_H_

// Small models, layouts, clusters and holdings for planner tests.

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "coordinator/planner/planner_inputs.h"

namespace sluice::testing {

// Ranks 0, 1, ... on these nodes.
coordinator::Topology MakeTopology(std::vector<int32_t> nodes);

std::vector<Rank> Ranks(std::initializer_list<int32_t> ranks);

// A mesh over ranks first, first+1, ...: MakeMesh("data=2,tensor=4", 0).
Mesh MakeMesh(absl::string_view axes, int32_t first);

// A decoder of `layers` layers, hidden size 16, 8 query and 2 KV heads of
// width 2, intermediate size 32, vocabulary 64, tied embedding; bf16. Elements:
// embed 64*16 = 1024, final norm 16; per layer q, o 16*16 = 256, k, v 4*16 =
// 64, gate, up, down 32*16 = 512, two norms of 16: together 2208.
std::shared_ptr<const ModelSpec> TinyDecoder(int layers);

// Column and row parallel over "tensor", stages over "pipe", replicas over
// "data", vocabulary split, embedding on the first and the last stage.
std::shared_ptr<const Layout> TrainerLayout();

// As an engine serves it: no stages, fused QKV and gate-up, KV heads repeated
// where "tensor" exceeds them.
std::shared_ptr<const Layout> EngineLayout();

// One tensor "w" of this shape, f32, with a layout that splits dimension `dim`
// over "tensor" (-1: replicated).
std::shared_ptr<const ModelSpec> OneTensor(Shape shape);
std::shared_ptr<const Layout> SplitOf(int dim);

// A reshard between two placements "from" and "to"; every source replica holds
// the version.
coordinator::ReshardInput MakeReshard(std::shared_ptr<const ModelSpec> model,
                                      std::shared_ptr<const Layout> from,
                                      Mesh from_mesh,
                                      std::shared_ptr<const Layout> to,
                                      Mesh to_mesh,
                                      coordinator::Topology topology);

// A holding of `bytes` bytes owned by the first holder.
coordinator::SampleHolding Held(std::string sample, std::string key,
                                int64_t bytes,
                                std::initializer_list<int32_t> holders);

}  // namespace sluice::testing

#endif  // SLUICE_TESTS_COORDINATOR_PLANNER_PLANNER_BUILDERS_H_
