// bazel run //tests/golden:runner -- FILE...
//
// Runs files of golden cases (vectors/README.md) and says which pass. Ends with
// 1 if a case failed or a file could not be run.

#include <cstdio>
#include <cstdlib>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "tests/golden/golden_file.h"

namespace {

// `bazel run` starts programs elsewhere and names where it was called.
std::string FromCaller(const std::string& path) {
  const char* folder = std::getenv("BUILD_WORKING_DIRECTORY");
  if (folder == nullptr || path.empty() || path[0] == '/') return path;
  return absl::StrCat(folder, "/", path);
}

}  // namespace

int main(int argc, char* argv[]) {
  if (argc < 2 || absl::string_view(argv[1]) == "--help") {
    std::fputs("usage: runner FILE...\n", stderr);
    return argc < 2 ? 1 : 0;
  }
  bool failed = false;
  for (int i = 1; i < argc; ++i) {
    const absl::StatusOr<sluice::golden::FileResult> result =
        sluice::golden::RunGoldenFile(FromCaller(argv[i]));
    if (!result.ok()) {
      std::printf("%s\n", result.status().ToString().c_str());
      failed = true;
      continue;
    }
    std::fputs(result->Report().c_str(), stdout);
    failed = failed || !result->failures.empty();
  }
  return failed ? 1 : 0;
}
