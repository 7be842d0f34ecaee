#ifndef SLUICE_COORDINATOR_SERVICES_MODEL_SERVICE_H_
#define SLUICE_COORDINATOR_SERVICES_MODEL_SERVICE_H_

// See proto/sluice/v1/model_service.proto.

#include "coordinator/host.h"
#include "proto/sluice/v1/model_service.grpc.pb.h"

namespace sluice::coordinator {

class ModelService final : public v1::ModelService::CallbackService {
 public:
  explicit ModelService(Host& host) : host_(host) {}

  grpc::ServerUnaryReactor* RegisterModel(
      grpc::CallbackServerContext* context,
      const v1::RegisterModelRequest* request,
      v1::RegisterModelResponse* response) override;
  grpc::ServerUnaryReactor* RegisterPlacement(
      grpc::CallbackServerContext* context,
      const v1::RegisterPlacementRequest* request,
      v1::RegisterPlacementResponse* response) override;
  grpc::ServerUnaryReactor* RemovePlacement(
      grpc::CallbackServerContext* context,
      const v1::RemovePlacementRequest* request,
      v1::RemovePlacementResponse* response) override;
  grpc::ServerUnaryReactor* GetModel(grpc::CallbackServerContext* context,
                                     const v1::GetModelRequest* request,
                                     v1::GetModelResponse* response) override;
  grpc::ServerWriteReactor<v1::OperationUpdate>* Load(
      grpc::CallbackServerContext* context,
      const v1::LoadRequest* request) override;
  grpc::ServerUnaryReactor* PlanSync(grpc::CallbackServerContext* context,
                                     const v1::SyncRequest* request,
                                     v1::PlanSyncResponse* response) override;
  grpc::ServerWriteReactor<v1::OperationUpdate>* Sync(
      grpc::CallbackServerContext* context,
      const v1::SyncRequest* request) override;
  grpc::ServerWriteReactor<v1::OperationUpdate>* Verify(
      grpc::CallbackServerContext* context,
      const v1::VerifyRequest* request) override;
  grpc::ServerUnaryReactor* CancelOperation(
      grpc::CallbackServerContext* context,
      const v1::CancelOperationRequest* request,
      v1::CancelOperationResponse* response) override;

 private:
  Host& host_;
};

}  // namespace sluice::coordinator

#endif  // SLUICE_COORDINATOR_SERVICES_MODEL_SERVICE_H_
