#ifndef SLUICE_COMMON_CONVERT_PLAN_H_
#define SLUICE_COMMON_CONVERT_PLAN_H_

// proto/sluice/v1/plan.proto <-> common/plan.h.
//
// Errors of every FromProto: INVALID_ARGUMENT - names the field by its path,
// what was expected and what was found. That a plan is right is the validator's
// question; here it is only well formed: indices exist, numbers do not
// overflow.

#include <string>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/plan.h"
#include "proto/sluice/v1/plan.pb.h"

namespace sluice {

v1::TransferKind ToProto(TransferKind kind);
v1::LinkClass ToProto(LinkClass link);
v1::LinkBytes ToProto(const LinkBytes& bytes);
v1::TensorRun ToProto(const TensorRun& run);
v1::Transfer ToProto(const Transfer& transfer);
v1::PlanPart ToProto(const PlanPart& part);
// `agent_of_rank`: names by rank, for people; may be shorter. Ranks without
// bytes in or out are left out.
v1::Certificate ToProto(const Certificate& certificate,
                        absl::Span<const std::string> agent_of_rank);

// Unspecified and unknown kinds are refused.
absl::StatusOr<TransferKind> FromProto(v1::TransferKind proto);
absl::StatusOr<LinkClass> FromProto(v1::LinkClass proto);
absl::StatusOr<LinkBytes> FromProto(const v1::LinkBytes& proto);
absl::StatusOr<TensorRun> FromProto(const v1::TensorRun& proto);
// Tensors or samples, not both and not neither; a wire type for tensors and
// none for samples.
absl::StatusOr<Transfer> FromProto(const v1::Transfer& proto);
// Also: ids and reads_after are below num_plan_transfers, sample indices below
// the number of entries.
absl::StatusOr<PlanPart> FromProto(const v1::PlanPart& proto);
// Ranks are dropped into vectors that end with the highest one listed.
absl::StatusOr<Certificate> FromProto(const v1::Certificate& proto);

}  // namespace sluice

#endif  // SLUICE_COMMON_CONVERT_PLAN_H_
