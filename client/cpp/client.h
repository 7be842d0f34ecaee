#ifndef SLUICE_CLIENT_CPP_CLIENT_H_
#define SLUICE_CLIENT_CPP_CLIENT_H_

// Drives a Sluice cluster: one object per coordinator. Requests and answers are
// the messages of proto/sluice/v1, which say what each field means and how each
// call can fail; this adds deadlines, request ids and retries.
//
//   auto client = sluice::Client::Connect({.address = "127.0.0.1:7070"});
//   sluice::v1::SyncRequest sync;
//   sync.set_model("policy");
//   sync.set_source("trainer");
//   sync.add_destinations("rollout");
//   auto result = (*client)->Sync(sync, [](const auto& update) { ... });
//
// A call that meets no coordinator (or one that recovers) is tried again, with
// the same request id, until `retry_for` has passed; so is a long operation
// whose stream broke, however long it ran before. What the coordinator itself
// refused is never retried. A coordinator whose machine falls silent counts as
// gone after 15 s. WatchEvents is not retried: the caller knows its revision.

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "proto/sluice/v1/catalog_service.pb.h"
#include "proto/sluice/v1/model_service.pb.h"
#include "proto/sluice/v1/operation.pb.h"
#include "proto/sluice/v1/status_service.pb.h"

namespace sluice {

struct ClientOptions {
  // host:port of the coordinator.
  std::string address;
  // Deadline of each attempt of a short call.
  absl::Duration rpc_deadline = absl::Seconds(10);
  // How long to keep trying while no coordinator answers; zero never retries.
  absl::Duration retry_for = absl::Seconds(10);
  // Deadline of a long operation whose request says none.
  absl::Duration operation_deadline = absl::Minutes(10);
};

// Thread-safe; calls block.
class Client {
 public:
  // Called with every update of a long operation, on the calling thread.
  using Progress = std::function<void(const v1::OperationUpdate&)>;

  // Makes a client; connects on its first call. Errors: INVALID_ARGUMENT.
  static absl::StatusOr<std::unique_ptr<Client>> Connect(ClientOptions options);

  ~Client();
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  // ModelService. Requests without a request_id get a random one.
  absl::StatusOr<v1::RegisterModelResponse> RegisterModel(
      v1::RegisterModelRequest request);
  absl::StatusOr<v1::RegisterPlacementResponse> RegisterPlacement(
      v1::RegisterPlacementRequest request);
  absl::StatusOr<v1::RemovePlacementResponse> RemovePlacement(
      v1::RemovePlacementRequest request);
  absl::StatusOr<v1::GetModelResponse> GetModel(const std::string& model);
  absl::StatusOr<v1::PlanSyncResponse> PlanSync(const v1::SyncRequest& request);
  absl::StatusOr<v1::CancelOperationResponse> CancelOperation(
      uint64_t operation);

  // Long operations: return the result, or why there is none.
  absl::StatusOr<v1::OperationResult> Load(v1::LoadRequest request,
                                           const Progress& progress = {});
  absl::StatusOr<v1::OperationResult> Sync(v1::SyncRequest request,
                                           const Progress& progress = {});
  absl::StatusOr<v1::OperationResult> Verify(v1::VerifyRequest request,
                                             const Progress& progress = {});
  absl::StatusOr<v1::OperationResult> Redistribute(
      v1::RedistributeRequest request, const Progress& progress = {});

  // CatalogService.
  absl::StatusOr<v1::LocateResponse> Locate(const v1::LocateRequest& request);
  absl::StatusOr<v1::ListSamplesResponse> ListSamples(
      const v1::ListSamplesRequest& request);
  absl::StatusOr<v1::ClearResponse> Clear(v1::ClearRequest request);
  absl::StatusOr<v1::PlanRedistributionResponse> PlanRedistribution(
      const v1::RedistributeRequest& request);

  // StatusService.
  absl::StatusOr<v1::GetStatusResponse> GetStatus(int max_events = 20);
  // Calls `event` for each event after the revision until it returns false.
  // Errors: OUT_OF_RANGE - the watcher fell behind; UNAVAILABLE.
  absl::Status WatchEvents(uint64_t after_revision,
                           const std::function<bool(const v1::Event&)>& event);

 private:
  struct Impl;
  explicit Client(std::unique_ptr<Impl> impl);

  std::unique_ptr<Impl> impl_;
};

}  // namespace sluice

#endif  // SLUICE_CLIENT_CPP_CLIENT_H_
