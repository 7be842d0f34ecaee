#ifndef SLUICE_AGENT_NCCL_NCCL_LIBRARY_H_
#define SLUICE_AGENT_NCCL_NCCL_LIBRARY_H_

// NCCL as it is found on this machine at run time.

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "agent/nccl/nccl_api.h"

namespace sluice::agent {

struct NcclLibraryOptions {
  // The library's file; nothing else is tried then. Empty: libnccl.so.2, first
  // in `search`, then where the system's loader looks.
  std::string path;
  // Folders that may hold libnccl.so.2, or Python's packages (site-packages)
  // with the wheel nvidia-nccl-cu*.
  std::vector<std::string> search;

  // SLUICE_NCCL_LIBRARY is the path, SLUICE_NCCL_SEARCH the folders, separated
  // by colons.
  static NcclLibraryOptions FromEnvironment();
};

// An open library. Immutable, thread-safe; stays loaded until the process ends,
// because NCCL has threads of its own.
class NcclLibrary {
 public:
  // 2.19.0. Before, failures were not safe: 2.17's thread that makes a
  // communicator goes on reading where the handle was asked for, and an abort
  // does not wait for it; 2.18 loses errors of its proxy threads, so that
  // nobody learns of a connection that broke.
  static constexpr int kMinimumVersion = 21900;

  // Loads, resolves every needed function and checks the version. Sets
  // NCCL_COMM_BLOCKING=0 in the environment: no call is to block. So no other
  // thread may use the environment meanwhile.
  // Errors: NOT_FOUND - no such library (names what was tried, and why each was
  // refused). FAILED_PRECONDITION - too old a version (found, needed), or a
  // function is missing (named).
  static absl::StatusOr<std::shared_ptr<const NcclLibrary>> Open(
      const NcclLibraryOptions& options);

  NcclLibrary(const NcclLibrary&) = delete;
  NcclLibrary& operator=(const NcclLibrary&) = delete;

  const NcclApi& api() const { return api_; }
  // The file that was loaded.
  const std::string& path() const { return path_; }
  // As NCCL counts: 22809 is 2.28.9.
  int version() const { return version_; }
  // "2.28.9".
  std::string VersionName() const;
  // What this library has of the functions that are not needed, by name
  // ("ncclAlltoAll"), in alphabetical order.
  const std::vector<std::string>& features() const { return features_; }

  // A result as a status: OK for kSuccess and kInProgress. `call` names the
  // function ("ncclCommInitRankConfig"); `comm` may be null. The text ends with
  // NCCL's last error, which is one for the whole process, and said to be that.
  // kInvalidArgument and kInvalidUsage are FAILED_PRECONDITION, kRemoteError
  // and kSystemError UNAVAILABLE, the others INTERNAL.
  absl::Status Check(NcclResult result, absl::string_view call,
                     NcclComm comm = nullptr) const;

 private:
  NcclLibrary() = default;
  absl::Status Resolve(void* handle);

  NcclApi api_ = {};
  std::string path_;
  int version_ = 0;
  std::vector<std::string> features_;
};

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_NCCL_NCCL_LIBRARY_H_
