// One member of NCCL groups, as a process: reads commands, a line each, and
// answers each with a line "COMMAND: STATUS" when it is done. Commands of
// different groups run side by side.
//
//   nccl_member FOLDER LIFE LIBRARY ABORT_MS CALL_MS CONNECT_MS
//
//   open GROUP SELF RANK:INCARNATION...   declares and makes a group
//   verify GROUP SEED         all kinds, types and sizes
//   one GROUP KIND DTYPE ELEMENTS FINGERPRINT WORDS   one call
//   loop GROUP                calls until one fails; says "looping" first
//   close GROUP
//   connect GROUP SELF RANK:INCARNATION...   a communicator and nothing else
//   drop GROUP, retire RANK INCARNATION, list, quit

#include <sys/prctl.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <map>
#include <memory>
#include <sstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "agent/collective/group_table.h"
#include "agent/collective/host_group.h"
#include "agent/descriptor_socket.h"
#include "agent/descriptor_table.h"
#include "agent/device/host_device.h"
#include "agent/nccl/communicators.h"
#include "agent/nccl/host_group_controls.h"
#include "agent/nccl/nccl_group.h"
#include "agent/nccl/nccl_library.h"
#include "agent/socket_group_directory.h"
#include "agent/socket_paths.h"
#include "agent/source_table.h"
#include "common/check.h"
#include "common/clock.h"
#include "common/logging.h"
#include "tests/agent/fake_executor.h"
#include "tests/agent/nccl/collective_battery.h"
#include "tests/fakes/nccl/host_stream.h"

namespace sluice::testing {
namespace {

using agent::CollectiveGroup;
using agent::CollectiveKind;
using agent::CollectiveMembers;
using agent::Communicators;

constexpr int kStuckExit = 75;

void Answer(const std::string& line) {
  const std::string whole = line + "\n";
  // One write: lines of different threads do not mix.
  SLUICE_CHECK(::write(STDOUT_FILENO, whole.data(), whole.size()) ==
               static_cast<ssize_t>(whole.size()));
}

// A device of its own, unless the test says otherwise.
std::string BusId(const std::string& life) {
  const char* told = std::getenv("TEST_BUS_ID");
  return told != nullptr ? told : absl::StrCat("gpu of ", life);
}

// What an agent has of its node: how its groups are found, and what their
// members say to each other.
class NodeHost {
 public:
  explicit NodeHost(const std::string& socket) {
    auto started = agent::DescriptorSocket::Start(
        socket, {descriptors_, sources_, executor_, &table_});
    SLUICE_CHECK(started.ok()) << started.status();
    socket_ = *std::move(started);
  }

  agent::GroupControls& controls() { return controls_; }

 private:
  SystemClock clock_;
  agent::HostDevice device_;
  agent::DescriptorTable descriptors_;
  agent::SourceTable sources_;
  agent::GroupTable table_;
  agent::FakeExecutor executor_{agent::ExecutorCallbacks{}};
  agent::SocketGroupDirectory directory_{table_};
  std::unique_ptr<agent::DescriptorSocket> socket_;
  agent::HostGroupControls controls_{
      device_,
      [this](CollectiveMembers members, agent::HostGroupOptions options) {
        return agent::MakeHostGroup(std::move(members),
                                    {directory_, nullptr, clock_},
                                    std::move(options));
      }};
};

class Member {
 public:
  explicit Member(char** argv)
      : folder_(argv[1]),
        host_(agent::DescriptorSocketPath(SocketOf(
            std::vector<std::string>(absl::StrSplit(argv[2], '#'))[0]))),
        device_(BusId(argv[2])),
        call_timeout_(absl::Milliseconds(std::atoi(argv[5]))) {
    agent::NcclLibraryOptions library_options;
    library_options.path = argv[3];
    auto library = agent::NcclLibrary::Open(library_options);
    SLUICE_CHECK(library.ok()) << library.status();
    agent::CommunicatorOptions options;
    options.abort_timeout = absl::Milliseconds(std::atoi(argv[4]));
    options.connect_timeout = absl::Milliseconds(std::atoi(argv[6]));
    auto communicators =
        Communicators::Create({.library = *std::move(library),
                               .device = device_,
                               .controls = host_.controls(),
                               .clock = clock_,
                               .on_stuck =
                                   [](const std::string& what) {
                                     Answer(absl::StrCat("stuck: ", what));
                                     ::_exit(kStuckExit);
                                   }},
                              options);
    SLUICE_CHECK(communicators.ok()) << communicators.status();
    communicators_ = *std::move(communicators);
  }

  ~Member() {
    for (std::thread& thread : threads_) thread.join();
  }

  // False: leave.
  bool Do(const std::string& line) {
    std::istringstream words(line);
    std::string what;
    words >> what;
    if (what == "quit") return false;
    if (what == "list") {
      Answer(
          absl::StrCat("list: ", communicators_->Report().num_communicators));
      return true;
    }
    if (what == "retire") {
      int rank = 0;
      uint64_t incarnation = 0;
      words >> rank >> incarnation;
      communicators_->Retire(Rank(rank), Incarnation(incarnation),
                             absl::UnavailableError("retired by the test"));
      Answer("retire: OK");
      return true;
    }
    std::string group;
    words >> group;
    const std::string name = absl::StrCat(what, " ", group, ": ");
    if (what == "open") {
      Answer(absl::StrCat(name, Open(group, words).ToString()));
    } else if (what == "close") {
      groups_.erase(group);
      Answer(name + "OK");
    } else if (what == "drop") {
      communicators_->Drop(groups_[group].members.Id());
      Answer(name + "OK");
    } else {
      Start(what, group, name, words);
    }
    return true;
  }

 private:
  struct Group {
    CollectiveMembers members;
    std::unique_ptr<CollectiveGroup> group;

    int count() const { return static_cast<int>(members.peers.size()); }
  };

  CollectiveMembers ReadMembers(const std::string& group,
                                std::istringstream& words) {
    CollectiveMembers members;
    members.name = group;
    words >> members.self;
    std::string word;
    while (words >> word) {
      const std::vector<std::string> parts = absl::StrSplit(word, ':');
      Peer peer;
      peer.rank = Rank(std::atoi(parts[0].c_str()));
      peer.name = absl::StrCat("agent-", parts[0]);
      peer.node = "node";
      peer.socket_path = SocketOf(peer.name);
      peer.incarnation =
          Incarnation(std::strtoull(parts[1].c_str(), nullptr, 10));
      members.peers.push_back(peer);
    }
    return members;
  }

  absl::Status Open(const std::string& name, std::istringstream& words) {
    Group group;
    group.members = ReadMembers(name, words);
    const absl::Status declared = communicators_->Declare(group.members);
    if (!declared.ok()) return declared;
    auto made = agent::MakeNcclGroup(*communicators_, clock_, group.members,
                                     {.call_timeout = call_timeout_});
    if (!made.ok()) return made.status();
    group.group = *std::move(made);
    groups_[name] = std::move(group);
    return absl::OkStatus();
  }

  // What waits for others runs on a thread of its own.
  void Start(const std::string& what, const std::string& group,
             const std::string& name, std::istringstream& words) {
    if (what == "connect") {
      groups_[group].members = ReadMembers(group, words);
      threads_.emplace_back([this, name, members = groups_[group].members] {
        Answer(absl::StrCat(name, Connect(members).ToString()));
      });
      return;
    }
    SLUICE_CHECK(groups_.count(group) == 1) << group;
    Group& target = groups_[group];
    if (what == "verify") {
      uint64_t seed = 0;
      words >> seed;
      threads_.emplace_back([name, seed, &target] {
        Answer(absl::StrCat(name, RunBattery(*target.group, target.count(),
                                             target.members.self, seed)
                                      .ToString()));
      });
    } else if (what == "loop") {
      threads_.emplace_back([name, &target] { Loop(name, target); });
    } else {
      SLUICE_CHECK(what == "one") << what;
      One(target, name, words);
    }
  }

  absl::Status Connect(const CollectiveMembers& members) {
    const absl::Status declared = communicators_->Declare(members);
    if (!declared.ok()) return declared;
    const auto found = communicators_->Find(members.Id());
    return found.ok() ? communicators_->Connect(*found) : found.status();
  }

  static void Loop(const std::string& name, Group& target) {
    absl::Status status;
    for (uint64_t i = 0; status.ok(); ++i) {
      status = RunOne(*target.group, target.count(), target.members.self,
                      CollectiveKind::kAllGather, DType::kF32, 10'000, i,
                      absl::StrCat("round ", i));
      if (i == 0 && status.ok()) Answer(name + "looping");
    }
    Answer(absl::StrCat(name, status.ToString()));
  }

  void One(Group& target, const std::string& name, std::istringstream& words) {
    std::string kind;
    std::string dtype;
    int64_t elements = 0;
    uint64_t fingerprint = 0;
    std::string description;
    words >> kind >> dtype >> elements >> fingerprint >> description;
    const auto type = ParseDType(dtype);
    SLUICE_CHECK(type.ok()) << dtype;
    const CollectiveKind how = kind == "reduce-scatter"
                                   ? CollectiveKind::kReduceScatter
                                   : CollectiveKind::kAllGather;
    threads_.emplace_back([=, &target] {
      Answer(absl::StrCat(
          name, RunOne(*target.group, target.count(), target.members.self, how,
                       *type, elements, fingerprint, description)
                    .ToString()));
    });
  }

  std::string SocketOf(const std::string& agent) const {
    return agent::GrpcSocketPath(folder_, agent);
  }

  SystemClock clock_;
  const std::string folder_;
  NodeHost host_;
  HostNcclDevice device_;
  const absl::Duration call_timeout_;
  std::unique_ptr<Communicators> communicators_;
  std::map<std::string, Group> groups_;
  std::vector<std::thread> threads_;
};

}  // namespace
}  // namespace sluice::testing

int main(int argc, char** argv) {
  SLUICE_CHECK(argc == 7);
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  SLUICE_CHECK_OK(sluice::InitLogging({.name = argv[2],
                                       .level = sluice::LogLevel::kError,
                                       .format = sluice::LogFormat::kText,
                                       .file = ""}));
  sluice::testing::Member member(argv);
  std::string line;
  while (std::getline(std::cin, line) && member.Do(line)) {
  }
  return 0;
}
