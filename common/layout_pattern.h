#ifndef SLUICE_COMMON_LAYOUT_PATTERN_H_
#define SLUICE_COMMON_LAYOUT_PATTERN_H_

// Name patterns and name templates of layout rules.
//
//   pattern   "model.layers.{layer}.mlp.*.weight"
//   template  "decoder.layers.{layer}.mlp.linear_fc1.weight"
//
// In a pattern "{layer}" and "{expert}" stand for a decimal number, "*" for any
// run of characters without a dot and "**" for any run; in a template
// "{layer}", "{global_layer}", "{chunk}", "{chunk_layer}", "{expert}" and
// "{local_expert}" are replaced by numbers.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace sluice {

// The numbers in a matched name; -1 where the pattern has none.
struct NameMatch {
  int64_t layer = -1;
  int64_t expert = -1;

  friend bool operator==(const NameMatch&, const NameMatch&) = default;
};

class NamePattern {
 public:
  // Errors: INVALID_ARGUMENT - an empty pattern, an unknown or unclosed
  // "{...}", one named twice.
  static absl::StatusOr<NamePattern> Parse(absl::string_view pattern);

  // Returns the numbers if the whole of `name` matches.
  std::optional<NameMatch> Match(absl::string_view name) const;

  bool has_layer() const { return has_layer_; }
  bool has_expert() const { return has_expert_; }

 private:
  enum class Kind { kLiteral, kLayer, kExpert, kStar, kAny };
  struct Token {
    Kind kind;
    std::string text;
  };

  // `failed[token * (name.size() + 1) + rest.size()]`: tried after a "*" in
  // vain, so that several stars cost no more than tokens x length^2.
  bool MatchFrom(size_t token, absl::string_view name, absl::string_view rest,
                 NameMatch& match, std::vector<bool>& failed) const;

  std::vector<Token> tokens_;
  std::string suffix_;  // every match ends so: most names fail by it at once
  bool has_layer_ = false;
  bool has_expert_ = false;
};

// What a template's variables stand for; -1 = there is none.
struct NameNumbers {
  int64_t layer = -1;  // stage-local
  int64_t global_layer = -1;
  int64_t chunk = -1;
  int64_t chunk_layer = -1;
  int64_t expert = -1;
  int64_t local_expert = -1;
};

// Returns `name_template` with its variables replaced.
// Errors: INVALID_ARGUMENT - an unknown or unclosed "{...}", or one whose
// number is -1.
absl::StatusOr<std::string> ExpandName(absl::string_view name_template,
                                       const NameNumbers& numbers);

}  // namespace sluice

#endif  // SLUICE_COMMON_LAYOUT_PATTERN_H_
