// Meshes as text: "pipe=2,data=4". What parses is arithmetic that inverts.

#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "common/check.h"
#include "common/ids.h"
#include "common/mesh.h"
#include "tests/fuzz/fuzz_target.h"

namespace sluice {
namespace {

constexpr int64_t kMaxRanks = 4096;

void Run(absl::string_view text) {
  const absl::StatusOr<std::vector<MeshAxis>> axes = ParseAxes(text);
  if (!axes.ok()) return;
  Mesh mesh;
  mesh.axes = *axes;
  int64_t size = 1;
  for (const MeshAxis& axis : mesh.axes) {
    if (__builtin_mul_overflow(size, axis.size, &size) || size > kMaxRanks) {
      SLUICE_CHECK(!mesh.Validate().ok()) << text;
      return;
    }
  }
  for (int64_t i = 0; i < size; ++i) {
    mesh.ranks.emplace_back(static_cast<int32_t>(i));
  }
  SLUICE_CHECK_OK(mesh.Validate());
  for (int64_t i = 0; i < size; ++i) {
    SLUICE_CHECK(mesh.IndexOf(mesh.Coordinates(i)) == i) << text;
  }
  const auto again = ParseAxes(mesh.ToString());
  SLUICE_CHECK(again.ok() && *again == mesh.axes) << text;
}

}  // namespace
}  // namespace sluice

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  sluice::Run({reinterpret_cast<const char*>(data), size});
  return 0;
}
