#include "tests/golden/golden_file.h"

#include <fstream>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "tests/golden/topics.h"

namespace sluice::golden {
namespace {

using Checker = void (*)(CaseCheck&);

Checker CheckerOf(const std::string& topic) {
  static const auto& checkers = *new absl::flat_hash_map<std::string, Checker>{
      {"topology", CheckTopology},
      {"grid", CheckGrid},
      {"factors", CheckFactors},
      {"storage", CheckStorage},
      {"gather_scatter", CheckGatherScatter},
      {"bcast", CheckBroadcast},
      {"datapack", CheckDatapack},
      {"split", CheckSplit},
      {"dispatch", CheckDispatch},
      {"rank_mapping", CheckRankMapping},
      {"rank_mapping_hep", CheckRankMapping},
      {"sync_groups", CheckSyncGroups},
      {"bucketer", CheckBucketer},
  };
  const auto it = checkers.find(topic);
  return it == checkers.end() ? nullptr : it->second;
}

// A case that is not as the schema says fails; nlohmann-json throws.
void Judge(const CaseJudge& judge, CaseCheck& check) {
  try {
    judge(check);
  } catch (const Json::exception& error) {
    check.Fail(absl::StrCat("not as the schema says: ", error.what()));
  }
  if (check.num_comparisons() == 0) check.Fail("nothing was compared");
}

}  // namespace

std::string FileResult::Report() const {
  std::string report = absl::StrCat(topic, ": ", num_passed, " passed, ",
                                    failures.size(), " failed\n");
  for (const Failure& failure : failures) {
    absl::StrAppend(&report, "  ", failure.id, "\n");
    for (const std::string& difference : failure.differences) {
      absl::StrAppend(&report, "    ", difference, "\n");
    }
    const int64_t more = failure.num_differences -
                         static_cast<int64_t>(failure.differences.size());
    if (more > 0) absl::StrAppend(&report, "    and ", more, " more\n");
  }
  return report;
}

absl::StatusOr<FileResult> RunGoldenFile(
    const std::string& path, const std::map<std::string, CaseJudge>& also) {
  std::ifstream stream(path, std::ios::binary);
  if (!stream) {
    return absl::NotFoundError(
        absl::StrCat(path, ": expected a file, found none that can be read"));
  }
  const Json file =
      Json::parse(stream, /*cb=*/nullptr, /*allow_exceptions=*/false);
  const auto cases = file.is_object() ? file.find("cases") : file.end();
  if (!file.is_object() || cases == file.end() || !cases->is_array() ||
      cases->empty() || !file.contains("topic") || !file["topic"].is_string()) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": expected a topic and its cases, found none"));
  }
  FileResult result;
  result.topic = file["topic"].get<std::string>();
  const Checker checker = CheckerOf(result.topic);
  if (checker == nullptr || file.value("schema_version", Json()) != 1) {
    return absl::InvalidArgumentError(absl::StrCat(
        path, ": expected a known topic of schema version 1, found ",
        result.topic, " of ", file.value("schema_version", Json()).dump()));
  }
  for (size_t i = 0; i < cases->size(); ++i) {
    const Json& golden_case = (*cases)[i];
    CaseCheck check(golden_case);
    Judge(checker, check);
    const auto more = also.find(result.topic);
    if (more != also.end()) Judge(more->second, check);
    if (check.num_differences() == 0) {
      ++result.num_passed;
      continue;
    }
    const bool named = golden_case.is_object() && golden_case.contains("id") &&
                       golden_case["id"].is_string();
    result.failures.push_back(
        {named ? golden_case["id"].get<std::string>() : absl::StrCat("#", i),
         check.differences(), check.num_differences()});
  }
  return result;
}

}  // namespace sluice::golden
