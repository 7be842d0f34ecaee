#include "tests/integration/gpu_reduce_rig.h"

#include "absl/strings/str_cat.h"
#include "proto/sluice/v1/tensor.pb.h"
#include "tests/support/status_matchers.h"

namespace sluice::testing {
namespace {

std::vector<int> Numbers(int count) {
  std::vector<int> out;
  for (int i = 0; i < count; ++i) out.push_back(i);
  return out;
}

}  // namespace

GpuReduceRig::GpuReduceRig(int agents, std::vector<int> gpus)
    : agents_(agents) {
  TestCluster::Options options;
  options.nodes = 1;
  options.agents_per_node = agents;
  options.gpus = gpus.empty() ? Numbers(agents) : gpus;
  options.agent_flags = {"--nccl-abort-timeout=1s"};
  REQUIRE_OK_AND_ASSIGN(cluster_, TestCluster::Start(options));
  for (int i = 0; i < agents; ++i) {
    REQUIRE_OK_AND_ASSIGN(auto worker,
                          cluster().Attach(i, absl::StrCat("w", i)));
    workers_.push_back(std::move(worker));
    REQUIRE_OK_AND_ASSIGN(auto gpu, WorkerGpu::Open(runtime_, i));
    gpus_.push_back(std::make_unique<WorkerGpu>(std::move(gpu)));
  }
}

std::vector<int> GpuReduceRig::all() const { return Numbers(agents_); }

void ReduceAllTypes(GpuReduceRig& rig, const std::vector<int>& agents,
                    const ReduceRanks& ranks, int64_t divisor,
                    int64_t delay_ns) {
  std::vector<std::vector<std::unique_ptr<GpuTensors>>> tensors(ranks.size());
  std::vector<Heard> heard(ranks.size());
  for (size_t r = 0; r < ranks.size(); ++r) {
    for (const v1::DType dtype : {v1::DTYPE_F32, v1::DTYPE_BF16, v1::DTYPE_F16,
                                  v1::DTYPE_F64, v1::DTYPE_I32}) {
      for (const int64_t numel : {1, 999, 300'000}) {
        tensors[r].push_back(std::make_unique<GpuTensors>(
            rig.gpu(agents[r]), *ranks[r], dtype, numel));
      }
    }
  }
  for (size_t r = 0; r < ranks.size(); ++r) {
    for (const auto& each : tensors[r]) {
      each->Fill(static_cast<int>(r), delay_ns);
      ranks[r]->ReduceScatter(each->Inputs(), each->Output(), heard[r].Done());
    }
    ranks[r]->Flush([](const absl::Status&) {});
  }
  for (size_t r = 0; r < ranks.size(); ++r) {
    const auto statuses = heard[r].Await(tensors[r].size());
    REQUIRE(statuses.size() == tensors[r].size());
    for (const absl::Status& status : statuses) CHECK_OK(status);
    for (size_t i = 0; i < tensors[r].size(); ++i) {
      CAPTURE(r, i);
      CHECK(tensors[r][i]->IsReduced(static_cast<int>(r), divisor));
    }
  }
}

}  // namespace sluice::testing
