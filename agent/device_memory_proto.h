#ifndef SLUICE_AGENT_DEVICE_MEMORY_PROTO_H_
#define SLUICE_AGENT_DEVICE_MEMORY_PROTO_H_

// Ranges of a GPU's memory between processes, as messages.

#include "agent/device/mapped_memory.h"
#include "proto/sluice/v1/worker_service.pb.h"

namespace sluice::agent {

inline DeviceRange RangeOf(const v1::DeviceMemory& proto) {
  return {proto.handle(), proto.offset_bytes(), proto.size_bytes(),
          proto.event()};
}

inline void FillRange(const DeviceRange& range, v1::DeviceMemory& proto) {
  proto.set_handle(range.handle);
  proto.set_offset_bytes(range.offset_bytes);
  proto.set_size_bytes(range.size_bytes);
  proto.set_event(range.event);
}

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_DEVICE_MEMORY_PROTO_H_
