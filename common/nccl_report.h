#ifndef SLUICE_COMMON_NCCL_REPORT_H_
#define SLUICE_COMMON_NCCL_REPORT_H_

// What an agent tells of its communicators of NCCL: NcclReport of
// proto/sluice/v1/membership_service.proto.

#include <cstdint>
#include <string>
#include <vector>

namespace sluice {

enum class CommunicatorState {
  kUnspecified = 0,
  kConnecting = 1,
  kReady = 2,
  kEnding = 3,
  kEnded = 4,
};

struct CommunicatorReport {
  std::string name;  // of its group
  int64_t members = 0;
  CommunicatorState state = CommunicatorState::kUnspecified;
  // Why it ends or has ended; empty while it does not.
  std::string error;
  friend bool operator==(const CommunicatorReport&,
                         const CommunicatorReport&) = default;
};

struct NcclReport {
  // At most kMaxCommunicatorReports, the newest first; those that failed lately
  // come behind the others.
  std::vector<CommunicatorReport> communicators;
  // How many there are, those left out included.
  int64_t num_communicators = 0;
  friend bool operator==(const NcclReport&, const NcclReport&) = default;
};

}  // namespace sluice

#endif  // SLUICE_COMMON_NCCL_REPORT_H_
