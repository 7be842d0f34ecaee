#include "agent/transport/ucx_transport.h"

#include <utility>

#include "agent/transport/ucx_address.h"
#include "agent/transport/ucx_engine.h"
#include "common/status_macros.h"

namespace sluice::agent {

absl::StatusOr<std::unique_ptr<UcxTransport>> UcxTransport::Create(
    const Options& options) {
  auto engine = std::make_unique<Engine>();
  SLUICE_RETURN_IF_ERROR(engine->Open(options));
  engine->StartThread();
  return std::unique_ptr<UcxTransport>(new UcxTransport(std::move(engine)));
}

UcxTransport::UcxTransport(std::unique_ptr<Engine> engine)
    : engine_(std::move(engine)) {}

UcxTransport::~UcxTransport() { engine_->Stop(); }

const std::string& UcxTransport::LocalAddress() const {
  return engine_->address();
}

absl::Status UcxTransport::Connect(PeerKey peer, absl::string_view address) {
  SLUICE_ASSIGN_OR_RETURN(UcxAddress decoded, DecodeUcxAddress(address));
  Engine* engine = engine_.get();
  engine->Post([engine, peer, decoded = std::move(decoded)]() mutable {
    engine->Connect(peer, std::move(decoded));
  });
  return absl::OkStatus();
}

void UcxTransport::Disconnect(PeerKey peer, Done done) {
  Engine* engine = engine_.get();
  engine->Post([engine, peer, done = std::move(done)]() mutable {
    engine->Disconnect(peer, std::move(done));
  });
}

void UcxTransport::Send(GroupId group, PeerKey peer, uint64_t tag,
                        const void* data, int64_t bytes, Done done) {
  Engine* engine = engine_.get();
  engine->Post([=, done = std::move(done)]() mutable {
    engine->Send(group, peer, tag, data, bytes, std::move(done));
  });
}

void UcxTransport::Receive(GroupId group, PeerKey peer, uint64_t tag,
                           void* data, int64_t bytes, Done done) {
  Engine* engine = engine_.get();
  engine->Post([=, done = std::move(done)]() mutable {
    engine->Receive(group, peer, tag, data, bytes, std::move(done));
  });
}

void UcxTransport::CancelGroup(GroupId group, Done done) {
  Engine* engine = engine_.get();
  engine->Post([engine, group, done = std::move(done)]() mutable {
    engine->CancelGroup(group, std::move(done));
  });
}

}  // namespace sluice::agent
