// An agent as far as collectives need one: a process with shared memory, a
// descriptor socket and a transport. Serves lines:
//
//   (first it tells its network address, and is told those of all)
//   make NAME MEMBER,MEMBER,... SECONDS   makes a group of these members, whose
//                                  calls end when nothing moves for SECONDS
//   loop KIND ELEMENTS COUNT       runs calls; 0: until one fails. Answers
//                                  "some" after three, then "ended CODE WORDS"

#include <cstdio>
#include <cstring>
#include <future>
#include <iostream>
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
#include "agent/device/host_device.h"
#include "agent/socket_group_directory.h"
#include "agent/socket_paths.h"
#include "agent/source_table.h"
#include "agent/transfer_executor.h"

namespace sluice::agent {
namespace {

class NoPeers final : public PeerDirectory {
 public:
  absl::StatusOr<PeerSource> Open(OperationId, Rank, absl::Time, int) override {
    return absl::UnimplementedError("no plans here");
  }
};

void Say(const std::string& line) { std::cout << line << "\n" << std::flush; }

[[noreturn]] void Die(const absl::Status& status) {
  Say(absl::StrCat("failed ", status.ToString()));
  std::_Exit(1);
}

class Member {
 public:
  // `nodes` has one character a member.
  Member(const std::string& directory, int self, std::string nodes)
      : self_(self), nodes_(std::move(nodes)) {
    ExecutorCallbacks callbacks;
    callbacks.on_progress = [](OperationId, int64_t) {};
    callbacks.on_done = [](OperationId, absl::Status, ExecutionStats, Rank) {};
    auto executor =
        MakeTransferExecutor({.network = {.net_devices = "lo"}},
                             std::move(callbacks), no_peers_, clock_);
    if (!executor.ok()) Die(executor.status());
    executor_ = *std::move(executor);
    for (size_t m = 0; m < nodes_.size(); ++m) {
      Peer& peer = peers_.emplace_back();
      peer.rank = Rank(static_cast<int32_t>(m));
      peer.name = absl::StrCat("agent-", m);
      peer.node = nodes_.substr(m, 1);
      peer.incarnation = Incarnation(m + 1);
      peer.socket_path = GrpcSocketPath(directory, peer.name);
    }
    auto socket = DescriptorSocket::Start(
        DescriptorSocketPath(peers_[static_cast<size_t>(self)].socket_path),
        {descriptors_, sources_, *executor_, &table_});
    if (!socket.ok()) Die(socket.status());
    socket_ = *std::move(socket);
    Say(executor_->NetworkAddress());
  }

  void MeetAll(const std::vector<std::string>& addresses) {
    for (size_t m = 0; m < addresses.size(); ++m) {
      if (nodes_[m] == nodes_[static_cast<size_t>(self_)]) continue;
      const absl::Status status = executor_->SetPeer(
          peers_[m].rank, peers_[m].incarnation, addresses[m]);
      if (!status.ok()) Die(status);
    }
  }

  void Make(const std::string& name, const std::vector<std::string>& who,
            int progress_seconds) {
    CollectiveMembers members;
    members.name = name;
    for (const std::string& text : who) {
      const auto m = static_cast<size_t>(std::atoi(text.c_str()));
      if (static_cast<int>(m) == self_) {
        members.self = static_cast<int>(members.peers.size());
      }
      members.peers.push_back(peers_[m]);
    }
    world_ = static_cast<int>(who.size());
    HostGroupOptions options;
    options.progress_timeout = absl::Seconds(progress_seconds);
    group_.reset();
    auto group =
        MakeHostGroup(std::move(members),
                      {directory_, executor_->transport(), clock_}, options);
    if (!group.ok()) Die(group.status());
    group_ = *std::move(group);
  }

  // All-to-all, all-gather or reduce-scatter: the same sides on all members.
  void Loop(const std::string& kind, int64_t elements, int count) {
    CollectiveCall call;
    call.dtype = DType::kF32;
    call.description = kind;
    int inputs = world_, outputs = world_;
    if (kind == "all-gather") {
      call.kind = CollectiveKind::kAllGather;
      inputs = 1;
    } else if (kind == "reduce-scatter") {
      call.kind = CollectiveKind::kReduceScatter;
      call.reduce = ReduceOp::kSum;
      outputs = 1;
    } else {
      call.kind = CollectiveKind::kAllToAll;
    }
    call.inputs = Ranges(inputs, elements);
    call.outputs = Ranges(outputs, elements);
    absl::Status status;
    for (int i = 1; status.ok() && (count == 0 || i <= count); ++i) {
      std::promise<absl::Status> ended;
      group_->Run(call, [&ended](absl::Status s) { ended.set_value(s); });
      status = ended.get_future().get();
      if (i == 3 && status.ok()) Say("some");
    }
    Say(absl::StrCat("ended ", static_cast<int>(status.code()), " ",
                     status.message()));
  }

 private:
  std::vector<CollectiveRange> Ranges(int count, int64_t elements) {
    std::vector<CollectiveRange> out;
    for (int i = 0; i < count; ++i) {
      auto memory = device_.Allocate(elements * 4, "test");
      if (!memory.ok()) Die(memory.status());
      out.push_back({*std::move(memory), 0, elements});
    }
    return out;
  }

  const int self_;
  const std::string nodes_;
  int world_ = 0;
  SystemClock clock_;
  NoPeers no_peers_;
  HostDevice device_;
  DescriptorTable descriptors_;
  SourceTable sources_;
  GroupTable table_;
  SocketGroupDirectory directory_{table_};
  std::vector<Peer> peers_;
  std::unique_ptr<TransferExecutor> executor_;
  std::unique_ptr<DescriptorSocket> socket_;
  std::unique_ptr<CollectiveGroup> group_;
};

int Main(char** argv) {
  Member member(argv[1], std::atoi(argv[2]), argv[3]);
  std::string line;
  if (!std::getline(std::cin, line)) return 1;
  member.MeetAll(absl::StrSplit(line, ','));
  while (std::getline(std::cin, line)) {
    const std::vector<std::string> words = absl::StrSplit(line, ' ');
    if (words[0] == "make") {
      member.Make(words[1], absl::StrSplit(words[2], ','),
                  std::atoi(words[3].c_str()));
    } else {
      member.Loop(words[1], std::atoll(words[2].c_str()),
                  std::atoi(words[3].c_str()));
    }
  }
  return 0;
}

}  // namespace
}  // namespace sluice::agent

// Arguments: folder of the sockets, own number, a node's letter a member.
int main(int argc, char** argv) {
  return argc == 4 ? sluice::agent::Main(argv) : 2;
}
