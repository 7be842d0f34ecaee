#include "common/failpoint.h"

namespace sluice {

void Failpoint(const char*, int64_t) {}

}  // namespace sluice
