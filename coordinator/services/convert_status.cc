#include "coordinator/services/convert_status.h"

#include <algorithm>
#include <string>

#include "common/convert_command.h"
#include "common/convert_layout.h"
#include "common/convert_limits.h"
#include "common/convert_nccl_report.h"
#include "common/convert_plan.h"
#include "common/convert_repeated.h"
#include "common/convert_tensor.h"
#include "common/convert_time.h"
#include "coordinator/convert_operation.h"

namespace sluice::coordinator {
namespace {

v1::ReplicaStatus ToProto(const ReplicaStatus& replica) {
  v1::ReplicaStatus proto;
  proto.set_replica(replica.replica);
  proto.set_version(replica.version.value());
  proto.mutable_exceptions()->Add(replica.exceptions.begin(),
                                  replica.exceptions.end());
  return proto;
}

template <typename Response>
void Fill(const PlanReply& reply, Response& response) {
  *response.mutable_certificate() =
      sluice::ToProto(reply.plan.certificate, reply.agent_of_rank);
  const size_t listed =
      std::min<size_t>(reply.plan.transfers.size(), kMaxListedTransfers);
  for (size_t i = 0; i < listed; ++i) {
    *response.add_transfers() = sluice::ToProto(reply.plan.transfers[i]);
  }
}

}  // namespace

v1::AgentStatus ToProto(const AgentStatus& agent) {
  v1::AgentStatus proto;
  proto.set_name(agent.name);
  proto.set_rank(agent.rank.value());
  proto.set_node(agent.node);
  proto.set_device(agent.device);
  proto.set_device_description(agent.device_description);
  proto.set_state(static_cast<v1::AgentState>(agent.state));
  proto.set_incarnation(agent.incarnation.value());
  proto.set_address(agent.address);
  proto.set_socket_path(agent.socket_path);
  *proto.mutable_last_beat() = sluice::ToProto(agent.last_beat);
  proto.set_parameter_bytes(agent.parameter_bytes);
  proto.set_sample_bytes(agent.sample_bytes);
  proto.set_memory_bytes(agent.memory_bytes);
  proto.mutable_workers()->Add(agent.workers.begin(), agent.workers.end());
  proto.set_pid(agent.pid);
  proto.set_nccl_version(agent.nccl_version);
  *proto.mutable_nccl() = sluice::ToProto(agent.nccl);
  return proto;
}

v1::PlacementStatus ToProto(const PlacementStatus& placement) {
  v1::PlacementStatus proto;
  proto.set_placement(placement.placement);
  *proto.mutable_mesh() = sluice::ToProto(placement.mesh, placement.agents);
  proto.set_layout(placement.layout);
  proto.set_storage(sluice::ToProto(placement.storage));
  for (const ReplicaStatus& replica : placement.replicas) {
    *proto.add_replicas() = ToProto(replica);
  }
  proto.set_bytes(placement.bytes);
  return proto;
}

v1::ModelStatus ToProto(const ModelStatus& model) {
  v1::ModelStatus proto;
  proto.set_model(model.model);
  proto.set_version(model.version.value());
  proto.set_tensors(model.tensors);
  proto.set_bytes(model.bytes);
  AppendProtos(model.placements, *proto.mutable_placements());
  return proto;
}

v1::ReduceGroupStatus ToProto(const ReduceGroupStatus& group) {
  v1::ReduceGroupStatus proto;
  proto.set_name(group.name);
  proto.set_average(group.average);
  for (const ReduceGroupMember& member : group.members) {
    v1::ReduceGroupMember& out = *proto.add_members();
    out.set_agent(member.agent);
    out.set_state(static_cast<v1::ReduceGroupState>(member.state));
    out.set_requests_waiting(member.requests_waiting);
    out.set_collectives_sent(member.collectives_sent);
    out.set_collectives_done(member.collectives_done);
    out.set_bytes_reduced(member.bytes_reduced);
    out.set_bucket_bytes(member.bucket_bytes);
    out.set_error(member.error);
  }
  proto.mutable_waits_for()->Add(group.waits_for.begin(),
                                 group.waits_for.end());
  return proto;
}

v1::Event ToProto(const StatusEvent& event) {
  v1::Event proto;
  proto.set_revision(event.revision);
  *proto.mutable_time() = sluice::ToProto(event.time);
  proto.set_kind(event.kind);
  proto.set_subject(event.subject);
  proto.set_message(SafeText(event.message, kMaxOutcomeMessageBytes));
  return proto;
}

v1::GetStatusResponse ToProto(const StatusSnapshot& snapshot) {
  v1::GetStatusResponse proto;
  proto.set_cluster_id(snapshot.cluster_id);
  proto.set_epoch(snapshot.epoch.value());
  proto.set_recovering(snapshot.recovering);
  proto.mutable_awaited()->Add(snapshot.awaited.begin(),
                               snapshot.awaited.end());
  *proto.mutable_started() = sluice::ToProto(snapshot.started);
  AppendProtos(snapshot.agents, *proto.mutable_agents());
  AppendProtos(snapshot.models, *proto.mutable_models());
  AppendProtos(snapshot.operations, *proto.mutable_operations());
  *proto.mutable_totals()->mutable_bytes() =
      sluice::ToProto(snapshot.total_bytes);
  proto.mutable_totals()->mutable_seconds()->Add(snapshot.total_seconds.begin(),
                                                 snapshot.total_seconds.end());
  proto.set_samples(snapshot.samples);
  proto.set_sample_tensors(snapshot.sample_tensors);
  AppendProtos(snapshot.events, *proto.mutable_events());
  AppendProtos(snapshot.reduce_groups, *proto.mutable_reduce_groups());
  return proto;
}

v1::SampleLocation ToProto(const SampleLocation& location) {
  v1::SampleLocation proto;
  *proto.mutable_entry() = sluice::ToProto(location.entry);
  proto.mutable_holders()->Add(location.holders.begin(),
                               location.holders.end());
  proto.set_owner(location.owner);
  proto.set_bytes(location.entry.num_bytes());
  return proto;
}

void FillPlan(const PlanReply& reply, v1::PlanSyncResponse& response) {
  Fill(reply, response);
  for (const Cast& cast : reply.casts) {
    v1::PlannedCast& out = *response.add_casts();
    out.set_placement(cast.placement);
    out.set_from(sluice::ToProto(cast.from));
    out.set_to(sluice::ToProto(cast.to));
    out.set_wire(sluice::ToProto(cast.wire));
    out.set_tensors(cast.num_tensors);
  }
  const size_t listed = std::min(reply.warnings.size(), kMaxListedWarnings);
  for (size_t i = 0; i < listed; ++i) {
    response.add_warnings(SafeText(reply.warnings[i], kMaxWarningBytes));
  }
}

void FillPlan(const PlanReply& reply,
              v1::PlanRedistributionResponse& response) {
  Fill(reply, response);
}

}  // namespace sluice::coordinator
