#ifndef SLUICE_TESTS_AGENT_NCCL_MEMBER_PROCESS_H_
#define SLUICE_TESTS_AGENT_NCCL_MEMBER_PROCESS_H_

// Processes of nccl_member, as a test drives them.

#include <sys/types.h>

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "agent/device/unique_fd.h"
#include "tests/support/test_dir.h"

namespace sluice::testing {

struct MemberLimits {
  // Far beyond what any machine needs; shortened where the test waits for it.
  int abort_ms = 120'000;
  int call_ms = 120'000;
  int connect_ms = 120'000;
};

// Killed at the latest when it goes.
class MemberProcess {
 public:
  MemberProcess(const std::string& folder, int rank, uint64_t incarnation,
                const MemberLimits& limits,
                const std::map<std::string, std::string>& environment);
  ~MemberProcess();
  MemberProcess(const MemberProcess&) = delete;
  MemberProcess& operator=(const MemberProcess&) = delete;

  void Send(const std::string& line);
  // The rest of the next line that begins with `start`, others being kept;
  // "(...)" when the process ends or says nothing for two minutes.
  std::string Await(const std::string& start);
  void Kill();
  // Waits for its end; minus the signal if one ended it.
  int ExitCode();

 private:
  bool ReadLine();

  pid_t pid_ = -1;
  agent::UniqueFd to_;
  agent::UniqueFd from_;
  std::string unread_;
  std::deque<std::string> lines_;
  int exit_code_ = 0;
};

// Members on one node, all with the fake library.
class MemberCluster {
 public:
  explicit MemberCluster(int members, const MemberLimits& limits = {});

  // Before Start: a variable of one member (all: -1).
  void Set(int member, const std::string& name, const std::string& value);
  void Limit(int member, const MemberLimits& limits);
  void Start();
  // Kills it where it lives, then starts its next incarnation.
  void Restart(int member);

  int size() const { return size_; }
  MemberProcess& member(int m) { return *processes_[m]; }
  // "GROUP SELF RANK:INCARNATION...", as `member` opens it.
  std::string Opening(const std::string& group, int member) const;

  // Says it to all members but `except`.
  void SendAll(const std::string& line, int except = -1);
  // What each answers, in order, without `except`.
  std::vector<std::string> AwaitAll(const std::string& start, int except = -1);
  // Opens it on all, which must work.
  void OpenAll(const std::string& group);

  // What the fake library does wrong from now on.
  void SetFaults(const std::string& faults);
  // Unique ids that not all ranks have come to.
  int IdsLeft() const;

 private:
  void StartOne(int member);

  const int size_;
  TestDir dir_;
  std::vector<MemberLimits> limits_;
  std::vector<std::map<std::string, std::string>> environments_;
  std::vector<uint64_t> incarnations_;
  std::vector<std::unique_ptr<MemberProcess>> processes_;
};

}  // namespace sluice::testing

#endif  // SLUICE_TESTS_AGENT_NCCL_MEMBER_PROCESS_H_
