#include "tools/sluicectl/context.h"

#include <google/protobuf/util/json_util.h>

#include <algorithm>
#include <cstdio>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "absl/time/time.h"
#include "common/format.h"
#include "common/status_macros.h"
#include "tools/console/progress.h"
#include "tools/console/table.h"
#include "tools/local_cluster/local_cluster.h"

namespace sluice::ctl {

absl::StatusOr<std::string> Context::Address() const {
  if (!globals_.coordinator.empty()) return globals_.coordinator;
  if (globals_.state_dir.empty()) {
    return absl::InvalidArgumentError(
        "where is the coordinator? Give --coordinator HOST:PORT (or "
        "SLUICE_COORDINATOR), or the --state-dir of a local cluster (or "
        "SLUICE_STATE_DIR)");
  }
  const absl::StatusOr<local_cluster::LocalCluster> cluster =
      local_cluster::LocalCluster::Open(globals_.state_dir);
  if (absl::IsNotFound(cluster.status())) {
    return absl::NotFoundError(
        absl::StrCat(cluster.status().message(), "; \"sluicectl --state-dir ",
                     globals_.state_dir,
                     " up\" starts one, --coordinator HOST:PORT names "
                     "another"));
  }
  SLUICE_RETURN_IF_ERROR(cluster.status());
  return cluster->coordinator_address();
}

std::string Context::Hint(const absl::Status& failure) const {
  if (!absl::IsUnavailable(failure) || client_ == nullptr) return "";
  const absl::StatusOr<std::string> address = Address();
  if (!address.ok()) return "";
  ClientOptions options;
  options.address = *address;
  options.rpc_deadline = absl::Seconds(1);
  options.retry_for = absl::ZeroDuration();
  const auto probe = Client::Connect(std::move(options));
  // It answers: what is not there is something else, which the message names.
  if (probe.ok() && (*probe)->GetStatus(1).ok()) return "";
  if (!globals_.coordinator.empty()) {
    return absl::StrCat(
        "no coordinator answers at ", *address,
        " (--coordinator or SLUICE_COORDINATOR): is it started, is that its "
        "--listen address, and does a firewall let this machine in? "
        "\"sluicectl "
        "--state-dir DIR up\" starts a cluster here");
  }
  const auto cluster = local_cluster::LocalCluster::Open(globals_.state_dir);
  const std::string dir = cluster.ok() ? cluster->dir() : globals_.state_dir;
  const std::string self = absl::StrCat("\"sluicectl --state-dir ", dir);
  return absl::StrCat(
      "no coordinator answers at ", *address, ", where ", dir,
      "/cluster.json says it is: see ", dir, "/coordinator.log; ", self,
      " down\" stops what is left, ", self, " up\" starts anew");
}

absl::StatusOr<Client*> Context::client() {
  if (client_ == nullptr) {
    ClientOptions options;
    SLUICE_ASSIGN_OR_RETURN(options.address, Address());
    options.rpc_deadline = absl::Seconds(globals_.timeout_seconds);
    // A person sees an error and decides; nothing is tried for long.
    options.retry_for = absl::Seconds(globals_.timeout_seconds) / 5;
    SLUICE_ASSIGN_OR_RETURN(client_, Client::Connect(std::move(options)));
  }
  return client_.get();
}

absl::StatusOr<std::string> Context::AgentSocket(const std::string& agent,
                                                 const std::string& path) {
  if (!path.empty()) return path;
  if (agent.empty()) {
    return absl::InvalidArgumentError(
        "which agent? Give --agent NAME or --agent-socket PATH");
  }
  SLUICE_ASSIGN_OR_RETURN(Client * coordinator, client());
  SLUICE_ASSIGN_OR_RETURN(const v1::GetStatusResponse status,
                          coordinator->GetStatus());
  std::vector<std::string> names;
  for (const v1::AgentStatus& known : status.agents()) {
    if (known.name() == agent) return known.socket_path();
    names.push_back(known.name());
  }
  return absl::NotFoundError(absl::StrCat(
      "no agent \"", agent, "\"; there are ", absl::StrJoin(names, ", ")));
}

void Context::PrintJson(const google::protobuf::Message& message) {
  google::protobuf::util::JsonPrintOptions options;
  options.add_whitespace = true;
  options.always_print_primitive_fields = true;
  options.preserve_proto_field_names = true;
  std::string text;
  // Fails only for messages with an Any or a timestamp out of range.
  if (!google::protobuf::util::MessageToJsonString(message, &text, options)
           .ok()) {
    text = "{}\n";
  }
  Print(text);
}

void Context::Print(absl::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
}

absl::Status Context::RunOperation(
    absl::string_view name,
    const std::function<
        absl::StatusOr<v1::OperationResult>(const Client::Progress&)>& run) {
  console::Progress progress(name, globals_.quiet || globals_.json);
  const absl::StatusOr<v1::OperationResult> result =
      run([&](const v1::OperationUpdate& update) {
        std::string detail =
            Word(v1::OperationPhase_Name(update.phase()), "OPERATION_PHASE_");
        if (update.waiting_for_size() > 0) {
          absl::StrAppend(&detail, ", waits for ",
                          absl::StrJoin(update.waiting_for(), ", "));
        }
        progress.Update(update.bytes_done(), update.bytes_total(), detail);
      });
  progress.Finish(result.ok() ? "done" : "failed");
  if (!result.ok()) return result.status();
  if (json()) {
    PrintJson(*result);
  } else {
    Print(ResultText(*result));
  }
  return absl::OkStatus();
}

std::string Word(const std::string& enum_name, absl::string_view prefix) {
  return absl::AsciiStrToLower(absl::StripPrefix(enum_name, prefix));
}

std::string LinkBytesText(const v1::LinkBytes& bytes) {
  return absl::StrCat(HumanBytes(bytes.same_device()), " in agents, ",
                      HumanBytes(bytes.same_node()), " in nodes, ",
                      HumanBytes(bytes.between_nodes()), " between nodes");
}

namespace {

// A word of an enumeration whose names are `prefix` and the word in capitals.
template <typename Enum, typename Parse>
absl::StatusOr<Enum> ParseWord(absl::string_view flag, absl::string_view prefix,
                               absl::string_view text,
                               absl::Span<const absl::string_view> allowed,
                               const Parse& parse) {
  const std::string word = absl::AsciiStrToLower(text);
  Enum value = {};
  if (std::find(allowed.begin(), allowed.end(), absl::string_view(word)) !=
          allowed.end() &&
      parse(absl::StrCat(prefix, absl::AsciiStrToUpper(word)), &value)) {
    return value;
  }
  return absl::InvalidArgumentError(absl::StrCat(flag, ": expected ",
                                                 absl::StrJoin(allowed, " or "),
                                                 ", found \"", text, "\""));
}

}  // namespace

absl::StatusOr<v1::Pattern> ParsePatternFlag(
    absl::string_view text, absl::Span<const absl::string_view> allowed) {
  return ParseWord<v1::Pattern>("--pattern", "PATTERN_", text, allowed,
                                &v1::Pattern_Parse);
}

absl::StatusOr<v1::Transport> ParseTransportFlag(absl::string_view text) {
  return ParseWord<v1::Transport>("--transport", "TRANSPORT_", text,
                                  {"auto", "ucx", "nccl"},
                                  &v1::Transport_Parse);
}

void AddTransportFlag(CLI::App& command, std::string& transport) {
  command
      .add_option("--transport", transport,
                  "What carries bytes between nodes: ucx, nccl (between GPUs), "
                  "or auto")
      ->capture_default_str();
}

std::string CertificateText(const v1::Certificate& certificate) {
  std::string text = absl::StrCat(
      "moves            ", LinkBytesText(certificate.bytes()), "\n",
      "transfers        ", HumanCount(certificate.transfers()), " in ",
      certificate.rounds(), " rounds\n", "peak staging     ",
      HumanBytes(certificate.peak_staging_bytes()), " an agent\n",
      "not needed       ", HumanBytes(certificate.wasted_bytes()), "\n",
      "most loaded link ", HumanBytes(certificate.max_link_bytes()),
      "; no plan has less than ", HumanBytes(certificate.lower_bound_bytes()),
      absl::StrFormat("; ratio %.3f\n", certificate.bound_ratio()));
  using console::Align;
  console::Table table({{"rank", Align::kRight},
                        {"agent"},
                        {"in, same device", Align::kRight},
                        {"in, same node", Align::kRight},
                        {"in, between", Align::kRight},
                        {"out, same node", Align::kRight},
                        {"out, between", Align::kRight}});
  for (const v1::RankBytes& rank : certificate.ranks()) {
    table.Add({absl::StrCat(rank.rank()), rank.agent(),
               HumanBytes(rank.in().same_device()),
               HumanBytes(rank.in().same_node()),
               HumanBytes(rank.in().between_nodes()),
               HumanBytes(rank.out().same_node()),
               HumanBytes(rank.out().between_nodes())});
  }
  return text + "\n" + table.Print();
}

std::string ResultText(const v1::OperationResult& result) {
  const v1::LinkBytes& bytes = result.bytes();
  const int64_t total =
      bytes.same_device() + bytes.same_node() + bytes.between_nodes();
  const absl::Duration elapsed = absl::Seconds(result.seconds());
  std::string text;
  if (result.version() != 0) {
    absl::StrAppend(&text, "version  ", result.version(), "\n");
  }
  absl::StrAppend(&text, "moved    ", LinkBytesText(bytes), "\n", "time     ",
                  HumanDuration(elapsed), ", ", HumanRate(total, elapsed),
                  result.plan_reused() ? ", plan reused\n" : "\n");
  std::vector<std::string> phases;
  for (const v1::PhaseSeconds& phase : result.phases()) {
    phases.push_back(absl::StrCat(
        Word(v1::OperationPhase_Name(phase.phase()), "OPERATION_PHASE_"), " ",
        HumanDuration(absl::Seconds(phase.seconds()))));
  }
  if (!phases.empty()) {
    absl::StrAppend(&text, "phases   ", absl::StrJoin(phases, ", "), "\n");
  }
  absl::StrAppend(&text, "digests  ", HumanBytes(result.digest_bytes()),
                  " read, ", HumanCount(result.digests_compared()),
                  " compared and equal\n");
  return text;
}

}  // namespace sluice::ctl
