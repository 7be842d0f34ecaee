// gpu_lender SOCKET ROWS STEP DELAY_NS [no-event]: a worker that lends memory
// of a GPU for its part of policy/trainer (patterned_model.h), writes one step
// there behind a kernel of that length, says so, and stays until it is killed.
// With "no-event" it forgets to lend the event that its writes are behind.

#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "client/cpp/worker.h"
#include "common/status_macros.h"
#include "proto/sluice/v1/tensor.pb.h"
#include "proto/sluice/v1/worker_service.pb.h"
#include "tests/fakes/cuda/process_gpu.h"
#include "tests/integration/gpu_memory.h"
#include "tests/integration/patterned_model.h"

namespace sluice::testing {
namespace {

struct Arguments {
  std::string socket;
  int64_t rows = 0;
  int64_t step = 0;
  int64_t delay_ns = 0;
  bool with_event = true;
};

absl::Status Run(const Arguments& arguments) {
  SLUICE_ASSIGN_OR_RETURN(
      const auto worker,
      Worker::Attach({.agent_socket = arguments.socket, .name = "lender"}));
  SLUICE_ASSIGN_OR_RETURN(const v1::GetPlacementResponse held,
                          worker->GetPlacement("policy", "trainer"));
  agent::cuda::ProcessGpuRuntime runtime;
  SLUICE_ASSIGN_OR_RETURN(const auto gpu, GpuOfWorker::Open(runtime));
  SLUICE_ASSIGN_OR_RETURN(GpuOfWorker::Lent lent,
                          gpu->Allocate(held.layout().buffer_bytes()));
  DeviceBytes shown = lent.bytes;
  if (!arguments.with_event) shown.event.clear();
  SLUICE_RETURN_IF_ERROR(worker->LendDevice("policy", "trainer", shown));
  SLUICE_RETURN_IF_ERROR(worker->BeginWrite("policy", "trainer"));
  std::vector<std::byte> content(
      static_cast<size_t>(held.layout().buffer_bytes()));
  FillStep(PatternedModel("policy", arguments.rows), held.layout(),
           arguments.step, content.data());
  SLUICE_RETURN_IF_ERROR(gpu->Write(lent, content, arguments.delay_ns));
  SLUICE_RETURN_IF_ERROR(
      worker->EndWrite("policy", "trainer", arguments.step).status());
  for (;;) pause();
}

}  // namespace
}  // namespace sluice::testing

int main(int argc, char* argv[]) {
  sluice::testing::Arguments arguments;
  if (argc < 5 || argc > 6 || !absl::SimpleAtoi(argv[2], &arguments.rows) ||
      !absl::SimpleAtoi(argv[3], &arguments.step) ||
      !absl::SimpleAtoi(argv[4], &arguments.delay_ns)) {
    std::fputs("usage: gpu_lender SOCKET ROWS STEP DELAY_NS [no-event]\n",
               stderr);
    return 2;
  }
  arguments.socket = argv[1];
  arguments.with_event = argc == 5;
  std::fprintf(stderr, "%s\n",
               sluice::testing::Run(arguments).ToString().c_str());
  return 1;
}
