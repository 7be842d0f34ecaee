#include "common/nccl_version.h"

#include "absl/strings/str_cat.h"

namespace sluice {

std::string NcclVersionName(int version) {
  // Up to 2.8 a version had four digits.
  const int unit = version < 10000 ? 1000 : 10000;
  return absl::StrCat(version / unit, ".", version % unit / 100, ".",
                      version % 100);
}

}  // namespace sluice
