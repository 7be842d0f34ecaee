#ifndef SLUICE_PRESETS_LINK_PRESETS_H_
#define SLUICE_PRESETS_LINK_PRESETS_H_

// Link tables of published machines. The files of presets/links are inside the
// binary.

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/link_table.h"

namespace sluice {

// Reads a table from JSON: name, comment, ranks_per_node, cards_per_node,
// device_copy_gbytes, rank_gbytes, card_gbytes (10^9 bytes per second each
// way), cards_behind_rank_link, node_latency_us, network_latency_us,
// nodes_per_switch, rails, oversubscription. The first four rates and numbers
// are required.
// Errors: INVALID_ARGUMENT - not JSON, a key that is unknown or missing, a
// number out of range.
absl::StatusOr<LinkTable> ParseLinkTable(absl::string_view text);

// Checks a table made by hand or changed. Errors: INVALID_ARGUMENT - names the
// member, what was expected and found.
absl::Status CheckLinkTable(const LinkTable& table);

// Returns the preset of that name, such as "h100_infiniband".
// Errors: NOT_FOUND - there is none; lists those there are.
absl::StatusOr<LinkTable> FindLinkPreset(absl::string_view name);

// Returns the names in alphabetical order.
std::vector<std::string> LinkPresetNames();

}  // namespace sluice

#endif  // SLUICE_PRESETS_LINK_PRESETS_H_
