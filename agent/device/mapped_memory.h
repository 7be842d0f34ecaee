#ifndef SLUICE_AGENT_DEVICE_MAPPED_MEMORY_H_
#define SLUICE_AGENT_DEVICE_MAPPED_MEMORY_H_

// Shared memory as seen by this process.

#include <cstddef>
#include <cstdint>

namespace sluice::agent {

// A mapping of shared memory; unmapped when the last owner lets go.
class MappedMemory {
 public:
  virtual ~MappedMemory() = default;
  virtual std::byte* data() const = 0;
  virtual int64_t size() const = 0;
  // The descriptor other processes map it with; borrowed, -1 if it has none.
  virtual int descriptor() const { return -1; }
};

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_DEVICE_MAPPED_MEMORY_H_
