// The parent's side of the pairs.

#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "bench/transfer_cases.h"
#include "common/status_macros.h"

namespace sluice::bench {

absl::StatusOr<NetworkPairs> NetworkPairs::Create(int pairs, int64_t bytes) {
  NetworkPairs all;
  all.bytes_ = bytes;
  for (int i = 0; i < 2 * pairs; ++i) {
    SLUICE_RETURN_IF_ERROR(all.processes_->Fork([&](int from, int to) {
      return RunNetworkPeer(/*sender=*/i % 2 == 0, i / 2, bytes, from, to);
    }));
  }
  SLUICE_ASSIGN_OR_RETURN(std::vector<std::string> addresses,
                          all.processes_->ReadEach());
  // To each its partner's.
  for (size_t i = 0; i < addresses.size(); i += 2) {
    std::swap(addresses[i], addresses[i + 1]);
  }
  SLUICE_RETURN_IF_ERROR(all.processes_->TellEach(addresses));
  SLUICE_RETURN_IF_ERROR(all.processes_->Expect("up"));
  return all;
}

absl::StatusOr<Rate> NetworkPairs::Run(NetworkCase what) {
  SLUICE_ASSIGN_OR_RETURN(const double seconds,
                          processes_->Time(absl::StrCat(
                              static_cast<int>(what), " ", next_operation_++)));
  const int64_t each = what == NetworkCase::kStrided ? bytes_ / 2 : bytes_;
  return Rate{each * static_cast<int64_t>(processes_->size() / 2), seconds};
}

}  // namespace sluice::bench
