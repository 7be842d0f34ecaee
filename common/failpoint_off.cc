#include "common/failpoint.h"

namespace sluice {

// Weak: what links failpoint_on has the other one.
__attribute__((weak)) void Failpoint(const char*, int64_t) {}

}  // namespace sluice
