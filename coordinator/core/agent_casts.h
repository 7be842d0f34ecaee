#ifndef SLUICE_COORDINATOR_CORE_AGENT_CASTS_H_
#define SLUICE_COORDINATOR_CORE_AGENT_CASTS_H_

// Which element types a live placement may hold its tensors in. Planners know
// more conversions than agents carry out; this is where the two meet.

#include "absl/status/status.h"
#include "common/dtype.h"
#include "common/layout.h"
#include "common/mesh.h"
#include "common/model.h"

namespace sluice::coordinator {

// Whether agents convert between a tensor's own type and the one in which a
// placement holds it.
bool CastsAgentsCarryOut(DType own, DType held);

// Errors: UNIMPLEMENTED - the layout holds a tensor in a type that agents do
// not convert to; names tensor and both types. As ClassifyLayout.
absl::Status CheckCasts(const ModelSpec& model, const Layout& layout,
                        const Mesh& mesh);

}  // namespace sluice::coordinator

#endif  // SLUICE_COORDINATOR_CORE_AGENT_CASTS_H_
