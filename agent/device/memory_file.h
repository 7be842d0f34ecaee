#ifndef SLUICE_AGENT_DEVICE_MEMORY_FILE_H_
#define SLUICE_AGENT_DEVICE_MEMORY_FILE_H_

// Anonymous shared memory: memfds sealed against shrinking and growing, so that
// no process that maps one can be made to fault, handed from process to process
// as descriptors. Nothing has a name: what no process holds is gone.

#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "agent/device/mapped_memory.h"
#include "agent/device/unique_fd.h"

namespace sluice::agent {

enum class Access { kReadOnly, kReadWrite };

// Makes a sealed memfd of `bytes`; `label` is what /proc shows. No page is
// touched. Errors: INVALID_ARGUMENT - bytes below 1; RESOURCE_EXHAUSTED - no
// descriptor or memory left.
absl::StatusOr<UniqueFd> CreateMemoryFile(int64_t bytes,
                                          absl::string_view label);

// Verifies that a descriptor from another process is shared memory that cannot
// shrink; returns its size in bytes. Errors: INVALID_ARGUMENT - it is not.
absl::StatusOr<int64_t> CheckMemoryFile(int fd);

// Maps `bytes` from the start of the memory; the result keeps the descriptor.
// Pages are made when first touched; from 32 MiB on huge ones, where the system
// lets shared memory have those that ask (shmem_enabled: docs/performance.md).
// Mappings of 2 MiB or more begin at multiples of that, and so that whoever
// reads the same range of several at once has it in the caches at once.
// Errors: INVALID_ARGUMENT - bytes below 1 or more than the memory has;
// RESOURCE_EXHAUSTED - no address space left; PERMISSION_DENIED - opened for
// reading only.
absl::StatusOr<std::shared_ptr<MappedMemory>> MapMemoryFile(UniqueFd fd,
                                                            int64_t bytes,
                                                            Access access);

// Makes the pages of a mapping's bytes [lo, hi) that are not there yet, without
// changing what it holds, whoever writes it meanwhile. Returns false where the
// system cannot: they are then made when first touched.
bool MakePages(const MappedMemory& memory, int64_t lo, int64_t hi);

// Returns a new descriptor of the same memory that cannot be mapped for
// writing. Errors: RESOURCE_EXHAUSTED, UNAVAILABLE - no /proc.
absl::StatusOr<UniqueFd> ReopenReadOnly(int fd);
// Returns a new descriptor with the same rights. Errors: RESOURCE_EXHAUSTED.
absl::StatusOr<UniqueFd> Duplicate(int fd);

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_DEVICE_MEMORY_FILE_H_
