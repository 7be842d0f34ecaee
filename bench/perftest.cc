// UCX's own test, as the reference of what its transport can do here.

#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/time/time.h"
#include "bench/lines.h"
#include "bench/transfer_cases.h"
#include "common/status_macros.h"

namespace sluice::bench {
namespace {

constexpr int kWarmupIterations = 16;
constexpr absl::Duration kStartPatience = absl::Seconds(20);
constexpr absl::Duration kRunPatience = absl::Minutes(2);
constexpr absl::Duration kEndPatience = absl::Seconds(5);
// Between two looks at whether a server listens.
constexpr useconds_t kPollUs = 5000;
// The shell's exit code of a program that is not there.
constexpr int kNotFound = 127;
// State of a listening socket in /proc/net/tcp.
constexpr absl::string_view kListening = "0A";

struct Child {
  pid_t pid = -1;
  int output = -1;
};

// A port that was free a moment ago.
absl::StatusOr<uint16_t> FreePort() {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof(address);
  const bool bound =
      bind(fd, reinterpret_cast<sockaddr*>(&address), length) == 0 &&
      getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length) == 0;
  close(fd);
  if (!bound) return absl::InternalError("no free port");
  return ntohs(address.sin_port);
}

bool Listens(uint16_t port) {
  std::ifstream sockets("/proc/net/tcp");
  const std::string local = absl::StrFormat(":%04X", port);
  for (std::string line; std::getline(sockets, line);) {
    const std::vector<absl::string_view> columns =
        absl::StrSplit(line, ' ', absl::SkipEmpty());
    if (columns.size() > 3 && columns[3] == kListening &&
        absl::EndsWith(columns[1], local)) {
      return true;
    }
  }
  return false;
}

absl::StatusOr<Child> Spawn(const std::vector<std::string>& arguments) {
  int output[2];
  if (pipe2(output, O_CLOEXEC) != 0) return absl::InternalError("no pipe");
  std::vector<char*> argv;
  for (const std::string& argument : arguments) {
    argv.push_back(const_cast<char*>(argument.c_str()));
  }
  argv.push_back(nullptr);
  const pid_t pid = fork();
  if (pid < 0) return absl::InternalError("no process");
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    setenv("UCX_TLS", "tcp", 1);
    setenv("UCX_NET_DEVICES", "lo", 1);
    setenv("UCX_LOG_LEVEL", "fatal", 1);
    dup2(output[1], 1);
    dup2(output[1], 2);
    close(output[0]);
    close(output[1]);
    execvp(argv[0], argv.data());
    _exit(kNotFound);
  }
  close(output[1]);
  return Child{pid, output[0]};
}

// The overall bandwidth in the last line, in bytes per second: column 6, in
// MiB/s.
absl::StatusOr<double> OverallBandwidth(absl::string_view text) {
  const std::vector<absl::string_view> lines =
      absl::StrSplit(text, '\n', absl::SkipWhitespace());
  if (!lines.empty()) {
    const std::vector<absl::string_view> columns =
        absl::StrSplit(lines.back(), ' ', absl::SkipEmpty());
    double rate = 0;
    if (columns.size() == 8 && absl::SimpleAtod(columns[5], &rate)) {
      return rate * (1 << 20);
    }
  }
  return absl::InternalError(absl::StrCat("ucx_perftest said: ", text));
}

class Perftest {
 public:
  ~Perftest();
  // Returns when it listens.
  absl::Status StartServer();
  // Starts the clients of all servers.
  absl::Status StartClients(int64_t message_bytes, int iterations);
  // Returns the sum of all, in bytes per second.
  absl::StatusOr<double> Sum();

 private:
  SystemClock clock_;
  std::vector<uint16_t> ports_;
  std::vector<Child> servers_;
  std::vector<Child> clients_;
};

Perftest::~Perftest() {
  // After clients that failed, servers would wait for ever.
  const absl::Time deadline = clock_.Now() + kEndPatience;
  for (const auto* children : {&clients_, &servers_}) {
    for (const Child& child : *children) {
      AwaitEnd(child.pid, clock_, deadline);
      close(child.output);
    }
  }
}

absl::Status Perftest::StartServer() {
  SLUICE_ASSIGN_OR_RETURN(ports_.emplace_back(), FreePort());
  SLUICE_ASSIGN_OR_RETURN(servers_.emplace_back(),
                          Spawn({"ucx_perftest", "-p",
                                 absl::StrCat(ports_.back()), "-E", "sleep"}));
  const absl::Time deadline = clock_.Now() + kStartPatience;
  while (!Listens(ports_.back())) {
    int status = 0;
    if (waitpid(servers_.back().pid, &status, WNOHANG) != 0) {
      return WIFEXITED(status) && WEXITSTATUS(status) == kNotFound
                 ? absl::NotFoundError("ucx_perftest is not installed")
                 : absl::InternalError("ucx_perftest ended at once");
    }
    if (clock_.Now() >= deadline) {
      return absl::InternalError("ucx_perftest does not listen");
    }
    usleep(kPollUs);
  }
  return absl::OkStatus();
}

absl::Status Perftest::StartClients(int64_t message_bytes, int iterations) {
  for (const uint16_t port : ports_) {
    SLUICE_ASSIGN_OR_RETURN(
        clients_.emplace_back(),
        Spawn({"ucx_perftest", "-p", absl::StrCat(port), "-E", "sleep", "-t",
               "tag_bw", "-s", absl::StrCat(message_bytes), "-n",
               absl::StrCat(iterations), "-w", absl::StrCat(kWarmupIterations),
               "-f", "127.0.0.1"}));
  }
  return absl::OkStatus();
}

absl::StatusOr<double> Perftest::Sum() {
  const absl::Time deadline = clock_.Now() + kRunPatience;
  double sum = 0;
  for (const Child& client : clients_) {
    SLUICE_ASSIGN_OR_RETURN(const std::string text,
                            ReadToEnd(client.output, clock_, deadline));
    SLUICE_ASSIGN_OR_RETURN(const double rate, OverallBandwidth(text));
    sum += rate;
  }
  return sum;
}

}  // namespace

absl::StatusOr<Rate> RunPerftest(int pairs, int64_t message_bytes,
                                 int iterations) {
  Perftest perftest;
  for (int i = 0; i < pairs; ++i) {
    SLUICE_RETURN_IF_ERROR(perftest.StartServer());
  }
  SLUICE_RETURN_IF_ERROR(perftest.StartClients(message_bytes, iterations));
  SLUICE_ASSIGN_OR_RETURN(const double sum, perftest.Sum());
  const int64_t bytes = message_bytes * iterations * pairs;
  return Rate{bytes, static_cast<double>(bytes) / sum};
}

}  // namespace sluice::bench
