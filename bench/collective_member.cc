// One process of a group, as an agent has it: shared memory, a descriptor
// socket, a host group.

#include <algorithm>
#include <cstring>
#include <future>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "agent/collective/group_table.h"
#include "agent/collective/host_group.h"
#include "agent/descriptor_socket.h"
#include "agent/descriptor_table.h"
#include "agent/socket_group_directory.h"
#include "agent/socket_paths.h"
#include "agent/source_table.h"
#include "bench/collective_cases.h"
#include "bench/executor_rig.h"
#include "bench/lines.h"
#include "common/status_macros.h"

namespace sluice::bench {
namespace {

using agent::CollectiveCall;
using agent::CollectiveKind;
using agent::CollectiveRange;

// Plans do not run here.
class NoPeers final : public agent::PeerDirectory {
 public:
  absl::StatusOr<agent::PeerSource> Open(OperationId, Rank, absl::Time,
                                         int) override {
    return absl::UnimplementedError("no peers");
  }
};

// Element i of what member `from` has for piece `piece`: whole numbers, whose
// sums are exact.
float Element(int round, int from, int piece, int64_t i) {
  const auto mixed = static_cast<uint32_t>(i + 1) * 2654435761u +
                     static_cast<uint32_t>(round * 7 + from * 31 + piece * 101);
  return static_cast<float>(mixed >> 20 & 63);
}

class Member {
 public:
  Member(int self, int members) : self_(self), members_(members) {}

  absl::Status Open(const std::string& directory, int from_parent,
                    int to_parent) {
    from_parent_ = from_parent;
    to_parent_ = to_parent;
    SLUICE_ASSIGN_OR_RETURN(rig_, ExecutorRig::Create(1, no_peers_));
    SLUICE_ASSIGN_OR_RETURN(
        socket_, agent::DescriptorSocket::Start(
                     agent::DescriptorSocketPath(Path(directory, self_)),
                     {descriptors_, sources_, rig_->executor(), &table_}));
    agent::CollectiveMembers members;
    members.name = "bench";
    members.self = self_;
    for (int m = 0; m < members_; ++m) {
      Peer& peer = members.peers.emplace_back();
      peer.rank = Rank(m);
      peer.name = absl::StrCat("agent-", m);
      peer.node = "node";
      peer.incarnation = Incarnation(static_cast<uint64_t>(m) + 1);
      peer.socket_path = Path(directory, m);
    }
    SLUICE_ASSIGN_OR_RETURN(
        group_, agent::MakeHostGroup(std::move(members),
                                     {groups_, nullptr, clock_}, {}));
    const std::vector<CollectiveCase> cases = CollectiveCases();
    int64_t most = 0;
    for (const CollectiveCase& c : cases) most = std::max(most, c.bytes);
    SLUICE_ASSIGN_OR_RETURN(input_, TouchedMemory(most));
    SLUICE_ASSIGN_OR_RETURN(output_, TouchedMemory(most));
    return WriteLine(to_parent_, "up");
  }

  absl::Status Serve() {
    while (true) {
      const auto line = Next();
      if (!line.ok()) return absl::OkStatus();  // the parent is done
      const std::vector<std::string> words = absl::StrSplit(*line, ' ');
      int index = 0;
      if (words.size() != 2 || !absl::SimpleAtoi(words[0], &index) ||
          !absl::SimpleAtoi(words[1], &round_)) {
        return absl::InvalidArgumentError(absl::StrCat("line ", *line));
      }
      case_ = CollectiveCases()[static_cast<size_t>(index)];
      CollectiveCall call = MakeCall();
      Fill(call);
      SLUICE_RETURN_IF_ERROR(WriteLine(to_parent_, "ready"));
      SLUICE_RETURN_IF_ERROR(Next().status());
      SLUICE_RETURN_IF_ERROR(Run(call));
      SLUICE_RETURN_IF_ERROR(WriteLine(to_parent_, "done"));
      SLUICE_RETURN_IF_ERROR(Next().status());
      SLUICE_RETURN_IF_ERROR(
          WriteLine(to_parent_, IsRight(call) ? "good" : "bad"));
    }
  }

 private:
  static std::string Path(const std::string& directory, int m) {
    return agent::GrpcSocketPath(directory, absl::StrCat("agent-", m));
  }
  absl::StatusOr<std::string> Next() {
    return ReadLine(from_parent_, clock_, absl::InfiniteFuture());
  }

  bool is_root() const { return self_ == 0; }
  // The whole buffer, or one piece a member.
  static CollectiveRange Whole(const Memory& memory, int64_t bytes) {
    return {memory, 0, bytes / 4};
  }
  std::vector<CollectiveRange> Pieces(const Memory& memory) const {
    std::vector<CollectiveRange> out;
    const int64_t piece = case_.bytes / members_;
    for (int m = 0; m < members_; ++m) {
      out.push_back({memory, m * piece, piece / 4});
    }
    return out;
  }

  CollectiveCall MakeCall() const {
    CollectiveCall call;
    call.kind = case_.kind;
    call.dtype = DType::kF32;
    call.description = case_.name;
    const CollectiveRange piece_in = Whole(input_, case_.bytes / members_);
    const CollectiveRange piece_out = Whole(output_, case_.bytes / members_);
    switch (case_.kind) {
      case CollectiveKind::kBroadcast:
        call.outputs = {Whole(is_root() ? input_ : output_, case_.bytes)};
        if (is_root()) call.inputs = call.outputs;
        break;
      case CollectiveKind::kScatter:
        if (is_root()) call.inputs = Pieces(input_);
        call.outputs = {piece_out};
        break;
      case CollectiveKind::kGather:
        call.inputs = {piece_in};
        if (is_root()) call.outputs = Pieces(output_);
        break;
      case CollectiveKind::kAllGather:
        call.inputs = {piece_in};
        call.outputs = Pieces(output_);
        break;
      case CollectiveKind::kAllToAll:
        call.inputs = Pieces(input_);
        call.outputs = Pieces(output_);
        break;
      case CollectiveKind::kReduceScatter:
        call.reduce = agent::ReduceOp::kSum;
        call.inputs = Pieces(input_);
        call.outputs = {piece_out};
        break;
    }
    return call;
  }

  static float* Floats(const CollectiveRange& range) {
    return reinterpret_cast<float*>(range.memory->data() + range.offset_bytes);
  }

  void Fill(const CollectiveCall& call) const {
    for (const CollectiveRange& range : call.outputs) {
      std::memset(Floats(range), 0xEE, static_cast<size_t>(range.elements) * 4);
    }
    for (size_t piece = 0; piece < call.inputs.size(); ++piece) {
      float* to = Floats(call.inputs[piece]);
      for (int64_t i = 0; i < call.inputs[piece].elements; ++i) {
        to[i] = Element(round_, self_, static_cast<int>(piece), i);
      }
    }
  }

  absl::Status Run(const CollectiveCall& call) {
    std::promise<absl::Status> ended;
    group_->Run(call, [&ended](absl::Status status) {
      ended.set_value(std::move(status));
    });
    return ended.get_future().get();
  }

  float Expected(size_t output, int64_t i) const {
    const auto at = static_cast<int>(output);
    switch (case_.kind) {
      case CollectiveKind::kBroadcast:
        return Element(round_, 0, 0, i);
      case CollectiveKind::kScatter:
        return Element(round_, 0, self_, i);
      case CollectiveKind::kGather:
      case CollectiveKind::kAllGather:
        return Element(round_, at, 0, i);
      case CollectiveKind::kAllToAll:
        return Element(round_, at, self_, i);
      case CollectiveKind::kReduceScatter:
        break;
    }
    float sum = 0;
    for (int m = 0; m < members_; ++m) sum += Element(round_, m, self_, i);
    return sum;
  }

  bool IsRight(const CollectiveCall& call) const {
    for (size_t at = 0; at < call.outputs.size(); ++at) {
      const float* found = Floats(call.outputs[at]);
      for (int64_t i = 0; i < call.outputs[at].elements; ++i) {
        if (found[i] != Expected(at, i)) return false;
      }
    }
    return true;
  }

  const int self_;
  const int members_;
  int from_parent_ = -1;
  int to_parent_ = -1;
  int round_ = 0;
  CollectiveCase case_;
  SystemClock clock_;
  NoPeers no_peers_;
  agent::DescriptorTable descriptors_;
  agent::SourceTable sources_;
  agent::GroupTable table_;
  agent::SocketGroupDirectory groups_{table_};
  std::unique_ptr<ExecutorRig> rig_;
  std::unique_ptr<agent::DescriptorSocket> socket_;
  Memory input_, output_;
  std::unique_ptr<agent::CollectiveGroup> group_;
};

}  // namespace

int RunCollectiveMember(const std::string& directory, int self, int members,
                        int from_parent, int to_parent) {
  Member member(self, members);
  absl::Status status = member.Open(directory, from_parent, to_parent);
  if (status.ok()) status = member.Serve();
  if (status.ok()) return 0;
  static_cast<void>(
      WriteLine(to_parent, absl::StrCat("failed: ", status.ToString())));
  return 1;
}

}  // namespace sluice::bench
