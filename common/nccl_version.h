#ifndef SLUICE_COMMON_NCCL_VERSION_H_
#define SLUICE_COMMON_NCCL_VERSION_H_

// Versions of NCCL for people.

#include <string>

namespace sluice {

// "2.28.9" of 22809; also of the older way of counting (2708 is 2.7.8).
std::string NcclVersionName(int version);

}  // namespace sluice

#endif  // SLUICE_COMMON_NCCL_VERSION_H_
