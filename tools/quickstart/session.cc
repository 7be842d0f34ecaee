#include "tools/quickstart/session.h"

#include <optional>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "common/status_macros.h"
#include "tools/console/progress.h"

namespace sluice::quickstart {
namespace {

std::string PhaseName(v1::OperationPhase phase) {
  return absl::AsciiStrToLower(
      absl::StripPrefix(v1::OperationPhase_Name(phase), "OPERATION_PHASE_"));
}

}  // namespace

absl::StatusOr<Worker*> Session::Reader(int agent) {
  std::unique_ptr<Worker>& reader = readers[agent];
  if (reader == nullptr) {
    WorkerOptions worker;
    worker.agent_socket = cluster->agents()[static_cast<size_t>(agent)].socket;
    worker.name = "quickstart-reader";
    SLUICE_ASSIGN_OR_RETURN(reader, Worker::Attach(std::move(worker)));
  }
  return reader.get();
}

std::string Session::DeviceOf(int agent) const {
  const std::optional<int> gpu = options.GpuOf(agent, gpus);
  return gpu.has_value() ? absl::StrCat("cuda:", *gpu) : "host";
}

absl::StatusOr<OperationReport*> RunOperation(
    Session& session, const std::string& name,
    const std::function<
        absl::StatusOr<v1::OperationResult>(const Client::Progress&)>& run) {
  console::Progress progress(name, session.options.quiet);
  absl::StatusOr<v1::OperationResult> result =
      run([&](const v1::OperationUpdate& update) {
        std::string detail = PhaseName(update.phase());
        if (update.waiting_for_size() > 0) {
          absl::StrAppend(&detail, ", waits for ",
                          absl::StrJoin(update.waiting_for(), ", "));
        }
        progress.Update(update.bytes_done(), update.bytes_total(), detail);
      });
  progress.Finish(result.ok() ? "done" : "failed");
  if (!result.ok()) return Annotate(result.status(), name);
  OperationReport report;
  report.name = name;
  report.work.bytes = {result->bytes().same_device(),
                       result->bytes().same_node(),
                       result->bytes().between_nodes()};
  report.seconds = result->seconds();
  report.version = result->version();
  for (const v1::PhaseSeconds& phase : result->phases()) {
    report.phases.emplace_back(PhaseName(phase.phase()), phase.seconds());
  }
  session.report.operations.push_back(std::move(report));
  return &session.report.operations.back();
}

}  // namespace sluice::quickstart
