#include "tests/gpu/report.h"

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "tools/console/table.h"

namespace sluice::gpu_tests {
namespace {

using Json = nlohmann::json;

// As the file has it.
constexpr struct {
  Outcome outcome;
  const char* word;
} kWords[] = {{Outcome::kPassed, "passed"},
              {Outcome::kFailed, "failed"},
              {Outcome::kSkipped, "skipped"}};

const char* Word(Outcome outcome) {
  for (const auto& [known, word] : kWords) {
    if (known == outcome) return word;
  }
  return "failed";
}

Outcome OutcomeOf(const std::string& word) {
  for (const auto& [outcome, known] : kWords) {
    if (word == known) return outcome;
  }
  return Outcome::kFailed;
}

}  // namespace

absl::string_view Name(Outcome outcome) {
  return outcome == Outcome::kFailed ? "FAILED" : Word(outcome);
}

std::string Line(const Row& row) {
  return absl::StrCat(absl::StrFormat("%-7s %7.2f s  %s", Name(row.outcome),
                                      row.seconds, row.name),
                      row.why.empty() ? "" : ": ", row.why);
}

void Report::Set(Row row) {
  for (Row& there : rows) {
    if (there.name != row.name) continue;
    there = std::move(row);
    return;
  }
  rows.push_back(std::move(row));
}

int Report::Count(Outcome outcome) const {
  return static_cast<int>(
      std::count_if(rows.begin(), rows.end(),
                    [&](const Row& row) { return row.outcome == outcome; }));
}

std::string Report::Print() const {
  using console::Align;
  console::Table table({{"check", Align::kLeft},
                        {"result", Align::kLeft},
                        {"seconds", Align::kRight},
                        {"why", Align::kLeft}});
  for (const Row& row : rows) {
    table.Add({row.name, std::string(Name(row.outcome)),
               absl::StrFormat("%.2f", row.seconds), row.why});
  }
  return absl::StrCat(gpu, ", compute capability ", compute_capability, "\n",
                      table.Print(), Count(Outcome::kPassed), " passed, ",
                      Count(Outcome::kFailed), " failed, ",
                      Count(Outcome::kSkipped), " skipped\n");
}

absl::StatusOr<Report> ReadReport(const std::string& path) {
  std::ifstream file(path);
  if (!file) return absl::NotFoundError(absl::StrCat("no file ", path));
  const Json json = Json::parse(file, nullptr, /*allow_exceptions=*/false);
  Report report;
  try {
    report.gpu = json.at("gpu");
    report.compute_capability = json.at("compute_capability");
    for (const Json& check : json.at("checks")) {
      report.rows.push_back({check.at("name"), OutcomeOf(check.at("result")),
                             check.at("message"), check.at("seconds")});
    }
  } catch (const Json::exception& error) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, " is no summary of gpu_tests: ", error.what()));
  }
  return report;
}

absl::Status WriteReport(const Report& report, const std::string& path) {
  Json checks = Json::array();
  for (const Row& row : report.rows) {
    checks.push_back({{"name", row.name},
                      {"result", Word(row.outcome)},
                      {"passed", row.outcome == Outcome::kPassed},
                      {"message", row.why},
                      {"seconds", row.seconds}});
  }
  const Json summary = {{"gpu", report.gpu},
                        {"compute_capability", report.compute_capability},
                        {"passed", report.Count(Outcome::kPassed)},
                        {"failed", report.Count(Outcome::kFailed)},
                        {"skipped", report.Count(Outcome::kSkipped)},
                        {"checks", checks}};
  const std::string fresh = path + ".new";
  std::ofstream file(fresh);
  // What a row says may hold any bytes: a tail of another program's output.
  file << summary.dump(2, ' ', false, Json::error_handler_t::replace) << "\n";
  file.close();
  if (file && std::rename(fresh.c_str(), path.c_str()) == 0) {
    return absl::OkStatus();
  }
  return absl::FailedPreconditionError(absl::StrCat("cannot write ", path));
}

}  // namespace sluice::gpu_tests
