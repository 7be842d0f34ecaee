// Presets: layouts whose numbers come from a model's configuration.

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "common/json_strict.h"
#include "common/layout_json.h"
#include "common/status_macros.h"

namespace sluice {
namespace {

using nlohmann::json;
using Variables = std::map<std::string, int64_t>;

absl::Status UnknownVariable(absl::string_view name,
                             const Variables& variables) {
  std::vector<absl::string_view> known;
  for (const auto& [key, number] : variables) known.push_back(key);
  const std::string nearest = NearestName(name, known);
  return absl::InvalidArgumentError(absl::StrCat(
      "preset: variable \"", name, "\" is unknown",
      nearest.empty() ? ""
                      : absl::StrCat(": did you mean \"", nearest, "\"?")));
}

// "name" or "name|default".
absl::StatusOr<int64_t> ValueOfVariable(absl::string_view text,
                                        const Variables& variables) {
  const size_t bar = text.find('|');
  const std::string name(text.substr(0, bar));
  const auto it = variables.find(name);
  if (it != variables.end()) return it->second;
  if (bar == absl::string_view::npos) return UnknownVariable(name, variables);
  int64_t value = 0;
  if (!absl::SimpleAtoi(text.substr(bar + 1), &value)) {
    return absl::InvalidArgumentError(
        absl::StrCat("preset: \"$", text, "\": expected a number after \"|\""));
  }
  return value;
}

absl::Status Substitute(json& value, const Variables& variables) {
  if (value.is_structured()) {
    for (json& item : value) {
      SLUICE_RETURN_IF_ERROR(Substitute(item, variables));
    }
  } else if (value.is_string()) {
    const std::string text = value.get<std::string>();
    if (!text.empty() && text[0] == '$') {
      SLUICE_ASSIGN_OR_RETURN(
          value, ValueOfVariable(absl::string_view(text).substr(1), variables));
    }
  }
  return absl::OkStatus();
}

// Takes `key` out of a rule: whether all its variables have the numbers given.
// A rule without it: `absent`.
absl::StatusOr<bool> TakeCondition(json& rule, const char* key, bool absent,
                                   const Variables& variables) {
  if (!rule.is_object() || !rule.contains(key)) return absent;
  const json condition = rule[key];
  rule.erase(key);
  if (!condition.is_object()) {
    return absl::InvalidArgumentError(
        absl::StrCat("preset: \"", key, "\": expected an object of variables"));
  }
  bool holds = true;
  for (const auto& [name, expected] : condition.items()) {
    int64_t number = 0;
    if (!GetInt64(expected, number)) {
      return absl::InvalidArgumentError(absl::StrCat(
          "preset: \"", key, "\": \"", name, "\": expected an integer"));
    }
    SLUICE_ASSIGN_OR_RETURN(const int64_t value,
                            ValueOfVariable(name, variables));
    holds = holds && value == number;
  }
  return holds;
}

}  // namespace

absl::StatusOr<Layout> ResolvePreset(absl::string_view text,
                                     const Variables& variables) {
  SLUICE_ASSIGN_OR_RETURN(json value, ParseJson(text));
  if (value.is_object() && value.contains("rules") &&
      value["rules"].is_array()) {
    json kept = json::array();
    for (json& rule : value["rules"]) {
      SLUICE_ASSIGN_OR_RETURN(const bool when,
                              TakeCondition(rule, "when", true, variables));
      SLUICE_ASSIGN_OR_RETURN(const bool unless,
                              TakeCondition(rule, "unless", false, variables));
      if (when && !unless) kept.push_back(std::move(rule));
    }
    value["rules"] = std::move(kept);
  }
  SLUICE_RETURN_IF_ERROR(Substitute(value, variables));
  // Read as a layout from text: what is left has nothing of a preset's.
  return ParseLayout(
      value.dump(-1, ' ', false, json::error_handler_t::replace));
}

}  // namespace sluice
