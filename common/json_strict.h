#ifndef SLUICE_COMMON_JSON_STRICT_H_
#define SLUICE_COMMON_JSON_STRICT_H_

// JSON as it should be written by people: parsed whole, with duplicate keys
// refused, and read with errors that name the place and the nearest valid key.

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace sluice {

// Errors: INVALID_ARGUMENT - not JSON (with the byte position), a key given
// twice in one object (named), nested deeper than 64.
absl::StatusOr<nlohmann::json> ParseJson(absl::string_view text);

// Returns the candidate with the smallest edit distance to `name`, the first of
// equals; empty without candidates.
std::string NearestName(absl::string_view name,
                        absl::Span<const absl::string_view> candidates);

// Reads the members of one JSON object and knows which were asked for.
//
//   JsonObject object(json, "rule 3");
//   SLUICE_RETURN_IF_ERROR(object.ReadString("pattern", rule.pattern));
//   SLUICE_RETURN_IF_ERROR(object.CheckNoOthers());
//
// Read...() leave `out` as it is where the member is missing; a member of
// another type is INVALID_ARGUMENT and named. `json` must outlive the object.
class JsonObject {
 public:
  JsonObject(const nlohmann::json& json, std::string where)
      : json_(json), where_(std::move(where)) {}

  // Returns the member, or null.
  const nlohmann::json* Find(absl::string_view key);
  const std::string& where() const { return where_; }
  // INVALID_ARGUMENT "where: key: why".
  absl::Status Error(absl::string_view key, absl::string_view why) const;

  absl::Status Require(absl::string_view key);
  absl::Status ReadString(absl::string_view key, std::string& out);
  absl::Status ReadInt(absl::string_view key, int64_t& out);
  absl::Status ReadInt32(absl::string_view key, int& out);
  absl::Status ReadBool(absl::string_view key, bool& out);
  absl::Status ReadStrings(absl::string_view key,
                           std::vector<std::string>& out);
  absl::Status ReadInts(absl::string_view key, std::vector<int64_t>& out);

  // Errors: INVALID_ARGUMENT - this is no object, or it has a member that was
  // never asked for; names it and the nearest that was.
  absl::Status CheckNoOthers() const;

 private:
  const nlohmann::json& json_;
  std::string where_;
  std::vector<std::string> asked_;
};

// Reads an integer that fits int64; false otherwise.
bool GetInt64(const nlohmann::json& json, int64_t& out);

}  // namespace sluice

#endif  // SLUICE_COMMON_JSON_STRICT_H_
