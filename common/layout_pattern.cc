#include "common/layout_pattern.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace sluice {
namespace {

// Takes "{word}" off the front of `rest`, which begins with "{".
absl::StatusOr<absl::string_view> TakeVariable(absl::string_view whole,
                                               absl::string_view& rest) {
  const size_t close = rest.find('}');
  if (close == absl::string_view::npos) {
    return absl::InvalidArgumentError(
        absl::StrCat("name \"", whole, "\": \"{\" without \"}\""));
  }
  const absl::string_view word = rest.substr(1, close - 1);
  rest.remove_prefix(close + 1);
  return word;
}

absl::Status UnknownVariable(absl::string_view whole, absl::string_view word,
                             absl::string_view expected) {
  return absl::InvalidArgumentError(
      absl::StrCat("name \"", whole, "\": {", word,
                   "} is unknown or given twice: expected ", expected));
}

// Takes the leading digits off `rest`; false without one or beyond int64.
bool TakeNumber(absl::string_view& rest, int64_t& number) {
  size_t digits = 0;
  while (digits < rest.size() && absl::ascii_isdigit(rest[digits])) ++digits;
  if (!absl::SimpleAtoi(rest.substr(0, digits), &number)) return false;
  rest.remove_prefix(digits);
  return true;
}

}  // namespace

absl::StatusOr<NamePattern> NamePattern::Parse(absl::string_view pattern) {
  if (pattern.empty()) {
    return absl::InvalidArgumentError("a rule's pattern is empty");
  }
  NamePattern out;
  absl::string_view rest = pattern;
  while (!rest.empty()) {
    if (absl::StartsWith(rest, "**")) {
      out.tokens_.push_back({Kind::kAny, ""});
      rest.remove_prefix(2);
    } else if (rest[0] == '*') {
      out.tokens_.push_back({Kind::kStar, ""});
      rest.remove_prefix(1);
    } else if (rest[0] == '{') {
      const absl::StatusOr<absl::string_view> word =
          TakeVariable(pattern, rest);
      if (!word.ok()) return word.status();
      if (*word == "layer" && !out.has_layer_) {
        out.has_layer_ = true;
        out.tokens_.push_back({Kind::kLayer, ""});
      } else if (*word == "expert" && !out.has_expert_) {
        out.has_expert_ = true;
        out.tokens_.push_back({Kind::kExpert, ""});
      } else {
        return UnknownVariable(pattern, *word, "{layer} or {expert} once");
      }
    } else {
      const size_t length = std::min(rest.find_first_of("*{"), rest.size());
      out.tokens_.push_back(
          {Kind::kLiteral, std::string(rest.substr(0, length))});
      rest.remove_prefix(length);
    }
  }
  if (out.tokens_.back().kind == Kind::kLiteral) {
    out.suffix_ = out.tokens_.back().text;
  }
  return out;
}

std::optional<NameMatch> NamePattern::Match(absl::string_view name) const {
  if (!absl::EndsWith(name, suffix_)) return std::nullopt;
  NameMatch match;
  std::vector<bool> failed;
  if (!MatchFrom(0, name, name, match, failed)) return std::nullopt;
  return match;
}

bool NamePattern::MatchFrom(size_t token, absl::string_view name,
                            absl::string_view rest, NameMatch& match,
                            std::vector<bool>& failed) const {
  for (; token < tokens_.size(); ++token) {
    const Token& t = tokens_[token];
    switch (t.kind) {
      case Kind::kLiteral:
        if (!absl::StartsWith(rest, t.text)) return false;
        rest.remove_prefix(t.text.size());
        break;
      case Kind::kLayer:
        if (!TakeNumber(rest, match.layer)) return false;
        break;
      case Kind::kExpert:
        if (!TakeNumber(rest, match.expert)) return false;
        break;
      case Kind::kStar:
      case Kind::kAny:
        failed.resize((tokens_.size() + 1) * (name.size() + 1), false);
        for (size_t n = 0;; ++n) {
          const size_t state =
              (token + 1) * (name.size() + 1) + rest.size() - n;
          if (!failed[state] &&
              MatchFrom(token + 1, name, rest.substr(n), match, failed)) {
            return true;
          }
          failed[state] = true;
          if (n == rest.size()) return false;
          if (t.kind == Kind::kStar && rest[n] == '.') return false;
        }
    }
  }
  return rest.empty();
}

absl::StatusOr<std::string> ExpandName(absl::string_view name_template,
                                       const NameNumbers& numbers) {
  const std::pair<absl::string_view, int64_t> known[] = {
      {"layer", numbers.layer},   {"global_layer", numbers.global_layer},
      {"chunk", numbers.chunk},   {"chunk_layer", numbers.chunk_layer},
      {"expert", numbers.expert}, {"local_expert", numbers.local_expert},
  };
  std::string out;
  absl::string_view rest = name_template;
  while (!rest.empty()) {
    const size_t length = std::min(rest.find('{'), rest.size());
    absl::StrAppend(&out, rest.substr(0, length));
    rest.remove_prefix(length);
    if (rest.empty()) break;
    const absl::StatusOr<absl::string_view> word =
        TakeVariable(name_template, rest);
    if (!word.ok()) return word.status();
    int64_t number = -1;
    for (const auto& [name, value] : known) {
      if (*word == name) number = value;
    }
    if (number < 0) {
      return UnknownVariable(name_template, *word,
                             "{layer}, {global_layer}, {chunk}, {chunk_layer}, "
                             "{expert} or {local_expert} where the rule's "
                             "pattern has the number");
    }
    absl::StrAppend(&out, number);
  }
  return out;
}

}  // namespace sluice
