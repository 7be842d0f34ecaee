#ifndef SLUICE_COORDINATOR_SERVICES_STATUS_SERVICE_H_
#define SLUICE_COORDINATOR_SERVICES_STATUS_SERVICE_H_

// See proto/sluice/v1/status_service.proto.

#include "coordinator/host.h"
#include "proto/sluice/v1/status_service.grpc.pb.h"

namespace sluice::coordinator {

class StatusService final : public v1::StatusService::CallbackService {
 public:
  explicit StatusService(Host& host) : host_(host) {}

  grpc::ServerUnaryReactor* GetStatus(grpc::CallbackServerContext* context,
                                      const v1::GetStatusRequest* request,
                                      v1::GetStatusResponse* response) override;
  grpc::ServerWriteReactor<v1::Event>* WatchEvents(
      grpc::CallbackServerContext* context,
      const v1::WatchEventsRequest* request) override;

 private:
  Host& host_;
};

}  // namespace sluice::coordinator

#endif  // SLUICE_COORDINATOR_SERVICES_STATUS_SERVICE_H_
