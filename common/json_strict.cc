#include "common/json_strict.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace sluice {
namespace {

using nlohmann::json;

constexpr size_t kMaxDepth = 64;

// Builds the document, refusing what json::parse() lets pass.
class StrictBuilder : public nlohmann::json_sax<json> {
 public:
  absl::Status status() const { return status_; }
  json TakeRoot() { return std::move(root_); }

  bool null() override { return Add(nullptr); }
  bool boolean(bool value) override { return Add(value); }
  bool number_integer(number_integer_t value) override { return Add(value); }
  bool number_unsigned(number_unsigned_t value) override { return Add(value); }
  bool number_float(number_float_t value, const string_t&) override {
    return Add(value);
  }
  bool string(string_t& value) override { return Add(std::move(value)); }
  bool binary(binary_t&) override { return false; }
  bool start_object(size_t) override { return Open(json::object()); }
  bool start_array(size_t) override { return Open(json::array()); }
  bool end_object() override { return Close(); }
  bool end_array() override { return Close(); }

  bool key(string_t& key) override {
    if (open_.back()->contains(key)) {
      status_ = absl::InvalidArgumentError(
          absl::StrCat("JSON key \"", key, "\" is given twice"));
      return false;
    }
    key_ = std::move(key);
    return true;
  }

  bool parse_error(size_t position, const std::string& last_token,
                   const nlohmann::detail::exception&) override {
    if (status_.ok()) {
      status_ = absl::InvalidArgumentError(
          absl::StrCat("not JSON: byte ", position, ", near \"",
                       last_token.substr(0, 40), "\""));
    }
    return false;
  }

 private:
  bool Add(json value) {
    Place(std::move(value));
    return true;
  }
  json* Place(json value) {
    if (open_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    json& parent = *open_.back();
    if (parent.is_array()) {
      parent.push_back(std::move(value));
      return &parent.back();
    }
    return &(parent[key_] = std::move(value));
  }
  bool Open(json value) {
    if (open_.size() == kMaxDepth) {
      status_ = absl::InvalidArgumentError(
          absl::StrCat("JSON is nested deeper than ", kMaxDepth));
      return false;
    }
    open_.push_back(Place(std::move(value)));
    return true;
  }
  bool Close() {
    open_.pop_back();
    return true;
  }

  json root_;
  // Containers not closed yet. Only the last grows, so the others stay put.
  std::vector<json*> open_;
  std::string key_;
  absl::Status status_;
};

size_t EditDistance(absl::string_view a, absl::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = std::exchange(row[0], i);
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, replaced});
    }
  }
  return row[b.size()];
}

}  // namespace

absl::StatusOr<json> ParseJson(absl::string_view text) {
  StrictBuilder builder;
  if (!json::sax_parse(text.begin(), text.end(), &builder)) {
    if (builder.status().ok()) {
      return absl::InvalidArgumentError("not JSON");
    }
    return builder.status();
  }
  return builder.TakeRoot();
}

std::string NearestName(absl::string_view name,
                        absl::Span<const absl::string_view> candidates) {
  std::string best;
  size_t best_distance = std::numeric_limits<size_t>::max();
  // Long names come from outside: what lies beyond a line does not matter.
  name = name.substr(0, 80);
  for (const absl::string_view candidate : candidates) {
    const size_t distance = EditDistance(name, candidate);
    if (distance < best_distance) {
      best_distance = distance;
      best = std::string(candidate);
    }
  }
  return best;
}

bool GetInt64(const json& value, int64_t& out) {
  if (!value.is_number_integer()) return false;
  if (value.is_number_unsigned() &&
      value.get<uint64_t>() >
          static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
    return false;
  }
  out = value.get<int64_t>();
  return true;
}

const json* JsonObject::Find(absl::string_view key) {
  asked_.emplace_back(key);
  if (!json_.is_object()) return nullptr;
  const auto it = json_.find(asked_.back());
  return it == json_.end() ? nullptr : &*it;
}

absl::Status JsonObject::Error(absl::string_view key,
                               absl::string_view why) const {
  return absl::InvalidArgumentError(
      absl::StrCat(where_, ": \"", key, "\": ", why));
}

absl::Status JsonObject::Require(absl::string_view key) {
  if (Find(key) != nullptr) return absl::OkStatus();
  return Error(key, "is missing");
}

absl::Status JsonObject::ReadString(absl::string_view key, std::string& out) {
  const json* member = Find(key);
  if (member == nullptr) return absl::OkStatus();
  if (!member->is_string()) {
    return Error(
        key, absl::StrCat("expected a string, found ", member->type_name()));
  }
  out = member->get<std::string>();
  return absl::OkStatus();
}

absl::Status JsonObject::ReadInt(absl::string_view key, int64_t& out) {
  const json* member = Find(key);
  if (member == nullptr || GetInt64(*member, out)) return absl::OkStatus();
  return Error(key, absl::StrCat("expected a 64-bit integer, found ",
                                 member->type_name()));
}

absl::Status JsonObject::ReadInt32(absl::string_view key, int& out) {
  int64_t wide = out;
  SLUICE_RETURN_IF_ERROR(ReadInt(key, wide));
  if (wide < std::numeric_limits<int>::min() ||
      wide > std::numeric_limits<int>::max()) {
    return Error(key, absl::StrCat(wide, " does not fit 32 bits"));
  }
  out = static_cast<int>(wide);
  return absl::OkStatus();
}

absl::Status JsonObject::ReadBool(absl::string_view key, bool& out) {
  const json* member = Find(key);
  if (member == nullptr) return absl::OkStatus();
  if (!member->is_boolean()) {
    return Error(key, absl::StrCat("expected true or false, found ",
                                   member->type_name()));
  }
  out = member->get<bool>();
  return absl::OkStatus();
}

absl::Status JsonObject::ReadStrings(absl::string_view key,
                                     std::vector<std::string>& out) {
  const json* member = Find(key);
  if (member == nullptr) return absl::OkStatus();
  if (!member->is_array()) {
    return Error(key, absl::StrCat("expected a list of strings, found ",
                                   member->type_name()));
  }
  out.clear();
  for (const json& item : *member) {
    if (!item.is_string()) {
      return Error(key, absl::StrCat("expected a list of strings, found in it ",
                                     item.type_name()));
    }
    out.push_back(item.get<std::string>());
  }
  return absl::OkStatus();
}

absl::Status JsonObject::ReadInts(absl::string_view key,
                                  std::vector<int64_t>& out) {
  const json* member = Find(key);
  if (member == nullptr) return absl::OkStatus();
  if (!member->is_array()) {
    return Error(key, absl::StrCat("expected a list of integers, found ",
                                   member->type_name()));
  }
  out.clear();
  for (const json& item : *member) {
    if (!GetInt64(item, out.emplace_back())) {
      return Error(key, absl::StrCat("expected a list of 64-bit integers, "
                                     "found in it ",
                                     item.type_name()));
    }
  }
  return absl::OkStatus();
}

absl::Status JsonObject::CheckNoOthers() const {
  if (!json_.is_object()) {
    return absl::InvalidArgumentError(absl::StrCat(
        where_, ": expected an object, found ", json_.type_name()));
  }
  const std::vector<absl::string_view> known(asked_.begin(), asked_.end());
  for (const auto& [key, value] : json_.items()) {
    if (std::find(asked_.begin(), asked_.end(), key) != asked_.end()) continue;
    return absl::InvalidArgumentError(
        absl::StrCat(where_, ": unknown key \"", key, "\": did you mean \"",
                     NearestName(key, known), "\"?"));
  }
  return absl::OkStatus();
}

}  // namespace sluice
