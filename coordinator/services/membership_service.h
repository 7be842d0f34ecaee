#ifndef SLUICE_COORDINATOR_SERVICES_MEMBERSHIP_SERVICE_H_
#define SLUICE_COORDINATOR_SERVICES_MEMBERSHIP_SERVICE_H_

// See proto/sluice/v1/membership_service.proto.

#include "coordinator/host.h"
#include "proto/sluice/v1/membership_service.grpc.pb.h"

namespace sluice::coordinator {

class MembershipService final : public v1::MembershipService::CallbackService {
 public:
  explicit MembershipService(Host& host) : host_(host) {}

  grpc::ServerUnaryReactor* Register(grpc::CallbackServerContext* context,
                                     const v1::RegisterRequest* request,
                                     v1::RegisterResponse* response) override;
  grpc::ServerUnaryReactor* Heartbeat(grpc::CallbackServerContext* context,
                                      const v1::HeartbeatRequest* request,
                                      v1::HeartbeatResponse* response) override;
  grpc::ServerUnaryReactor* Drain(grpc::CallbackServerContext* context,
                                  const v1::DrainRequest* request,
                                  v1::DrainResponse* response) override;

 private:
  Host& host_;
};

}  // namespace sluice::coordinator

#endif  // SLUICE_COORDINATOR_SERVICES_MEMBERSHIP_SERVICE_H_
