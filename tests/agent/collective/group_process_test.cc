// Groups of processes that are killed and stopped.

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "tests/support/status_matchers.h"
#include "tests/support/test_dir.h"

namespace sluice::agent {
namespace {

// A group_member process; killed at the latest when the test ends.
class MemberProcess {
 public:
  MemberProcess(const std::string& directory, int self,
                const std::string& nodes) {
    int input[2], output[2];
    REQUIRE(pipe2(input, O_CLOEXEC) == 0);
    REQUIRE(pipe2(output, O_CLOEXEC) == 0);
    const std::string number = std::to_string(self);
    pid_ = fork();
    REQUIRE(pid_ >= 0);
    if (pid_ == 0) {
      dup2(input[0], 0);
      dup2(output[1], 1);
      execl(Program(), "group_member", directory.c_str(), number.c_str(),
            nodes.c_str(), nullptr);
      _exit(127);
    }
    close(input[0]);
    close(output[1]);
    to_ = fdopen(input[1], "w");
    from_ = fdopen(output[0], "r");
  }
  ~MemberProcess() {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
    fclose(to_);
    fclose(from_);
  }
  MemberProcess(const MemberProcess&) = delete;
  MemberProcess& operator=(const MemberProcess&) = delete;

  std::string Read() {
    char line[4096] = "";
    if (fgets(line, sizeof(line), from_) == nullptr) return "(end)";
    std::string text = line;
    while (!text.empty() && text.back() == '\n') text.pop_back();
    return text;
  }
  void Write(const std::string& line) {
    fprintf(to_, "%s\n", line.c_str());
    fflush(to_);
  }
  void Signal(int signal) { kill(pid_, signal); }

 private:
  static const char* Program() {
    const char* named = std::getenv("GROUP_MEMBER");
    return named != nullptr ? named : "tests/agent/collective/group_member";
  }

  pid_t pid_ = -1;
  FILE* to_ = nullptr;
  FILE* from_ = nullptr;
};

class Processes {
 public:
  explicit Processes(const std::string& nodes) {
    // One that was killed is an error of writing to it.
    signal(SIGPIPE, SIG_IGN);
    for (size_t m = 0; m < nodes.size(); ++m) {
      all_.push_back(std::make_unique<MemberProcess>(
          directory_.path(), static_cast<int>(m), nodes));
    }
    std::vector<std::string> addresses;
    for (auto& member : all_) addresses.push_back(member->Read());
    for (auto& member : all_) member->Write(absl::StrJoin(addresses, ","));
  }

  MemberProcess& at(int m) { return *all_[static_cast<size_t>(m)]; }
  void Tell(const std::vector<int>& who, const std::string& line) {
    for (const int m : who) at(m).Write(line);
  }
  // All of these end with the code, and words that hold these.
  void ExpectEnd(const std::vector<int>& who, absl::StatusCode code,
                 const std::string& words) {
    for (const int m : who) {
      CAPTURE(m);
      std::string line = at(m).Read();
      while (line == "some") line = at(m).Read();
      CAPTURE(line);
      CHECK(absl::StartsWith(
          line, absl::StrCat("ended ", static_cast<int>(code), " ")));
      CHECK(absl::StrContains(line, words));
    }
  }

 private:
  testing::TestDir directory_;
  std::vector<std::unique_ptr<MemberProcess>> all_;
};

TEST_CASE("processes run collectives; the others learn of one that is killed",
          "[host_group][process]") {
  const std::string nodes = GENERATE(as<std::string>(), "aaaa", "aabb", "abac");
  const std::string kind =
      GENERATE(as<std::string>(), "all-to-all", "all-gather", "reduce-scatter");
  CAPTURE(nodes, kind);
  Processes processes(nodes);
  processes.Tell({0, 1, 2, 3}, "make one 0,1,2,3 3");
  processes.Tell({0, 1, 2, 3}, "loop all-to-all 1000 5");
  processes.ExpectEnd({0, 1, 2, 3}, absl::StatusCode::kOk, "");
  processes.Tell({0, 1, 2, 3}, absl::StrCat("loop ", kind, " 700000 0"));
  for (const int m : {0, 1, 2, 3}) CHECK(processes.at(m).Read() == "some");
  processes.at(2).Signal(SIGKILL);
  processes.ExpectEnd({0, 1, 3}, absl::StatusCode::kUnavailable, "agent-2");
  // The living make a group of their own.
  processes.Tell({0, 1, 3}, "make two 3,0,1 3");
  processes.Tell({0, 1, 3}, absl::StrCat("loop ", kind, " 1000 5"));
  processes.ExpectEnd({0, 1, 3}, absl::StatusCode::kOk, "");
}

TEST_CASE("a process that stands still is named", "[host_group][process]") {
  const std::string nodes = GENERATE(as<std::string>(), "aaa", "aba");
  CAPTURE(nodes);
  Processes processes(nodes);
  processes.Tell({0, 1, 2}, "make one 0,1,2 3");
  processes.Tell({0, 1, 2}, "loop all-gather 300000 0");
  for (const int m : {0, 1, 2}) CHECK(processes.at(m).Read() == "some");
  processes.at(1).Signal(SIGSTOP);
  processes.ExpectEnd({0, 2}, absl::StatusCode::kDeadlineExceeded, "agent-1");
}

// Member 0 waits for 2, which waits for 1: 2 was named where 0 lost patience
// first.
TEST_CASE("who waits for a process that stands still is not named for it",
          "[host_group][process]") {
  const std::string nodes = GENERATE(as<std::string>(), "aaa", "aba", "abc");
  CAPTURE(nodes);
  Processes processes(nodes);
  processes.Tell({0}, "make one 0,1,2 3");
  processes.Tell({1, 2}, "make one 0,1,2 4");
  processes.Tell({0, 1, 2}, "loop all-gather 300000 0");
  for (const int m : {0, 1, 2}) CHECK(processes.at(m).Read() == "some");
  processes.at(1).Signal(SIGSTOP);
  processes.ExpectEnd({0, 2}, absl::StatusCode::kDeadlineExceeded,
                      "for agent \"agent-1\" (rank 1) to");
}

}  // namespace
}  // namespace sluice::agent
