#ifndef SLUICE_AGENT_COPY_COPY_KERNELS_AVX2_H_
#define SLUICE_AGENT_COPY_COPY_KERNELS_AVX2_H_

// The AVX2 side of copy_kernels.h; called only where Avx2Supported(). On other
// architectures nothing is supported and the rest does not link.

#include "agent/copy/copy_kernels.h"

namespace sluice::agent::copy_internal {

bool Avx2Supported();

void CopyRowsAvx2(const Rows& rows, bool streaming);
void CopyAndDigestRowsAvx2(const Rows& rows, bool streaming, Digest& digest);
void DigestRowsAvx2(const Rows& rows, Digest& digest);

}  // namespace sluice::agent::copy_internal

#endif  // SLUICE_AGENT_COPY_COPY_KERNELS_AVX2_H_
