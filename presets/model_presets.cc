#include "presets/model_presets.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "common/dtype.h"
#include "common/json_strict.h"
#include "common/layout_pattern.h"
#include "common/status_macros.h"
#include "presets/preset_table.h"

namespace sluice {
namespace {

using nlohmann::json;
using Variables = std::map<std::string, int64_t>;

using preset_internal::Preset;

// Made from presets/models/*.json by the build, in alphabetical order.
constexpr Preset kPresets[] = {
#include "presets/model_presets.inc"
};

constexpr size_t kMaxTensors = size_t{1} << 20;

// "a*b+3": sums of products of variables and numbers. nullopt if malformed,
// unknown or too large.
std::optional<int64_t> Evaluate(absl::string_view text,
                                const Variables& variables) {
  int64_t sum = 0;
  for (absl::string_view term : absl::StrSplit(text, '+')) {
    int64_t product = 1;
    for (absl::string_view factor : absl::StrSplit(term, '*')) {
      factor = absl::StripAsciiWhitespace(factor);
      int64_t value = 0;
      if (!absl::SimpleAtoi(factor, &value)) {
        const auto it = variables.find(std::string(factor));
        if (it == variables.end()) return std::nullopt;
        value = it->second;
      }
      if (__builtin_mul_overflow(product, value, &product)) return std::nullopt;
    }
    if (__builtin_add_overflow(sum, product, &sum)) return std::nullopt;
  }
  return sum;
}

// Reads an integer or an expression.
absl::Status ReadValue(JsonObject& object, absl::string_view key,
                       const json& value, const Variables& variables,
                       int64_t& out) {
  if (GetInt64(value, out)) return absl::OkStatus();
  if (value.is_string()) {
    const std::string text = value.get<std::string>();
    const std::optional<int64_t> number = Evaluate(text, variables);
    if (number.has_value()) {
      out = *number;
      return absl::OkStatus();
    }
    return object.Error(key, absl::StrCat("\"", text,
                                          "\": expected sums of products of "
                                          "variables and numbers below 2^63"));
  }
  return object.Error(key, "expected a number or an expression");
}

// Appends the tensors of a list of entries; entries repeat by a counter.
class Expander {
 public:
  Expander(DType dtype, ModelPreset& out) : dtype_(dtype), out_(out) {}

  absl::Status AddList(JsonObject& owner, const Variables& counters) {
    SLUICE_RETURN_IF_ERROR(owner.Require("tensors"));
    const json& list = *owner.Find("tensors");
    if (!list.is_array()) return owner.Error("tensors", "expected a list");
    for (size_t i = 0; i < list.size(); ++i) {
      JsonObject entry(list[i],
                       absl::StrCat(owner.where(), ", tensors[", i, "]"));
      if (!list[i].is_object()) return entry.CheckNoOthers();
      SLUICE_RETURN_IF_ERROR(list[i].contains("repeat")
                                 ? AddRepeat(entry, counters)
                                 : AddTensor(entry, counters));
    }
    return absl::OkStatus();
  }

 private:
  absl::Status AddRepeat(JsonObject& entry, const Variables& counters) {
    std::string counter;
    int64_t from = 0;
    int64_t to = 0;
    int64_t step = 1;
    SLUICE_RETURN_IF_ERROR(entry.ReadString("repeat", counter));
    SLUICE_RETURN_IF_ERROR(ReadNumber(entry, "from", from));
    SLUICE_RETURN_IF_ERROR(entry.Require("to"));
    SLUICE_RETURN_IF_ERROR(ReadNumber(entry, "to", to));
    SLUICE_RETURN_IF_ERROR(ReadNumber(entry, "step", step));
    if (step < 1 || from < 0 || from > to) {
      return entry.Error("to", absl::StrCat("found ", from, " to ", to,
                                            " in steps of ", step));
    }
    entry.Find("tensors");
    SLUICE_RETURN_IF_ERROR(entry.CheckNoOthers());
    Variables inner = counters;
    for (int64_t i = from; i < to; i += step) {
      const size_t before = out_.model.tensors.size();
      inner[counter] = i;
      SLUICE_RETURN_IF_ERROR(AddList(entry, inner));
      if (out_.model.tensors.size() == before) break;  // an empty list
      if (step > to - i) break;  // the next would overflow, or be past the end
    }
    return absl::OkStatus();
  }

  absl::Status AddTensor(JsonObject& entry, const Variables& counters) {
    TensorSpec tensor;
    SLUICE_RETURN_IF_ERROR(entry.Require("name"));
    SLUICE_RETURN_IF_ERROR(entry.ReadString("name", tensor.name));
    for (const auto& [counter, value] : counters) {
      tensor.name = absl::StrReplaceAll(
          tensor.name,
          {{absl::StrCat("{", counter, "}"), absl::StrCat(value)}});
    }
    if (absl::StrContains(tensor.name, "{")) {
      return entry.Error(
          "name", absl::StrCat("\"", tensor.name, "\": unknown counter"));
    }
    tensor.dtype = dtype_;
    std::string dtype;
    SLUICE_RETURN_IF_ERROR(entry.ReadString("dtype", dtype));
    if (!dtype.empty()) {
      SLUICE_ASSIGN_OR_RETURN(tensor.dtype, ParseDType(dtype));
    }
    SLUICE_RETURN_IF_ERROR(entry.Require("shape"));
    SLUICE_RETURN_IF_ERROR(ReadShape(entry, "shape", tensor.shape));
    SLUICE_RETURN_IF_ERROR(ReadShape(entry, "block", tensor.block));
    SLUICE_RETURN_IF_ERROR(entry.CheckNoOthers());
    if (out_.model.tensors.size() >= kMaxTensors) {
      return entry.Error("name", "the model has too many tensors");
    }
    out_.model.tensors.push_back(std::move(tensor));
    return absl::OkStatus();
  }

  absl::Status ReadShape(JsonObject& entry, absl::string_view key, Shape& out) {
    const json* sizes = entry.Find(key);
    if (sizes == nullptr) return absl::OkStatus();
    if (!sizes->is_array()) return entry.Error(key, "expected a list");
    for (const json& size : *sizes) {
      out.push_back(0);
      SLUICE_RETURN_IF_ERROR(
          ReadValue(entry, key, size, out_.variables, out.back()));
    }
    return absl::OkStatus();
  }

  absl::Status ReadNumber(JsonObject& entry, absl::string_view key,
                          int64_t& out) {
    const json* value = entry.Find(key);
    if (value == nullptr) return absl::OkStatus();
    return ReadValue(entry, key, *value, out_.variables, out);
  }

  DType dtype_;
  ModelPreset& out_;
};

// Makes the matrices of a model, but for those to keep, quantised where its
// variable asks for it.
absl::Status ReadQuantisation(const json& section, ModelPreset& out) {
  JsonObject object(section, "model, quantisation");
  std::string variable, dtype;
  Shape block;
  std::vector<std::string> kept;
  for (const absl::string_view key : {"when", "dtype", "block"}) {
    SLUICE_RETURN_IF_ERROR(object.Require(key));
  }
  SLUICE_RETURN_IF_ERROR(object.ReadString("when", variable));
  SLUICE_RETURN_IF_ERROR(object.ReadString("dtype", dtype));
  SLUICE_RETURN_IF_ERROR(object.ReadInts("block", block));
  SLUICE_RETURN_IF_ERROR(object.ReadStrings("keep", kept));
  SLUICE_RETURN_IF_ERROR(object.CheckNoOthers());
  const auto asked = out.variables.find(variable);
  if (asked == out.variables.end()) {
    return object.Error(
        "when", absl::StrCat("\"", variable, "\": expected a variable"));
  }
  const absl::StatusOr<DType> parsed = ParseDType(dtype);
  if (!parsed.ok()) return object.Error("dtype", parsed.status().message());
  std::vector<NamePattern> patterns;
  for (const std::string& pattern : kept) {
    SLUICE_ASSIGN_OR_RETURN(patterns.emplace_back(),
                            NamePattern::Parse(pattern));
  }
  if (asked->second == 0) return absl::OkStatus();
  for (TensorSpec& tensor : out.model.tensors) {
    if (tensor.shape.size() != block.size()) continue;
    if (std::any_of(patterns.begin(), patterns.end(),
                    [&](const NamePattern& pattern) {
                      return pattern.Match(tensor.name).has_value();
                    })) {
      continue;
    }
    tensor.dtype = *parsed;
    tensor.block = block;
  }
  return absl::OkStatus();
}

absl::Status ReadVariables(JsonObject& root, const Variables& overrides,
                           Variables& out) {
  SLUICE_RETURN_IF_ERROR(root.Require("variables"));
  const json& variables = *root.Find("variables");
  if (!variables.is_object()) {
    return root.Error("variables", "expected an object of integers");
  }
  for (const auto& [name, value] : variables.items()) {
    if (!GetInt64(value, out[name])) {
      return root.Error("variables",
                        absl::StrCat("\"", name, "\": expected an integer"));
    }
  }
  for (const auto& [name, value] : overrides) {
    const auto it = out.find(name);
    if (it == out.end()) {
      std::vector<absl::string_view> known;
      for (const auto& [key, unused] : out) known.push_back(key);
      return root.Error("variables",
                        absl::StrCat("override of \"", name,
                                     "\", which it has not: did you mean \"",
                                     NearestName(name, known), "\"?"));
    }
    it->second = value;
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ModelPreset> ParseModelPreset(absl::string_view text,
                                             const Variables& overrides) {
  SLUICE_ASSIGN_OR_RETURN(const json value, ParseJson(text));
  JsonObject root(value, "model");
  ModelPreset out;
  std::string comment;
  std::string dtype;
  SLUICE_RETURN_IF_ERROR(root.ReadString("name", out.model.name));
  SLUICE_RETURN_IF_ERROR(root.ReadString("comment", comment));
  SLUICE_RETURN_IF_ERROR(root.ReadString("dtype", dtype));
  root.Find("variables");
  root.Find("tensors");
  root.Find("aliases");
  const json* quantisation = root.Find("quantisation");
  SLUICE_RETURN_IF_ERROR(root.CheckNoOthers());
  absl::StatusOr<DType> parsed = ParseDType(dtype);
  if (!parsed.ok()) return root.Error("dtype", parsed.status().message());
  SLUICE_RETURN_IF_ERROR(ReadVariables(root, overrides, out.variables));
  SLUICE_RETURN_IF_ERROR(Expander(*parsed, out).AddList(root, {}));
  if (quantisation != nullptr) {
    SLUICE_RETURN_IF_ERROR(ReadQuantisation(*quantisation, out));
  }
  if (const json* aliases = root.Find("aliases"); aliases != nullptr) {
    for (const auto& [alias, canonical] : aliases->items()) {
      if (!aliases->is_object() || !canonical.is_string()) {
        return root.Error("aliases", "expected an object of names");
      }
      out.model.aliases.emplace_back(alias, canonical.get<std::string>());
    }
  }
  SLUICE_RETURN_IF_ERROR(out.model.Validate());
  return out;
}

absl::StatusOr<ModelPreset> FindModelPreset(absl::string_view name,
                                            const Variables& overrides) {
  SLUICE_ASSIGN_OR_RETURN(
      const absl::string_view text,
      preset_internal::FindText(kPresets, "model preset", name));
  return ParseModelPreset(text, overrides);
}

std::vector<std::string> ModelPresetNames() {
  return preset_internal::Names(kPresets);
}

}  // namespace sluice
