// bazel run //tests/golden:runner -- FILE...
//
// Runs files of golden cases (vectors/README.md) and says which pass. Ends with
// 1 if a case failed or a file could not be run.
//
// Cases of topic bucketer are also run by real agents, started for it: with
// --values-only they are not.

#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "tests/golden/case_check.h"
#include "tests/golden/golden_file.h"
#include "tests/golden/reduce_agents.h"

namespace {

// `bazel run` starts programs elsewhere and names where it was called.
std::string FromCaller(const std::string& path) {
  const char* folder = std::getenv("BUILD_WORKING_DIRECTORY");
  if (folder == nullptr || path.empty() || path[0] == '/') return path;
  return absl::StrCat(folder, "/", path);
}

// Runs cases of topic bucketer on real agents, which the first one starts.
class OnAgents {
 public:
  void Judge(sluice::golden::CaseCheck& check) {
    if (agents_ == nullptr && status_.ok()) {
      auto started = sluice::golden::ReduceAgents::Start();
      status_ = started.status();
      if (started.ok()) agents_ = *std::move(started);
    }
    if (check.Ok("start of agents", status_)) {
      CheckBucketerOnAgents(*agents_, check);
    }
  }

 private:
  absl::Status status_;
  std::unique_ptr<sluice::golden::ReduceAgents> agents_;
};

}  // namespace

int main(int argc, char* argv[]) {
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  if (arguments.empty() || arguments[0] == "--help") {
    std::fputs("usage: runner [--values-only] FILE...\n", stderr);
    return arguments.empty() ? 1 : 0;
  }
  OnAgents on_agents;
  std::map<std::string, sluice::golden::CaseJudge> also = {
      {"bucketer", [&](auto& check) { on_agents.Judge(check); }}};
  bool failed = false;
  for (const std::string& argument : arguments) {
    if (argument == "--values-only") {
      also.clear();
      continue;
    }
    const absl::StatusOr<sluice::golden::FileResult> result =
        sluice::golden::RunGoldenFile(FromCaller(argument), also);
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
