#include "agent/core/memory.h"

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace sluice::agent {

void OnTakeMemory(CoreState& state, const TakeMemoryRequest& request) {
  absl::Status status;
  if (request.bytes > state.buffers.free_bytes()) {
    status = absl::ResourceExhaustedError(absl::StrCat(
        request.label, " needs ", request.bytes, " bytes on agent ",
        state.options.name, ", ", state.buffers.free_bytes(), " of ",
        state.buffers.memory_bytes(), " are free"));
  } else {
    state.buffers.Take(request.bytes);
  }
  state.out.Respond(request.call, status, TakeMemoryReply{});
}

void OnMemoryReturned(CoreState& state, const MemoryReturnedEvent& event) {
  state.buffers.Return(event.bytes);
}

}  // namespace sluice::agent
