#include "agent/core/outbox.h"

namespace sluice::agent {

void Outbox::Respond(CallId call, absl::Status status, ReplyBody body) {
  Add(Reply{call, std::move(status), std::move(body)});
}

}  // namespace sluice::agent
