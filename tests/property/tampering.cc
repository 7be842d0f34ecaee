#include "tests/property/tampering.h"

#include <algorithm>
#include <cstdlib>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "common/check.h"
#include "common/dtype.h"
#include "coordinator/planner/certificate.h"

namespace sluice::testing {

namespace {

#if defined(__SANITIZE_ADDRESS__)
constexpr int kShare = 4;
#else
constexpr int kShare = 1;
#endif

}  // namespace

int NumCases(int usual) {
  const char* const text = std::getenv("SLUICE_PROPERTY_FACTOR");
  if (text == nullptr) return usual / kShare;
  int factor = 0;
  SLUICE_CHECK(absl::SimpleAtoi(text, &factor) && factor > 0 &&
               factor <= 100'000)
      << "SLUICE_PROPERTY_FACTOR=" << text;
  return usual * factor / kShare;
}

void Dress(const coordinator::ReshardInput& input, TransferPlan& plan) {
  for (size_t i = 0; i < plan.transfers.size(); ++i) {
    Transfer& transfer = plan.transfers[i];
    transfer.id = static_cast<uint32_t>(i);
    transfer.link =
        input.topology.Between(transfer.source, transfer.destination);
    transfer.kind = transfer.source == transfer.destination
                        ? TransferKind::kLocalCopy
                        : TransferKind::kSendRecv;
    transfer.bytes = 0;
    for (const TensorRun& run : transfer.params.tensors) {
      transfer.bytes += run.count * transfer.params.box.num_elements() *
                        ByteSize(transfer.wire_dtype);
    }
  }
  plan.certificate =
      coordinator::MakeCertificate(input.topology, plan.transfers,
                                   /*lower_bound_bytes=*/0,
                                   /*wasted_bytes=*/0);
}

void Dress(const coordinator::RedistributionInput& input, TransferPlan& plan) {
  int64_t wasted = 0;
  for (size_t i = 0; i < plan.transfers.size(); ++i) {
    Transfer& transfer = plan.transfers[i];
    transfer.id = static_cast<uint32_t>(i);
    transfer.link =
        input.topology.Between(transfer.source, transfer.destination);
    transfer.bytes = 0;
    for (const uint32_t s : transfer.samples) {
      transfer.bytes += plan.entries[s].num_bytes();
      for (size_t h = 0; h < input.holdings.size(); ++h) {
        if (!(input.holdings[h].entry == plan.entries[s])) continue;
        const std::vector<Rank>& holders = input.holdings[h].holders;
        const std::vector<Rank>& wanted = input.wanted[h];
        if (std::count(holders.begin(), holders.end(), transfer.destination) ||
            !std::count(wanted.begin(), wanted.end(), transfer.destination)) {
          wasted += plan.entries[s].num_bytes();
        }
      }
    }
  }
  plan.certificate =
      coordinator::MakeCertificate(input.topology, plan.transfers,
                                   /*lower_bound_bytes=*/0, wasted);
}

}  // namespace sluice::testing
