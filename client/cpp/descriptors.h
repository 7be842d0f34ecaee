#ifndef SLUICE_CLIENT_CPP_DESCRIPTORS_H_
#define SLUICE_CLIENT_CPP_DESCRIPTORS_H_

// The worker's side of the agent's descriptor socket: gives memory, fetches
// memory, maps it.

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "agent/device/mapped_memory.h"
#include "agent/device/memory_file.h"
#include "client/cpp/worker.h"

namespace sluice {

// Where descriptors pass in one attachment.
struct DescriptorSource {
  std::string socket_path;
  uint64_t session = 0;
  absl::Duration timeout;
};

// Wraps a mapping for users.
std::shared_ptr<SharedBytes> AsSharedBytes(
    std::shared_ptr<agent::MappedMemory> memory);

// Gives the memory's descriptor to the agent under a token.
absl::Status GiveDescriptor(const DescriptorSource& source, uint64_t token,
                            const agent::MappedMemory& memory);

// Fetches the descriptor of a token and maps it whole.
absl::StatusOr<std::shared_ptr<agent::MappedMemory>> FetchMemory(
    const DescriptorSource& source, uint64_t token, agent::Access access);

}  // namespace sluice

#endif  // SLUICE_CLIENT_CPP_DESCRIPTORS_H_
