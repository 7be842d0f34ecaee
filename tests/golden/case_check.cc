#include "tests/golden/case_check.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace sluice::golden {
namespace {

constexpr size_t kMaxDifferences = 3;  // in words
constexpr size_t kMaxLength = 120;     // of a value in words

std::string Words(const Json& value) {
  std::string text = value.dump();
  if (text.size() > kMaxLength) text = text.substr(0, kMaxLength) + "...";
  return text;
}

const Json& Nothing() {
  static const Json& nothing = *new Json(Json::object());
  return nothing;
}

}  // namespace

const Json& CaseCheck::right() const {
  const auto it = case_.find("right");
  return it == case_.end() || !it->is_object() ? Nothing() : *it;
}

bool CaseCheck::HasBug(absl::string_view id) const {
  const auto it = case_.find("original_bug");
  if (it == case_.end()) return false;
  return id.empty() || std::any_of(it->begin(), it->end(), [&](const Json& b) {
           return b == std::string(id);
         });
}

void CaseCheck::Fail(std::string difference) {
  ++num_comparisons_;
  ++num_differences_;
  if (differences_.size() < kMaxDifferences) {
    differences_.push_back(std::move(difference));
  }
}

void CaseCheck::True(absl::string_view what, bool holds) {
  ++num_comparisons_;
  if (!holds) Fail(absl::StrCat(what, ": does not hold"));
}

void CaseCheck::Equal(absl::string_view what, const Json& expected,
                      const Json& found) {
  ++num_comparisons_;
  if (expected != found) Compare(std::string(what), expected, found);
}

// Descends to the places that differ.
void CaseCheck::Compare(const std::string& path, const Json& expected,
                        const Json& found) {
  if (expected == found) return;
  if (expected.is_array() && found.is_array()) {
    if (expected.size() != found.size()) {
      Fail(absl::StrCat(path, ": expected ", expected.size(), " entries ",
                        Words(expected), ", found ", found.size(), " ",
                        Words(found)));
      return;
    }
    for (size_t i = 0; i < expected.size(); ++i) {
      Compare(absl::StrCat(path, "[", i, "]"), expected[i], found[i]);
    }
    return;
  }
  if (expected.is_object() && found.is_object()) {
    for (const auto& item : expected.items()) {
      const auto it = found.find(item.key());
      Compare(absl::StrCat(path, ".", item.key()), item.value(),
              it == found.end() ? Json("nothing") : *it);
    }
    for (const auto& item : found.items()) {
      if (expected.contains(item.key())) continue;
      Fail(absl::StrCat(path, ".", item.key(), ": expected nothing, found ",
                        Words(item.value())));
    }
    return;
  }
  Fail(absl::StrCat(path, ": expected ", Words(expected), ", found ",
                    Words(found)));
}

bool CaseCheck::ExpectsRefusal() const {
  for (const auto& item : right().items()) {
    if (absl::StartsWith(item.key(), "reject")) return true;
  }
  // A bug that shows as an error is judged by what `right` gives instead.
  return case_.contains("error") && right().empty();
}

void CaseCheck::Refused(const absl::Status& status) {
  ++num_comparisons_;
  for (const auto& item : right().items()) {
    if (!absl::StartsWith(item.key(), "reject") || !item.value().is_string()) {
      continue;
    }
    // "reject_or_...": an answer is as good.
    if (status.ok() && item.key() != "reject") return;
    Equal("status", item.value(), absl::StatusCodeToString(status.code()));
    return;
  }
  if (status.ok()) {
    Fail(absl::StrCat("expected a refusal (",
                      Words(case_.value("error", Json())), "), found OK"));
  }
}

bool CaseCheck::Ok(absl::string_view what, const absl::Status& status) {
  ++num_comparisons_;
  if (!status.ok()) {
    Fail(absl::StrCat(what, ": expected OK, found ", status.ToString()));
  }
  return status.ok();
}

}  // namespace sluice::golden
