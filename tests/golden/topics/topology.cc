// Topic topology.

#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "coordinator/planner/reference/process_topology.h"
#include "tests/golden/topics.h"

namespace sluice::golden {
namespace {

using coordinator::reference::AxisPosition;
using coordinator::reference::ProcessTopology;
using coordinator::reference::RankNameFormat;

std::vector<AxisPosition> Positions(const Json& object) {
  std::vector<AxisPosition> positions;
  for (const auto& item : object.items()) {
    positions.push_back({item.key(), item.value().get<int32_t>()});
  }
  return positions;
}

// A result as JSON; an error as null, with `failed` set.
template <typename T>
Json Answer(const absl::StatusOr<T>& result, bool& failed) {
  failed = !result.ok();
  return result.ok() ? Json(*result) : Json();
}

Json Ask(const ProcessTopology& topology, const Json& query, bool& failed) {
  const std::string op = query.at("op");
  failed = false;
  if (op == "get_rank") {
    return Answer(topology.RankOf(Positions(query.at("coord"))), failed);
  }
  if (op == "get_coord") {
    return Answer(topology.CoordinateOf(query.at("rank")), failed);
  }
  if (op == "get_dim") {
    return topology.AxisSize(query.at("axis").get<std::string>());
  }
  if (op == "filter_match") {
    return Answer(topology.Match(Positions(query.at("filter"))), failed);
  }
  if (op == "get_axis_list") {
    return Answer(topology.AxisRanks(query.at("axis").get<std::string>(),
                                     query.at("idx")),
                  failed);
  }
  if (op == "get_axis_comm_lists") {
    return topology.CommLists(query.at("axis").get<std::string>());
  }
  if (op == "get_rank_repr") {
    RankNameFormat format;
    if (query.contains("omit_axes")) format.omitted_axes = query["omit_axes"];
    if (query.contains("inner_sep"))
      format.inner_separator = query["inner_sep"];
    if (query.contains("outer_sep"))
      format.outer_separator = query["outer_sep"];
    return Answer(topology.RankName(query.at("rank"), format), failed);
  }
  return "unknown op";
}

void CheckCommLists(const ProcessTopology& topology, const Json& expected,
                    CaseCheck& check) {
  for (const auto& item : expected.items()) {
    absl::string_view axis = item.key();
    const bool count = absl::ConsumeSuffix(&axis, "@count");
    const bool ends = absl::ConsumeSuffix(&axis, "@first3last3");
    std::vector<std::vector<int32_t>> lists = topology.CommLists(axis);
    if (count) {
      check.Equal(item.key(), item.value(), lists.size());
      continue;
    }
    if (ends && lists.size() > 6) {
      lists.erase(lists.begin() + 3, lists.end() - 3);
    }
    check.Equal(item.key(), item.value(), lists);
  }
}

void CheckCoordinates(const ProcessTopology& topology, CaseCheck& check) {
  const Json& golden = check.golden();
  const std::vector<int32_t> all = topology.AllCoordinates();
  const auto num_axes = static_cast<int64_t>(topology.axes().size());
  const auto coordinate = [&](int64_t rank) {
    return Json(std::vector<int32_t>(all.begin() + rank * num_axes,
                                     all.begin() + (rank + 1) * num_axes));
  };
  if (golden.contains("coords")) {
    Json found = Json::array();
    for (int64_t rank = 0; rank < topology.world_size(); ++rank) {
      found.push_back(coordinate(rank));
    }
    check.Equal("coords", golden["coords"], found);
  }
  if (!golden.contains("coord_samples")) return;
  for (const Json& sample : golden["coord_samples"]) {
    check.Equal(absl::StrCat("coordinate of ", sample[0].get<int64_t>()),
                sample[1], coordinate(sample[0]));
  }
}

}  // namespace

void CheckTopology(CaseCheck& check) {
  const Json& golden = check.golden();
  const absl::StatusOr<ProcessTopology> topology =
      ProcessTopology::Create(golden.at("axes"), golden.at("dims"));
  if (check.ExpectsRefusal()) return check.Refused(topology.status());
  if (!check.Ok("topology", topology.status())) return;
  check.Equal("world_size", golden.at("world_size"), topology->world_size());
  CheckCoordinates(*topology, check);
  CheckCommLists(*topology, golden.at("comm_lists"), check);
  for (size_t i = 0; i < golden.at("queries").size(); ++i) {
    const Json& query = golden["queries"][i];
    const std::string what =
        absl::StrCat("queries[", i, "] ", query.at("op").get<std::string>());
    bool failed = false;
    const Json found = Ask(*topology, query, failed);
    if (query.contains("error")) {
      check.True(absl::StrCat(what, " is refused"), failed);
    } else if (failed) {
      check.Fail(absl::StrCat(what, ": expected an answer, found an error"));
    } else {
      check.Equal(what, query.at("result"), found);
    }
  }
}

}  // namespace sluice::golden
