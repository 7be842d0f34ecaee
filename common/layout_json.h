#ifndef SLUICE_COMMON_LAYOUT_JSON_H_
#define SLUICE_COMMON_LAYOUT_JSON_H_

// Layouts as JSON files, and presets: layouts whose numbers come from a model's
// configuration. docs/layouts.md describes every key; presets/layouts has
// examples.

#include <cstdint>
#include <map>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/layout.h"
#include "common/model.h"

namespace sluice {

// Parses a layout. Members that are missing keep the defaults of the structs in
// common/layout.h; "comment" is allowed in the layout and its rules and
// ignored. An explicit view names its tensor by number, or by name if `model`
// is given, and its parameter by number or name.
// Errors: INVALID_ARGUMENT - not JSON, a key that is given twice, unknown (the
// nearest valid one is named), missing or of another type; a preset's variable.
// Names the rule. Whether the layout fits a model is ExpandLayout's to say.
absl::StatusOr<Layout> ParseLayout(absl::string_view text,
                                   const ModelSpec* model = nullptr);

// Prints a layout; ParseLayout reads the same back. Defaults are left out.
std::string PrintLayout(const Layout& layout);

// Parses a preset: a layout in which
//  - a string "$name" anywhere stands for the number of that variable, and
//    "$name|7" for 7 where there is no such variable;
//  - a rule with "when": {"name": number, ...} is left out unless each of these
//    variables has that value ("name|7" as above); one with "unless" is left
//    out if each has.
// Errors: INVALID_ARGUMENT - as ParseLayout; a variable that is not in
// `variables` (named, with the nearest that is).
absl::StatusOr<Layout> ResolvePreset(
    absl::string_view text, const std::map<std::string, int64_t>& variables);

}  // namespace sluice

#endif  // SLUICE_COMMON_LAYOUT_JSON_H_
