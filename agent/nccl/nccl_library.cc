#include "agent/nccl/nccl_library.h"

#include <dlfcn.h>
#include <link.h>

#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "common/nccl_version.h"
#include "common/status_macros.h"

namespace sluice::agent {
namespace {

constexpr char kName[] = "libnccl.so.2";

std::vector<std::string> Candidates(const NcclLibraryOptions& options) {
  if (!options.path.empty()) return {options.path};
  std::vector<std::string> files;
  for (const std::string& folder : options.search) {
    files.push_back(absl::StrCat(folder, "/", kName));
    files.push_back(absl::StrCat(folder, "/nvidia/nccl/lib/", kName));
  }
  files.push_back(kName);
  return files;
}

absl::StatusOr<void*> Load(const NcclLibraryOptions& options) {
  std::vector<std::string> refusals;
  for (const std::string& file : Candidates(options)) {
    void* handle = ::dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (handle != nullptr) return handle;
    const char* why = ::dlerror();
    refusals.push_back(why != nullptr ? why : file);
  }
  return absl::NotFoundError(absl::StrCat(
      "no NCCL library (", absl::StrJoin(refusals, "; "),
      "): name its file in SLUICE_NCCL_LIBRARY, or folders to look in ",
      "(also Python's site-packages) in SLUICE_NCCL_SEARCH"));
}

std::string PathOf(void* handle) {
  link_map* map = nullptr;
  if (::dlinfo(handle, RTLD_DI_LINKMAP, &map) != 0 || map == nullptr) return {};
  return map->l_name;
}

// Collects what a library lacks while functions are looked up one by one.
class Resolver {
 public:
  Resolver(void* handle, std::vector<std::string>* features)
      : handle_(handle), features_(features) {}

  template <typename F>
  void Needed(F& function, const char* name) {
    if (!Find(function, name)) missing_.push_back(name);
  }
  template <typename F>
  void Optional(F& function, const char* name) {
    if (Find(function, name)) features_->push_back(name);
  }

  const std::vector<std::string>& missing() const { return missing_; }

 private:
  template <typename F>
  bool Find(F& function, const char* name) {
    function = reinterpret_cast<F>(::dlsym(handle_, name));
    return function != nullptr;
  }

  void* const handle_;
  std::vector<std::string>* const features_;
  std::vector<std::string> missing_;
};

}  // namespace

NcclLibraryOptions NcclLibraryOptions::FromEnvironment() {
  NcclLibraryOptions options;
  if (const char* path = std::getenv("SLUICE_NCCL_LIBRARY"); path != nullptr) {
    options.path = path;
  }
  if (const char* search = std::getenv("SLUICE_NCCL_SEARCH");
      search != nullptr) {
    options.search = absl::StrSplit(search, ':', absl::SkipEmpty());
  }
  return options;
}

absl::StatusOr<std::shared_ptr<const NcclLibrary>> NcclLibrary::Open(
    const NcclLibraryOptions& options) {
  SLUICE_ASSIGN_OR_RETURN(void* const handle, Load(options));
  std::shared_ptr<NcclLibrary> library(new NcclLibrary());
  library->path_ = PathOf(handle);
  // NCCL's own variable wins over what a configuration says, and is read at the
  // first call: where a user has set it, the making of a communicator would not
  // return, and nothing would be there to abort it by.
  ::setenv("NCCL_COMM_BLOCKING", "0", /*overwrite=*/1);

  auto* get_version = reinterpret_cast<decltype(NcclApi::GetVersion)>(
      ::dlsym(handle, "ncclGetVersion"));
  if (get_version == nullptr) {
    return absl::FailedPreconditionError(
        absl::StrCat(library->path_, " is no NCCL: it has no ncclGetVersion"));
  }
  if (get_version(&library->version_) != NcclResult::kSuccess) {
    return absl::FailedPreconditionError(
        absl::StrCat("NCCL in ", library->path_, " does not tell its version"));
  }
  // Before the functions: what an old version lacks is best said by its number.
  if (library->version_ < kMinimumVersion) {
    return absl::FailedPreconditionError(
        absl::StrCat("NCCL in ", library->path_, " is too old: found ",
                     NcclVersionName(library->version_), ", needed at least ",
                     NcclVersionName(kMinimumVersion)));
  }
  SLUICE_RETURN_IF_ERROR(library->Resolve(handle));
  return std::shared_ptr<const NcclLibrary>(std::move(library));
}

absl::Status NcclLibrary::Resolve(void* handle) {
  Resolver resolver(handle, &features_);
  resolver.Needed(api_.GetVersion, "ncclGetVersion");
  resolver.Needed(api_.GetUniqueId, "ncclGetUniqueId");
  resolver.Needed(api_.CommInitRankConfig, "ncclCommInitRankConfig");
  resolver.Needed(api_.CommFinalize, "ncclCommFinalize");
  resolver.Needed(api_.CommDestroy, "ncclCommDestroy");
  resolver.Needed(api_.CommAbort, "ncclCommAbort");
  resolver.Needed(api_.CommGetAsyncError, "ncclCommGetAsyncError");
  resolver.Needed(api_.CommCount, "ncclCommCount");
  resolver.Needed(api_.CommUserRank, "ncclCommUserRank");
  resolver.Needed(api_.GetErrorString, "ncclGetErrorString");
  resolver.Needed(api_.GetLastError, "ncclGetLastError");
  resolver.Needed(api_.GroupStart, "ncclGroupStart");
  resolver.Needed(api_.GroupEnd, "ncclGroupEnd");
  resolver.Needed(api_.Send, "ncclSend");
  resolver.Needed(api_.Recv, "ncclRecv");
  resolver.Needed(api_.Broadcast, "ncclBroadcast");
  resolver.Needed(api_.Reduce, "ncclReduce");
  resolver.Needed(api_.AllReduce, "ncclAllReduce");
  resolver.Needed(api_.AllGather, "ncclAllGather");
  resolver.Needed(api_.ReduceScatter, "ncclReduceScatter");
  resolver.Optional(api_.AlltoAll, "ncclAlltoAll");
  resolver.Optional(api_.CommRevoke, "ncclCommRevoke");
  resolver.Optional(api_.CommShrink, "ncclCommShrink");
  resolver.Optional(api_.CommSplit, "ncclCommSplit");
  resolver.Optional(api_.Gather, "ncclGather");
  resolver.Optional(api_.Scatter, "ncclScatter");
  if (resolver.missing().empty()) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("NCCL ", VersionName(), " in ", path_, " has no ",
                   absl::StrJoin(resolver.missing(), ", ")));
}

std::string NcclLibrary::VersionName() const {
  return NcclVersionName(version_);
}

absl::Status NcclLibrary::Check(NcclResult result, absl::string_view call,
                                NcclComm comm) const {
  absl::StatusCode code = absl::StatusCode::kInternal;
  switch (result) {
    case NcclResult::kSuccess:
    case NcclResult::kInProgress:
      return absl::OkStatus();
    case NcclResult::kInvalidArgument:
    case NcclResult::kInvalidUsage:
      code = absl::StatusCode::kFailedPrecondition;
      break;
    case NcclResult::kRemoteError:
    case NcclResult::kSystemError:
      code = absl::StatusCode::kUnavailable;
      break;
    case NcclResult::kUnhandledCudaError:
    case NcclResult::kInternalError:
      break;
  }
  std::string message = absl::StrCat(call, ": ", api_.GetErrorString(result));
  const char* details = api_.GetLastError(comm);
  if (details != nullptr && details[0] != '\0') {
    // Of the whole process: it may be another communicator's, and old.
    absl::StrAppend(&message, " (NCCL's last error: ", details, ")");
  }
  return absl::Status(code, message);
}

}  // namespace sluice::agent
