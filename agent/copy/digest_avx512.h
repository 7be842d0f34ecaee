#ifndef SLUICE_AGENT_COPY_DIGEST_AVX512_H_
#define SLUICE_AGENT_COPY_DIGEST_AVX512_H_

// The AVX-512 side of copy_kernels.h: digests that copy nothing. A load is a
// whole cache line, which is what counts where the bytes come from memory:
// there it reads a third faster than AVX2 does (in the nearest cache they are
// equal). Copies gain nothing from it.

#include "agent/copy/copy_kernels.h"

namespace sluice::agent::copy_internal {

bool Avx512Supported();

// Called only where Avx512Supported().
void DigestRowsAvx512(const Rows& rows, Digest& digest);

}  // namespace sluice::agent::copy_internal

#endif  // SLUICE_AGENT_COPY_DIGEST_AVX512_H_
