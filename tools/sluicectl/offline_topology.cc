// topology show, factors, answer: ranks and groups of a job, without a cluster.

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/mesh.h"
#include "common/status_macros.h"
#include "tools/reference_cases/answers.h"
#include "tools/sluicectl/offline_inputs.h"
#include "tools/sluicectl/offline_plans.h"

namespace sluice::ctl {
namespace {

using Json = nlohmann::json;

struct ShowOptions {
  std::string mesh;
  bool groups = false;
};

struct FactorOptions {
  int64_t n = 0;
};

struct AnswerOptions {
  std::string topic, file;
};

// Names that are no UTF-8 are shown as far as they are.
void PrintJsonValue(const Json& value) {
  Context::Print(value.dump(-1, ' ', false, Json::error_handler_t::replace) +
                 "\n");
}

std::string RanksText(const Json& ranks) {
  return absl::StrJoin(ranks.get<std::vector<int32_t>>(), " ");
}

std::string TopologyText(const Json& topology, const Json& axes) {
  std::string text = absl::StrCat(
      "rank  ", absl::StrJoin(axes.get<std::vector<std::string>>(), " "), "\n");
  int64_t rank = 0;
  for (const Json& coordinate : topology.at("coords")) {
    absl::StrAppend(&text, rank++, "  ", RanksText(coordinate), "\n");
  }
  for (const auto& list : topology.at("comm_lists").items()) {
    absl::StrAppend(&text, "\ngroups along ", list.key(), "\n");
    for (const Json& group : list.value()) {
      absl::StrAppend(&text, "  ", RanksText(group), "\n");
    }
  }
  return text;
}

std::string GridText(const Json& grid) {
  std::string text = "\npipeline neighbours\n";
  for (const Json& pair : grid.at("p2p_groups")) {
    absl::StrAppend(&text, "  ", RanksText(pair), "\n");
  }
  text += "\nprocess groups, in order of creation\n";
  for (const Json& group : grid.at("created_groups")) {
    absl::StrAppend(&text, "  ", group.at(1).get<std::string>(), "  ",
                    RanksText(group.at(0)), "\n");
  }
  return text;
}

absl::Status Show(Context& context, const ShowOptions& options) {
  SLUICE_ASSIGN_OR_RETURN(const std::vector<MeshAxis> mesh,
                          ParseAxes(options.mesh));
  Json question = {{"axes", Json::array()}, {"dims", Json::array()}};
  for (const MeshAxis& axis : mesh) {
    question["axes"].push_back(axis.name);
    question["dims"].push_back(axis.size);
  }
  SLUICE_ASSIGN_OR_RETURN(Json answer,
                          reference_cases::Answer("topology", question));
  answer.erase("queries");
  std::string text = TopologyText(answer, question["axes"]);
  if (options.groups) {
    SLUICE_ASSIGN_OR_RETURN(const Json grid,
                            reference_cases::Answer("grid", question));
    text += GridText(grid);
    answer.update(grid);
  }
  if (context.json()) {
    PrintJsonValue(answer);
  } else {
    Context::Print(text);
  }
  return absl::OkStatus();
}

absl::Status Factors(Context& context, const FactorOptions& options) {
  SLUICE_ASSIGN_OR_RETURN(
      const Json answer,
      reference_cases::Answer("factors", {{"n", options.n}}));
  if (context.json()) {
    PrintJsonValue(answer);
    return absl::OkStatus();
  }
  std::string text = "three factors\n";
  for (const Json& factors : answer.at("original_base_order_triples")) {
    absl::StrAppend(&text, "  ", RanksText(factors), "\n");
  }
  if (answer.contains("prime_factors")) {
    absl::StrAppend(&text, "prime factors  ",
                    RanksText(answer["prime_factors"]), "\n");
  }
  Context::Print(text);
  return absl::OkStatus();
}

// One question, or a file of them: {"cases": [...]}.
absl::Status AnswerFile(Context&, const AnswerOptions& options) {
  SLUICE_ASSIGN_OR_RETURN(const Json asked, ReadJsonFile(options.file));
  if (!asked.is_object() || !asked.contains("cases")) {
    SLUICE_ASSIGN_OR_RETURN(const Json answer,
                            reference_cases::Answer(options.topic, asked));
    PrintJsonValue(answer);
    return absl::OkStatus();
  }
  // A case that is refused says so in its place.
  for (const Json& question : asked["cases"]) {
    absl::StatusOr<Json> answer =
        reference_cases::Answer(options.topic, question);
    if (!answer.ok()) answer = Json{{"error", answer.status().ToString()}};
    if (question.is_object() && question.contains("id")) {
      (*answer)["id"] = question["id"];
    }
    PrintJsonValue(*answer);
  }
  return absl::OkStatus();
}

}  // namespace

void AddTopologyCommands(CLI::App& app, Action& chosen) {
  CLI::App* topology = app.add_subcommand(
      "topology", "Ranks, coordinates and groups of a job; no cluster.");
  topology->require_subcommand(1);
  AddCommand<ShowOptions>(
      *topology, chosen, "show",
      "Shows every rank's coordinate and the groups along each axis.\n"
      "Example: sluicectl topology show pipe=2,data=2,tensor=2 --groups",
      [](CLI::App& command, ShowOptions& options) {
        command.add_option("mesh", options.mesh, "Axes, the last one fastest")
            ->required();
        command.add_flag("--groups", options.groups,
                         "Pipeline neighbours and process groups too (axes "
                         "pipe, data, tensor)");
      },
      Show);
  AddCommand<FactorOptions>(
      *topology, chosen, "factors",
      "Shows the ways to write a number of ranks as three sizes.\n"
      "Example: sluicectl topology factors 24",
      [](CLI::App& command, FactorOptions& options) {
        command.add_option("n", options.n, "Ranks")->required();
      },
      Factors);
  AddCommand<AnswerOptions>(
      *topology, chosen, "answer",
      "Answers questions in JSON (schema: tests/golden/vectors/README.md); "
      "one answer a line.\nTopics: " +
          absl::StrJoin(reference_cases::Topics(), ", ") +
          ".\nExample: sluicectl topology answer rank_mapping case.json",
      [](CLI::App& command, AnswerOptions& options) {
        command.add_option("topic", options.topic, "Topic")->required();
        command
            .add_option("file", options.file,
                        "A question, or an object with \"cases\"")
            ->required();
      },
      AnswerFile);
}

}  // namespace sluice::ctl
