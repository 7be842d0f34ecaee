#include "tests/agent/nccl/member_process.h"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <filesystem>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/check.h"

namespace sluice::testing {
namespace {

constexpr char kProgram[] = "tests/agent/nccl/nccl_member";
constexpr char kLibrary[] = "tests/fakes/nccl/libfake_nccl.so";
constexpr int kPatienceMs = 120'000;

}  // namespace

MemberProcess::MemberProcess(
    const std::string& folder, int rank, uint64_t incarnation,
    const MemberLimits& limits,
    const std::map<std::string, std::string>& environment) {
  int input[2];
  int output[2];
  SLUICE_CHECK(::pipe2(input, O_CLOEXEC) == 0);
  SLUICE_CHECK(::pipe2(output, O_CLOEXEC) == 0);
  std::vector<std::string> arguments = {
      kProgram,
      folder,
      absl::StrCat("agent-", rank, "#", incarnation),
      kLibrary,
      absl::StrCat(limits.abort_ms),
      absl::StrCat(limits.call_ms),
      absl::StrCat(limits.connect_ms)};
  std::vector<std::string> variables;
  for (char** variable = environ; *variable != nullptr; ++variable) {
    variables.emplace_back(*variable);
  }
  for (const auto& [name, value] : environment) {
    variables.push_back(absl::StrCat(name, "=", value));
  }
  const auto pointers = [](std::vector<std::string>& strings) {
    std::vector<char*> all;
    for (std::string& text : strings) all.push_back(text.data());
    all.push_back(nullptr);
    return all;
  };
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, input[0], 0);
  posix_spawn_file_actions_adddup2(&actions, output[1], 1);
  SLUICE_CHECK(::posix_spawn(&pid_, kProgram, &actions, nullptr,
                             pointers(arguments).data(),
                             pointers(variables).data()) == 0);
  posix_spawn_file_actions_destroy(&actions);
  ::close(input[0]);
  ::close(output[1]);
  to_.Reset(input[1]);
  from_.Reset(output[0]);
}

MemberProcess::~MemberProcess() { Kill(); }

void MemberProcess::Send(const std::string& line) {
  const std::string whole = line + "\n";
  SLUICE_CHECK(::write(to_.get(), whole.data(), whole.size()) ==
               static_cast<ssize_t>(whole.size()));
}

bool MemberProcess::ReadLine() {
  while (unread_.find('\n') == std::string::npos) {
    pollfd fd = {from_.get(), POLLIN, 0};
    if (::poll(&fd, 1, kPatienceMs) <= 0) return false;
    char bytes[4096];
    const ssize_t got = ::read(from_.get(), bytes, sizeof bytes);
    if (got <= 0) return false;
    unread_.append(bytes, static_cast<size_t>(got));
  }
  const size_t end = unread_.find('\n');
  lines_.push_back(unread_.substr(0, end));
  unread_.erase(0, end + 1);
  return true;
}

std::string MemberProcess::Await(const std::string& start) {
  while (true) {
    const auto line = std::find_if(
        lines_.begin(), lines_.end(), [&](const std::string& text) {
          return absl::StartsWith(text, start + ": ");
        });
    if (line != lines_.end()) {
      std::string rest = line->substr(start.size() + 2);
      lines_.erase(line);
      return rest;
    }
    if (!ReadLine()) return "(no answer)";
  }
}

void MemberProcess::Kill() {
  if (pid_ < 0) return;
  ::kill(pid_, SIGKILL);
  ExitCode();
}

int MemberProcess::ExitCode() {
  if (pid_ >= 0) {
    int status = 0;
    SLUICE_CHECK(::waitpid(pid_, &status, 0) == pid_);
    exit_code_ = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
    pid_ = -1;
  }
  return exit_code_;
}

MemberCluster::MemberCluster(int members, const MemberLimits& limits)
    : size_(members),
      limits_(members, limits),
      environments_(members),
      incarnations_(members),
      processes_(members) {
  for (int m = 0; m < members; ++m) incarnations_[m] = 10 + m;
  SetFaults("");
  Set(-1, "SLUICE_FAKE_NCCL_DIR", dir_.path());
  Set(-1, "SLUICE_FAKE_NCCL_CONTROL", dir_.File("faults"));
}

void MemberCluster::Set(int member, const std::string& name,
                        const std::string& value) {
  for (int m = 0; m < size_; ++m) {
    if (member < 0 || m == member) environments_[m][name] = value;
  }
}

void MemberCluster::Limit(int member, const MemberLimits& limits) {
  limits_[member] = limits;
}

void MemberCluster::Start() {
  for (int m = 0; m < size_; ++m) StartOne(m);
}

void MemberCluster::StartOne(int member) {
  processes_[member] = std::make_unique<MemberProcess>(
      dir_.path(), member, incarnations_[member], limits_[member],
      environments_[member]);
}

void MemberCluster::Restart(int member) {
  processes_[member].reset();
  incarnations_[member] += 100;
  StartOne(member);
}

std::string MemberCluster::Opening(const std::string& group, int member) const {
  std::string line = absl::StrCat(group, " ", member);
  for (int m = 0; m < size_; ++m) {
    absl::StrAppend(&line, " ", m, ":", incarnations_[m]);
  }
  return line;
}

void MemberCluster::SendAll(const std::string& line, int except) {
  for (int m = 0; m < size_; ++m) {
    if (m != except) processes_[m]->Send(line);
  }
}

std::vector<std::string> MemberCluster::AwaitAll(const std::string& start,
                                                 int except) {
  std::vector<std::string> answers;
  for (int m = 0; m < size_; ++m) {
    if (m != except) answers.push_back(processes_[m]->Await(start));
  }
  return answers;
}

void MemberCluster::OpenAll(const std::string& group) {
  for (int m = 0; m < size_; ++m) {
    processes_[m]->Send("open " + Opening(group, m));
  }
  for (const std::string& answer : AwaitAll("open " + group)) {
    SLUICE_CHECK(answer == "OK") << answer;
  }
}

int MemberCluster::IdsLeft() const {
  int left = 0;
  for (const auto& entry : std::filesystem::directory_iterator(dir_.path())) {
    const std::string name = entry.path().filename();
    if (absl::StartsWith(name, "fake_nccl.")) ++left;
  }
  return left;
}

void MemberCluster::SetFaults(const std::string& faults) {
  // Whole or not at all: members read it at any moment.
  const std::string fresh = dir_.Write("faults.new", faults);
  SLUICE_CHECK(::rename(fresh.c_str(), dir_.File("faults").c_str()) == 0);
}

}  // namespace sluice::testing
