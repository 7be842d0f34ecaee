// quickstart_worker: a trainer rank, as far as Sluice sees one. It attaches to
// its agent, lends the memory of its weights (of the host, or of a GPU),
// "trains" them and puts rollout samples. It is told what to do by lines of
// JSON on stdin, and answers each with one on stdout: {"ok": true, ...} or
// {"ok": false, "error": "..."}. It ends with its stdin.

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdint>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "agent/cuda/cuda_runtime.h"
#include "agent/cuda/load_cuda_runtime.h"
#include "client/cpp/worker.h"
#include "common/convert_tensor.h"
#include "common/model.h"
#include "common/program.h"
#include "common/status_macros.h"
#include "tools/quickstart/gpu_memory.h"
#include "tools/quickstart/sample_batch.h"
#include "tools/quickstart/sign_flip.h"

namespace sluice::quickstart {
namespace {

using Json = nlohmann::json;

class TrainerRank {
 public:
  // `gpu`: where its weights lie; nullopt for the host's memory.
  static absl::StatusOr<std::unique_ptr<TrainerRank>> Attach(
      const WorkerOptions& options, std::optional<int> gpu) {
    auto rank = std::make_unique<TrainerRank>();
    rank->gpu_ = gpu;
    if (gpu.has_value()) {
      SLUICE_ASSIGN_OR_RETURN(rank->cuda_, agent::cuda::LoadCudaRuntime());
    }
    SLUICE_ASSIGN_OR_RETURN(rank->worker_, Worker::Attach(options));
    return rank;
  }

  // {"do": "lend", "model": M, "placement": P} -> {"bytes": N}
  absl::StatusOr<Json> Lend(const Json& command) {
    const std::string model = command.at("model");
    const std::string placement = command.at("placement");
    if (!gpu_.has_value()) {
      SLUICE_ASSIGN_OR_RETURN(weights_, worker_->Lend(model, placement));
      return Json{{"bytes", weights_->size()}};
    }
    SLUICE_ASSIGN_OR_RETURN(const v1::GetPlacementResponse held,
                            worker_->GetPlacement(model, placement));
    // A rank that holds nothing still lends, so that it counts as there.
    SLUICE_ASSIGN_OR_RETURN(
        gpu_weights_,
        GpuWeights::Allocate(
            *cuda_, *gpu_, std::max<int64_t>(1, held.layout().buffer_bytes())));
    SLUICE_RETURN_IF_ERROR(
        worker_->LendDevice(model, placement, gpu_weights_->lent()));
    return Json{{"bytes", gpu_weights_->size()}};
  }

  // {"do": "train", "model": M, "placement": P, "step": N} -> {"version": V}:
  // one exact update of all weights inside a write bracket.
  absl::StatusOr<Json> Train(const Json& command) {
    const std::string model = command.at("model");
    const std::string placement = command.at("placement");
    if (weights_ == nullptr && gpu_weights_ == nullptr) {
      return absl::FailedPreconditionError("no memory is lent");
    }
    SLUICE_ASSIGN_OR_RETURN(const v1::GetPlacementResponse held,
                            worker_->GetPlacement(model, placement));
    SLUICE_ASSIGN_OR_RETURN(const RankLayout layout, FromProto(held.layout()));
    SLUICE_RETURN_IF_ERROR(worker_->BeginWrite(model, placement));
    const auto flip = [&layout](std::byte* data, int64_t bytes) {
      return FlipSigns(layout, data, bytes);
    };
    const absl::Status flipped = gpu_weights_ != nullptr
                                     ? gpu_weights_->Update(flip)
                                     : flip(weights_->data(), weights_->size());
    // A failed update leaves the bracket open: the copy is torn, as it should
    // be, when this process ends.
    SLUICE_RETURN_IF_ERROR(flipped);
    SLUICE_ASSIGN_OR_RETURN(
        const uint64_t version,
        worker_->EndWrite(model, placement, command.at("step")));
    return Json{{"version", version}};
  }

  // {"do": "put", "seed": S, "size": N, "first": A, "step": B} -> {"tensors",
  // "bytes"}: samples A, A + B, A + 2 B, ... of the batch.
  absl::StatusOr<Json> Put(const Json& command) {
    const SampleBatch batch(command.at("seed").get<uint64_t>(),
                            command.at("size").get<int64_t>());
    std::vector<std::vector<std::byte>> bytes;
    std::vector<SampleValue> values;
    int64_t total = 0;
    for (int64_t i = command.at("first"); i < batch.size();
         i += command.at("step").get<int64_t>()) {
      for (const SampleEntry& entry : batch.Entries(i)) {
        bytes.push_back(batch.Bytes(entry));
        total += entry.num_bytes();
        values.push_back({ToProto(entry), bytes.back().data()});
      }
    }
    if (!values.empty()) SLUICE_RETURN_IF_ERROR(worker_->PutSamples(values));
    return Json{{"tensors", values.size()}, {"bytes", total}};
  }

 private:
  std::optional<int> gpu_;
  // Destroyed last: the agent is told that the worker goes before memory does.
  std::unique_ptr<agent::cuda::CudaRuntime> cuda_;
  std::unique_ptr<GpuWeights> gpu_weights_;
  std::shared_ptr<SharedBytes> weights_;
  std::unique_ptr<Worker> worker_;
};

// Of "host" or "cuda:N".
absl::StatusOr<std::optional<int>> ParseDevice(absl::string_view device) {
  if (device == "host") return std::optional<int>();
  int number = 0;
  if (absl::ConsumePrefix(&device, "cuda:") &&
      absl::SimpleAtoi(device, &number)) {
    return std::optional<int>(number);
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "--device: expected \"host\" or \"cuda:N\", found \"", device, "\""));
}

absl::StatusOr<Json> Obey(TrainerRank& rank, const std::string& line) {
  try {
    const Json command = Json::parse(line);
    const std::string what = command.at("do");
    if (what == "lend") return rank.Lend(command);
    if (what == "train") return rank.Train(command);
    if (what == "put") return rank.Put(command);
    return absl::InvalidArgumentError(
        absl::StrCat("unknown command \"", what, "\""));
  } catch (const Json::exception& bad) {
    return absl::InvalidArgumentError(bad.what());
  }
}

void Answer(const absl::StatusOr<Json>& result) {
  Json answer = result.ok() ? *result : Json::object();
  answer["ok"] = result.ok();
  if (!result.ok()) answer["error"] = result.status().ToString();
  std::cout << answer.dump() << std::endl;
}

absl::StatusOr<std::unique_ptr<TrainerRank>> Start(const WorkerOptions& options,
                                                   const std::string& device) {
  SLUICE_ASSIGN_OR_RETURN(const std::optional<int> gpu, ParseDevice(device));
  return TrainerRank::Attach(options, gpu);
}

int Run(const WorkerOptions& options, const std::string& device) {
  const absl::StatusOr<std::unique_ptr<TrainerRank>> rank =
      Start(options, device);
  if (!rank.ok()) {
    Answer(rank.status());
    return 1;
  }
  Answer(Json::object());
  for (std::string line; std::getline(std::cin, line);) {
    Answer(Obey(**rank, line));
  }
  return 0;
}

}  // namespace
}  // namespace sluice::quickstart

SLUICE_PROGRAM(QuickstartWorker) {
  sluice::WorkerOptions options;
  CLI::App app{"A trainer rank of the quickstart, driven by JSON on stdin."};
  app.add_option("--agent-socket", options.agent_socket,
                 "Unix socket of its agent")
      ->required();
  app.add_option("--name", options.name, "Name of this worker")->required();
  std::string device = "host";
  app.add_option("--device", device,
                 "Where its weights lie: \"host\" or \"cuda:N\"");
  CLI11_PARSE(app, argc, argv);
  return sluice::quickstart::Run(options, device);
}
