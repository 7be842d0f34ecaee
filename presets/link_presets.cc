#include "presets/link_presets.h"

#include <cmath>
#include <cstdint>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "common/json_strict.h"
#include "common/status_macros.h"
#include "presets/preset_table.h"

namespace sluice {
namespace {

using preset_internal::Preset;

// Made from presets/links/*.json by the build, in alphabetical order.
constexpr Preset kPresets[] = {
#include "presets/link_presets.inc"
};

constexpr int32_t kMaxPerNode = 65536;

absl::Status ReadNumber(JsonObject& object, absl::string_view key, double unit,
                        double& out) {
  const nlohmann::json* value = object.Find(key);
  if (value == nullptr) return absl::OkStatus();
  if (!value->is_number()) return object.Error(key, "expected a number");
  out = value->get<double>() * unit;
  return absl::OkStatus();
}

absl::Status Wrong(const LinkTable& table, absl::string_view member,
                   absl::string_view expected, double found) {
  return absl::InvalidArgumentError(absl::StrCat("link table \"", table.name,
                                                 "\": ", member, ": expected ",
                                                 expected, ", found ", found));
}

}  // namespace

absl::Status CheckLinkTable(const LinkTable& table) {
  if (table.ranks_per_node < 1 || table.ranks_per_node > kMaxPerNode) {
    return Wrong(table, "ranks_per_node", absl::StrCat("1 to ", kMaxPerNode),
                 table.ranks_per_node);
  }
  if (table.cards_per_node < 1 || table.cards_per_node > kMaxPerNode) {
    return Wrong(table, "cards_per_node", absl::StrCat("1 to ", kMaxPerNode),
                 table.cards_per_node);
  }
  if (table.nodes_per_switch < 0) {
    return Wrong(table, "nodes_per_switch", "0 or more",
                 table.nodes_per_switch);
  }
  const auto is_rate = [](double rate) {
    return std::isfinite(rate) && rate > 0;
  };
  const auto is_latency = [](double seconds) {
    return std::isfinite(seconds) && seconds >= 0;
  };
  constexpr char kRate[] = "a rate above 0";
  if (!is_rate(table.device_copy_rate)) {
    return Wrong(table, "device_copy_gbytes", kRate, table.device_copy_rate);
  }
  if (!is_rate(table.rank_rate)) {
    return Wrong(table, "rank_gbytes", kRate, table.rank_rate);
  }
  if (!is_rate(table.card_rate)) {
    return Wrong(table, "card_gbytes", kRate, table.card_rate);
  }
  if (!is_latency(table.node_latency)) {
    return Wrong(table, "node_latency_us", "0 or more", table.node_latency);
  }
  if (!is_latency(table.network_latency)) {
    return Wrong(table, "network_latency_us", "0 or more",
                 table.network_latency);
  }
  if (!std::isfinite(table.oversubscription) || table.oversubscription < 1) {
    return Wrong(table, "oversubscription", "1 or more",
                 table.oversubscription);
  }
  return absl::OkStatus();
}

absl::StatusOr<LinkTable> ParseLinkTable(absl::string_view text) {
  constexpr double kGigabyte = 1e9;
  constexpr double kMicrosecond = 1e-6;
  SLUICE_ASSIGN_OR_RETURN(const nlohmann::json value, ParseJson(text));
  JsonObject root(value, "link table");
  LinkTable out;
  for (const absl::string_view key :
       {"ranks_per_node", "rank_gbytes", "card_gbytes", "device_copy_gbytes"}) {
    SLUICE_RETURN_IF_ERROR(root.Require(key));
  }
  SLUICE_RETURN_IF_ERROR(root.ReadString("name", out.name));
  SLUICE_RETURN_IF_ERROR(root.ReadString("comment", out.comment));
  SLUICE_RETURN_IF_ERROR(root.ReadInt32("ranks_per_node", out.ranks_per_node));
  SLUICE_RETURN_IF_ERROR(root.ReadInt32("cards_per_node", out.cards_per_node));
  SLUICE_RETURN_IF_ERROR(
      ReadNumber(root, "device_copy_gbytes", kGigabyte, out.device_copy_rate));
  SLUICE_RETURN_IF_ERROR(
      ReadNumber(root, "rank_gbytes", kGigabyte, out.rank_rate));
  SLUICE_RETURN_IF_ERROR(
      ReadNumber(root, "card_gbytes", kGigabyte, out.card_rate));
  SLUICE_RETURN_IF_ERROR(
      root.ReadBool("cards_behind_rank_link", out.cards_behind_rank_link));
  SLUICE_RETURN_IF_ERROR(
      ReadNumber(root, "node_latency_us", kMicrosecond, out.node_latency));
  SLUICE_RETURN_IF_ERROR(ReadNumber(root, "network_latency_us", kMicrosecond,
                                    out.network_latency));
  SLUICE_RETURN_IF_ERROR(
      root.ReadInt32("nodes_per_switch", out.nodes_per_switch));
  SLUICE_RETURN_IF_ERROR(root.ReadBool("rails", out.rails));
  SLUICE_RETURN_IF_ERROR(
      ReadNumber(root, "oversubscription", 1, out.oversubscription));
  SLUICE_RETURN_IF_ERROR(root.CheckNoOthers());
  SLUICE_RETURN_IF_ERROR(CheckLinkTable(out));
  return out;
}

absl::StatusOr<LinkTable> FindLinkPreset(absl::string_view name) {
  SLUICE_ASSIGN_OR_RETURN(
      const absl::string_view text,
      preset_internal::FindText(kPresets, "link table", name));
  return ParseLinkTable(text);
}

std::vector<std::string> LinkPresetNames() {
  return preset_internal::Names(kPresets);
}

}  // namespace sluice
