// locate, samples, redistribute, clear, plan redistribute: samples as the
// catalogue knows them.

#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "common/format.h"
#include "common/status_macros.h"
#include "tools/console/table.h"
#include "tools/sluicectl/context.h"
#include "tools/sluicectl/offline_plans.h"

namespace sluice::ctl {
namespace {

// What the catalogue allows in one question.
constexpr size_t kMaxLocated = 65536;

struct LocateOptions {
  std::vector<std::string> ids, keys;
};

absl::Status Locate(Context& context, const LocateOptions& options) {
  SLUICE_ASSIGN_OR_RETURN(Client * client, context.client());
  v1::LocateRequest request;
  for (const std::string& id : options.ids) request.add_sample_ids(id);
  for (const std::string& key : options.keys) request.add_keys(key);
  SLUICE_ASSIGN_OR_RETURN(const v1::LocateResponse found,
                          client->Locate(request));
  if (context.json()) {
    Context::PrintJson(found);
    return absl::OkStatus();
  }
  using console::Align;
  console::Table table({{"sample"},
                        {"key"},
                        {"type"},
                        {"lengths"},
                        {"row"},
                        {"bytes", Align::kRight},
                        {"owner"},
                        {"holders"}});
  for (const v1::SampleLocation& location : found.locations()) {
    const v1::SampleEntry& entry = location.entry();
    table.Add(
        {entry.sample_id(), entry.key(),
         Word(v1::DType_Name(entry.dtype()), "DTYPE_"),
         absl::StrJoin(entry.sequence_lengths(), ","),
         absl::StrCat("[", absl::StrJoin(entry.trailing_shape(), ","), "]"),
         HumanBytes(location.bytes()), location.owner(),
         absl::StrJoin(location.holders(), " ")});
  }
  Context::Print(table.Print());
  return absl::OkStatus();
}

struct ListOptions {
  int32_t page_size = 0;
  std::string after;
};

absl::Status List(Context& context, const ListOptions& options) {
  SLUICE_ASSIGN_OR_RETURN(Client * client, context.client());
  v1::ListSamplesRequest request;
  request.set_page_size(options.page_size);
  request.set_page_token(options.after);
  SLUICE_ASSIGN_OR_RETURN(const v1::ListSamplesResponse page,
                          client->ListSamples(request));
  if (context.json()) {
    Context::PrintJson(page);
    return absl::OkStatus();
  }
  for (const std::string& id : page.sample_ids()) {
    Context::Print(absl::StrCat(id, "\n"));
  }
  if (!page.next_page_token().empty()) {
    Context::Print(absl::StrCat("... ", page.sample_ids_size(), " of ",
                                page.total(), "; more with --after ",
                                page.next_page_token(), "\n"));
  }
  return absl::OkStatus();
}

struct ClearOptions {
  std::vector<std::string> ids;
  bool keep_owners = false;
};

absl::Status Clear(Context& context, const ClearOptions& options) {
  SLUICE_ASSIGN_OR_RETURN(Client * client, context.client());
  v1::ClearRequest request;
  for (const std::string& id : options.ids) request.add_sample_ids(id);
  request.set_keep_owners(options.keep_owners);
  SLUICE_ASSIGN_OR_RETURN(const v1::ClearResponse cleared,
                          client->Clear(request));
  if (context.json()) {
    Context::PrintJson(cleared);
  } else {
    Context::Print(
        absl::StrCat("dropped ", HumanCount(cleared.dropped()), " tensors\n"));
  }
  return absl::OkStatus();
}

struct RedistributeOptions {
  std::string pattern = "direct";
  std::string transport = "auto";
  std::vector<std::string> wants;
  bool skip_digests = false;
  double deadline_seconds = 600;
};

// All ids the catalogue has, page by page.
absl::StatusOr<std::vector<std::string>> AllSamples(Client& client) {
  std::vector<std::string> ids;
  v1::ListSamplesRequest request;
  request.set_page_size(10000);
  for (;;) {
    SLUICE_ASSIGN_OR_RETURN(const v1::ListSamplesResponse page,
                            client.ListSamples(request));
    ids.insert(ids.end(), page.sample_ids().begin(), page.sample_ids().end());
    if (page.next_page_token().empty() || ids.size() >= kMaxLocated) return ids;
    request.set_page_token(page.next_page_token());
  }
}

// "agent-0,agent-1:id,id:key,key"; "*" for all samples.
absl::Status AddWant(const std::string& text, Client& client,
                     v1::RedistributeRequest& request) {
  const std::vector<std::string> parts = absl::StrSplit(text, ':');
  if (parts.size() != 3 || parts[0].empty() || parts[1].empty() ||
      parts[2].empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--want: expected AGENTS:SAMPLES:KEYS, found \"", text, "\""));
  }
  v1::Want& want = *request.add_wants();
  for (const absl::string_view agent : absl::StrSplit(parts[0], ',')) {
    want.add_agents(std::string(agent));
  }
  std::vector<std::string> ids = absl::StrSplit(parts[1], ',');
  if (parts[1] == "*") {
    SLUICE_ASSIGN_OR_RETURN(ids, AllSamples(client));
  }
  for (const std::string& id : ids) want.add_sample_ids(id);
  for (const absl::string_view key : absl::StrSplit(parts[2], ',')) {
    want.add_keys(std::string(key));
  }
  return absl::OkStatus();
}

absl::StatusOr<v1::RedistributeRequest> RequestOf(
    const RedistributeOptions& options, Client& client) {
  v1::RedistributeRequest request;
  SLUICE_ASSIGN_OR_RETURN(
      const v1::Pattern pattern,
      ParsePatternFlag(options.pattern,
                       {"direct", "gather_scatter", "broadcast"}));
  request.set_pattern(pattern);
  SLUICE_ASSIGN_OR_RETURN(const v1::Transport transport,
                          ParseTransportFlag(options.transport));
  request.set_transport(transport);
  request.set_skip_digests(options.skip_digests);
  request.mutable_deadline()->set_seconds(
      static_cast<int64_t>(options.deadline_seconds));
  for (const std::string& want : options.wants) {
    SLUICE_RETURN_IF_ERROR(AddWant(want, client, request));
  }
  return request;
}

absl::Status CheckWants(const RedistributeOptions& options) {
  if (!options.wants.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      "who wants what? Give --want AGENTS:SAMPLES:KEYS");
}

absl::Status Redistribute(Context& context,
                          const RedistributeOptions& options) {
  SLUICE_RETURN_IF_ERROR(CheckWants(options));
  SLUICE_ASSIGN_OR_RETURN(Client * client, context.client());
  SLUICE_ASSIGN_OR_RETURN(const v1::RedistributeRequest request,
                          RequestOf(options, *client));
  return context.RunOperation("redistribute",
                              [&](const Client::Progress& progress) {
                                return client->Redistribute(request, progress);
                              });
}

// Either of a running cluster's samples or of a batch that is described.
struct PlanRedistributeOptions {
  RedistributeOptions live;
  OfflineBatchOptions offline;
};

absl::Status PlanRedistribute(Context& context,
                              const PlanRedistributeOptions& asked) {
  const RedistributeOptions& options = asked.live;
  if (asked.offline.given()) {
    if (!options.wants.empty()) {
      return absl::InvalidArgumentError(
          "--want asks the cluster, --batch and --samples describe a batch: "
          "expected one of them");
    }
    OfflineBatchOptions offline = asked.offline;
    offline.output.pattern = options.pattern;
    return PlanBatchOffline(context, offline);
  }
  SLUICE_RETURN_IF_ERROR(CheckWants(options));
  SLUICE_ASSIGN_OR_RETURN(Client * client, context.client());
  SLUICE_ASSIGN_OR_RETURN(const v1::RedistributeRequest request,
                          RequestOf(options, *client));
  SLUICE_ASSIGN_OR_RETURN(const v1::PlanRedistributionResponse plan,
                          client->PlanRedistribution(request));
  if (context.json()) {
    Context::PrintJson(plan);
  } else {
    Context::Print(CertificateText(plan.certificate()));
  }
  return absl::OkStatus();
}

void DefineRedistribute(CLI::App& command, RedistributeOptions& options) {
  command
      .add_option("--pattern", options.pattern,
                  "direct, gather_scatter or broadcast")
      ->capture_default_str();
  AddTransportFlag(command, options.transport);
  command.add_option("--want", options.wants,
                     "AGENTS:SAMPLES:KEYS, each separated by commas, * for "
                     "all samples; repeatable");
  command.add_flag("--skip-digests", options.skip_digests,
                   "Compare no digests of what arrived");
  command
      .add_option("--deadline", options.deadline_seconds,
                  "Seconds the whole may take")
      ->capture_default_str();
}

}  // namespace

void AddSampleCommands(CLI::App& app, Action& chosen) {
  AddCommand<LocateOptions>(
      app, chosen, "locate",
      "Shows which agents hold what of samples.\n"
      "Example: sluicectl locate sample-000001 --key rewards",
      [](CLI::App& command, LocateOptions& options) {
        command.add_option("samples", options.ids, "Sample ids")->required();
        command.add_option("--key", options.keys,
                           "Keys (default: all); repeatable");
      },
      Locate);
  AddCommand<ListOptions>(
      app, chosen, "samples", "Lists sample ids, page by page.",
      [](CLI::App& command, ListOptions& options) {
        command.add_option("--page-size", options.page_size,
                           "At most so many (default: 1000)");
        command.add_option("--after", options.after, "Start after this id");
      },
      List);
  AddCommand<ClearOptions>(
      app, chosen, "clear",
      "Drops samples everywhere, or everywhere but at their owners.\n"
      "Example: sluicectl clear sample-000001 --keep-owners",
      [](CLI::App& command, ClearOptions& options) {
        command.add_option("samples", options.ids, "Sample ids")->required();
        command.add_flag("--keep-owners", options.keep_owners,
                         "Drop only the copies");
      },
      Clear);
  AddCommand<RedistributeOptions>(
      app, chosen, "redistribute",
      "Moves samples to the agents that want them.\nExample: sluicectl "
      "redistribute --pattern direct --want 'agent-0,agent-1:*:rewards'",
      DefineRedistribute, Redistribute);
  CLI::App* plan = app.get_subcommand("plan");
  AddCommand<PlanRedistributeOptions>(
      *plan, chosen, "redistribute",
      "Plans a redistribution and shows its certificate; moves nothing. With "
      "--want of a cluster's samples, with --batch or --samples of a batch "
      "that is only described.\n"
      "Example: sluicectl plan redistribute --samples 4096 --keys 8 "
      "--from-mesh data=64 --to-mesh data=8,tensor=8 --compare",
      [](CLI::App& command, PlanRedistributeOptions& options) {
        DefineRedistribute(command, options.live);
        DefineOfflineBatch(command, options.offline);
      },
      PlanRedistribute);
}

}  // namespace sluice::ctl
