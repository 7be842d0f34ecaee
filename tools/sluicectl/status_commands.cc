// status, agents, models, watch: looking at a cluster.

#include <algorithm>
#include <cstdio>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/format.h"
#include "common/nccl_version.h"
#include "common/status_macros.h"
#include "tools/console/table.h"
#include "tools/sluicectl/context.h"

namespace sluice::ctl {
namespace {

using console::Align;
using console::Table;

absl::Time TimeOf(const google::protobuf::Timestamp& stamp) {
  return absl::FromUnixSeconds(stamp.seconds()) +
         absl::Nanoseconds(stamp.nanos());
}

absl::Duration DurationOf(const google::protobuf::Duration& duration) {
  return absl::Seconds(duration.seconds()) +
         absl::Nanoseconds(duration.nanos());
}

std::string Ago(const google::protobuf::Timestamp& stamp) {
  if (stamp.seconds() == 0) return "never";
  return absl::StrCat(HumanDuration(std::max(absl::ZeroDuration(),
                                             absl::Now() - TimeOf(stamp))),
                      " ago");
}

std::string ClockTime(const google::protobuf::Timestamp& stamp) {
  return absl::FormatTime("%H:%M:%E3S", TimeOf(stamp), absl::UTCTimeZone());
}

std::string MeshText(const v1::Mesh& mesh) {
  return absl::StrJoin(mesh.axes(), ",",
                       [](std::string* out, const v1::MeshAxis& axis) {
                         absl::StrAppend(out, axis.name(), "=", axis.size());
                       });
}

std::string AgentsText(const v1::GetStatusResponse& status) {
  Table table({{"rank", Align::kRight},
               {"name"},
               {"node"},
               {"device"},
               {"state"},
               {"incarnation"},
               {"last beat", Align::kRight},
               {"parameters", Align::kRight},
               {"samples", Align::kRight},
               {"memory", Align::kRight},
               {"workers"},
               {"pid", Align::kRight}});
  for (const v1::AgentStatus& agent : status.agents()) {
    table.Add(
        {absl::StrCat(agent.rank()), agent.name(), agent.node(), agent.device(),
         Word(v1::AgentState_Name(agent.state()), "AGENT_STATE_"),
         absl::StrCat(absl::Hex(agent.incarnation())), Ago(agent.last_beat()),
         HumanBytes(agent.parameter_bytes()), HumanBytes(agent.sample_bytes()),
         HumanBytes(agent.memory_bytes()), absl::StrJoin(agent.workers(), " "),
         absl::StrCat(agent.pid())});
  }
  if (table.empty()) return "  no agents\n";
  std::string text = table.Print(2);
  for (const v1::AgentStatus& agent : status.agents()) {
    if (agent.device_description().empty()) continue;
    absl::StrAppend(&text, "  device of ", agent.name(), ": ",
                    agent.device_description(), "\n");
  }
  return text;
}

std::string ReplicasText(const v1::PlacementStatus& placement) {
  std::vector<std::string> replicas;
  for (const v1::ReplicaStatus& replica : placement.replicas()) {
    std::string text =
        replica.version() != 0 ? absl::StrCat("v", replica.version()) : "none";
    if (replica.exceptions_size() > 0) {
      absl::StrAppend(&text, " (", absl::StrJoin(replica.exceptions(), "; "),
                      ")");
    }
    replicas.push_back(std::move(text));
  }
  return absl::StrJoin(replicas, ", ");
}

std::string ModelsText(const v1::GetStatusResponse& status) {
  std::string out;
  for (const v1::ModelStatus& model : status.models()) {
    absl::StrAppend(&out, "  ", model.model(), ": version ", model.version(),
                    ", ", HumanCount(model.tensors()), " tensors, ",
                    HumanBytes(model.bytes()), "\n");
    Table table({{"placement"},
                 {"layout"},
                 {"mesh"},
                 {"memory"},
                 {"bytes", Align::kRight},
                 {"replicas' versions"}});
    for (const v1::PlacementStatus& placement : model.placements()) {
      table.Add({placement.placement(), placement.layout(),
                 MeshText(placement.mesh()),
                 Word(v1::Storage_Name(placement.storage()), "STORAGE_"),
                 HumanBytes(placement.bytes()), ReplicasText(placement)});
    }
    if (!table.empty()) out += table.Print(4);
  }
  return out.empty() ? "  no models\n" : out;
}

std::string MembersText(const v1::ReduceGroupStatus& group) {
  Table table({{"member"},
               {"state"},
               {"requests", Align::kRight},
               {"collectives", Align::kRight},
               {"reduced", Align::kRight},
               {"buckets", Align::kRight},
               {"waits for, or error"}});
  for (const v1::ReduceGroupMember& member : group.members()) {
    const bool joined = member.state() != v1::REDUCE_GROUP_STATE_UNSPECIFIED;
    table.Add({member.agent(),
               joined ? Word(v1::ReduceGroupState_Name(member.state()),
                             "REDUCE_GROUP_STATE_")
                      : "not joined",
               absl::StrCat(member.requests_waiting()),
               absl::StrCat(member.collectives_done(), " of ",
                            member.collectives_sent()),
               HumanBytes(member.bytes_reduced()),
               HumanBytes(member.bucket_bytes()), member.error()});
  }
  return table.Print(4);
}

std::string ReduceGroupsText(const v1::GetStatusResponse& status) {
  std::string out;
  for (const v1::ReduceGroupStatus& group : status.reduce_groups()) {
    absl::StrAppend(&out, "  ", group.name(), ": ",
                    group.average() ? "average" : "sum", " of ",
                    group.members_size(), " members");
    if (group.waits_for_size() > 0) {
      absl::StrAppend(&out, ", waits for ",
                      absl::StrJoin(group.waits_for(), ", "));
    }
    absl::StrAppend(&out, "\n", MembersText(group));
  }
  return out.empty() ? "  none\n" : out;
}

// Of the agents that have NCCL, by agent.
std::string CommunicatorsText(const v1::GetStatusResponse& status) {
  std::string out;
  for (const v1::AgentStatus& agent : status.agents()) {
    if (agent.nccl_version() == 0) continue;
    const v1::NcclReport& nccl = agent.nccl();
    absl::StrAppend(&out, "  ", agent.name(), ": NCCL ",
                    NcclVersionName(agent.nccl_version()),
                    ", communicators: ", HumanCount(nccl.num_communicators()));
    if (nccl.num_communicators() > nccl.communicators_size()) {
      absl::StrAppend(&out, ", the newest of them:");
    }
    out += "\n";
    Table table({{"communicator"},
                 {"members", Align::kRight},
                 {"state"},
                 {"why it ends"}});
    for (const v1::CommunicatorReport& one : nccl.communicators()) {
      table.Add(
          {one.name(), HumanCount(one.members()),
           Word(v1::CommunicatorState_Name(one.state()), "COMMUNICATOR_STATE_"),
           one.error()});
    }
    if (!table.empty()) out += table.Print(4);
  }
  return out.empty() ? "  none\n" : out;
}

std::string OperationsText(const v1::GetStatusResponse& status) {
  Table table({{"id", Align::kRight},
               {"what"},
               {"phase"},
               {"done", Align::kRight},
               {"age", Align::kRight},
               {"waits for, or error"}});
  for (const v1::OperationInfo& operation : status.operations()) {
    const v1::OperationUpdate& update = operation.update();
    table.Add(
        {absl::StrCat(update.operation()), operation.description(),
         Word(v1::OperationPhase_Name(update.phase()), "OPERATION_PHASE_"),
         update.bytes_total() > 0
             ? absl::StrCat(HumanBytes(update.bytes_done()), " of ",
                            HumanBytes(update.bytes_total()))
             : "-",
         HumanDuration(DurationOf(operation.age())),
         operation.error().empty() ? absl::StrJoin(update.waiting_for(), ", ")
                                   : operation.error()});
  }
  return table.empty() ? "  none\n" : table.Print(2);
}

std::string TotalsText(const v1::LinkTotals& totals) {
  const v1::LinkBytes& bytes = totals.bytes();
  const std::pair<const char*, int64_t> links[] = {
      {"same device", bytes.same_device()},
      {"same node", bytes.same_node()},
      {"between nodes", bytes.between_nodes()}};
  Table table({{"link"},
               {"bytes", Align::kRight},
               {"busy", Align::kRight},
               {"rate while busy", Align::kRight}});
  int index = 0;
  for (const auto& [name, moved] : links) {
    const double seconds =
        index < totals.seconds_size() ? totals.seconds(index) : 0;
    ++index;
    table.Add({name, HumanBytes(moved), HumanDuration(absl::Seconds(seconds)),
               HumanRate(moved, absl::Seconds(seconds))});
  }
  return table.Print(2);
}

std::string EventText(const v1::Event& event) {
  return absl::StrCat(ClockTime(event.time()), "  ", event.kind(), "  ",
                      event.subject(), "  ", event.message(), "\n");
}

std::string StatusText(const v1::GetStatusResponse& status,
                       const std::string& address) {
  std::string out = absl::StrCat(
      "cluster ", status.cluster_id(), " at ", address, ", epoch ",
      status.epoch(), ", coordinator started ", Ago(status.started()), ", ",
      HumanBytes(status.coordinator_rss_bytes()), " resident, ",
      HumanDuration(absl::Seconds(status.coordinator_cpu_seconds())),
      " of processor time\n");
  if (status.recovering()) {
    absl::StrAppend(&out, "RECOVERING: waits for ",
                    absl::StrJoin(status.awaited(), ", "), "\n");
  }
  absl::StrAppend(
      &out, "\nagents\n", AgentsText(status), "\nmodels\n", ModelsText(status),
      "\nsamples\n  ", HumanCount(status.samples()), " samples, ",
      HumanCount(status.sample_tensors()), " tensors\n", "\noperations\n",
      OperationsText(status), "\nreduce groups\n", ReduceGroupsText(status),
      "\nNCCL communicators\n", CommunicatorsText(status),
      "\nmoved since the coordinator started\n", TotalsText(status.totals()),
      "\nrecent events\n");
  for (const v1::Event& event : status.events()) {
    absl::StrAppend(&out, "  ", EventText(event));
  }
  return out;
}

struct StatusOptions {
  int events = 10;
};

absl::StatusOr<v1::GetStatusResponse> GetStatus(Context& context, int events) {
  SLUICE_ASSIGN_OR_RETURN(Client * client, context.client());
  return client->GetStatus(events);
}

absl::Status Status(Context& context, const StatusOptions& options) {
  SLUICE_ASSIGN_OR_RETURN(const v1::GetStatusResponse status,
                          GetStatus(context, options.events));
  SLUICE_ASSIGN_OR_RETURN(const std::string address, context.Address());
  if (context.json()) {
    Context::PrintJson(status);
  } else {
    Context::Print(StatusText(status, address));
  }
  return absl::OkStatus();
}

struct NoOptions {};

absl::Status Agents(Context& context, const NoOptions&) {
  SLUICE_ASSIGN_OR_RETURN(v1::GetStatusResponse status, GetStatus(context, 1));
  if (!context.json()) {
    Context::Print(AgentsText(status));
    return absl::OkStatus();
  }
  v1::GetStatusResponse answer;
  *answer.mutable_agents() = std::move(*status.mutable_agents());
  Context::PrintJson(answer);
  return absl::OkStatus();
}

absl::Status Models(Context& context, const NoOptions&) {
  SLUICE_ASSIGN_OR_RETURN(v1::GetStatusResponse status, GetStatus(context, 1));
  if (!context.json()) {
    Context::Print(ModelsText(status));
    return absl::OkStatus();
  }
  v1::GetStatusResponse answer;
  *answer.mutable_models() = std::move(*status.mutable_models());
  Context::PrintJson(answer);
  return absl::OkStatus();
}

struct WatchOptions {
  uint64_t after = 0;
  int64_t count = 0;
};

absl::Status Watch(Context& context, const WatchOptions& options) {
  SLUICE_ASSIGN_OR_RETURN(Client * client, context.client());
  int64_t seen = 0;
  return client->WatchEvents(options.after, [&](const v1::Event& event) {
    if (context.json()) {
      Context::PrintJson(event);
    } else {
      Context::Print(absl::StrCat(event.revision(), "  ", EventText(event)));
    }
    std::fflush(stdout);
    return ++seen != options.count;
  });
}

}  // namespace

void AddStatusCommands(CLI::App& app, Action& chosen) {
  AddCommand<StatusOptions>(
      app, chosen, "status",
      "Shows agents, models, operations, totals and recent events.\n"
      "Example: sluicectl --state-dir /tmp/sluice status --json",
      [](CLI::App& command, StatusOptions& options) {
        command
            .add_option("--events", options.events, "How many recent events")
            ->capture_default_str();
      },
      Status);
  AddCommand<NoOptions>(
      app, chosen, "agents", "Lists agents: state, rank, node, memory.",
      [](CLI::App&, NoOptions&) {}, Agents);
  AddCommand<NoOptions>(
      app, chosen, "models", "Lists models, their placements and versions.",
      [](CLI::App&, NoOptions&) {}, Models);
  AddCommand<WatchOptions>(
      app, chosen, "watch",
      "Prints events as they happen, until interrupted.\n"
      "Example: sluicectl --state-dir /tmp/sluice watch --after 17",
      [](CLI::App& command, WatchOptions& options) {
        command.add_option("--after", options.after,
                           "Start after this revision (default: from now on)");
        command.add_option("--count", options.count,
                           "Stop after so many (default: never)");
      },
      Watch);
}

}  // namespace sluice::ctl
