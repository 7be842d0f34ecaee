#ifndef SLUICE_COORDINATOR_SERVICES_CATALOG_SERVICE_H_
#define SLUICE_COORDINATOR_SERVICES_CATALOG_SERVICE_H_

// See proto/sluice/v1/catalog_service.proto.

#include "coordinator/host.h"
#include "proto/sluice/v1/catalog_service.grpc.pb.h"

namespace sluice::coordinator {

class CatalogService final : public v1::CatalogService::CallbackService {
 public:
  explicit CatalogService(Host& host) : host_(host) {}

  grpc::ServerUnaryReactor* Locate(grpc::CallbackServerContext* context,
                                   const v1::LocateRequest* request,
                                   v1::LocateResponse* response) override;
  grpc::ServerUnaryReactor* ListSamples(
      grpc::CallbackServerContext* context,
      const v1::ListSamplesRequest* request,
      v1::ListSamplesResponse* response) override;
  grpc::ServerUnaryReactor* Clear(grpc::CallbackServerContext* context,
                                  const v1::ClearRequest* request,
                                  v1::ClearResponse* response) override;
  grpc::ServerUnaryReactor* PlanRedistribution(
      grpc::CallbackServerContext* context,
      const v1::RedistributeRequest* request,
      v1::PlanRedistributionResponse* response) override;
  grpc::ServerWriteReactor<v1::OperationUpdate>* Redistribute(
      grpc::CallbackServerContext* context,
      const v1::RedistributeRequest* request) override;

 private:
  Host& host_;
};

}  // namespace sluice::coordinator

#endif  // SLUICE_COORDINATOR_SERVICES_CATALOG_SERVICE_H_
