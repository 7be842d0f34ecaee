#ifndef SLUICE_TESTS_SIM_CONTENTS_H_
#define SLUICE_TESTS_SIM_CONTENTS_H_

// What every byte of every version and sample must be. A content is what a
// checkpoint directory holds or what a worker's step wrote; a version is bound
// to one content for ever.

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "common/command.h"
#include "common/dtype.h"
#include "common/ids.h"
#include "common/plan.h"
#include "tests/sim/history.h"

namespace sluice::sim {

using ContentId = uint64_t;  // 0: none

class Contents {
 public:
  explicit Contents(History& history) : history_(history) {}

  ContentId OfDirectory(const std::string& directory);
  ContentId OfStep(const std::string& placement, int64_t step);

  // Byte `b` of element `index` (flat, row-major) of a logical tensor where it
  // is held as `dtype`, BF16 or F32: the same value, which both have exactly.
  static uint8_t ParameterByte(ContentId content, TensorIndex tensor,
                               int64_t index, DType dtype, int64_t b);
  static uint8_t SampleByte(const SampleEntry& entry, int64_t offset);

  // Takes note that the version is this content; a violation if it is another.
  void Assign(Version version, ContentId content, const std::string& by);
  // 0 if nobody published it.
  ContentId Of(Version version) const;

 private:
  ContentId Intern(const std::string& name);

  History& history_;
  std::map<std::string, ContentId> names_;
  std::map<Version, ContentId> versions_;
};

}  // namespace sluice::sim

#endif  // SLUICE_TESTS_SIM_CONTENTS_H_
