#include "common/check.h"

#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <csignal>
#include <functional>
#include <string>

#include "absl/status/status.h"

namespace sluice {
namespace {

// Runs `body` in a child process; returns what it wrote to stderr, and how it
// ended in `*wait_status`.
std::string StderrOfChild(const std::function<void()>& body, int* wait_status) {
  int fds[2];
  REQUIRE(pipe(fds) == 0);
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    // Catch2's handler would report the expected abort as a failed test.
    std::signal(SIGABRT, SIG_DFL);
    dup2(fds[1], STDERR_FILENO);
    close(fds[0]);
    close(fds[1]);
    body();
    _exit(0);
  }
  close(fds[1]);
  std::string text;
  char buffer[256];
  for (ssize_t n; (n = read(fds[0], buffer, sizeof(buffer))) > 0;) {
    text.append(buffer, static_cast<size_t>(n));
  }
  close(fds[0]);
  REQUIRE(waitpid(child, wait_status, 0) == child);
  return text;
}

TEST_CASE("a check that holds evaluates its message never", "[common]") {
  int evaluated = 0;
  SLUICE_CHECK(1 + 1 == 2) << ++evaluated;
  SLUICE_CHECK_OK(absl::OkStatus());
  CHECK(evaluated == 0);
}

TEST_CASE("a failed check aborts and says what and where", "[common]") {
  int wait_status = 0;
  const std::string text =
      StderrOfChild([] { SLUICE_CHECK(2 < 1) << "rank " << 7; }, &wait_status);
  CHECK(WIFSIGNALED(wait_status));
  CHECK(WTERMSIG(wait_status) == SIGABRT);
  CHECK_THAT(text, Catch::Contains("2 < 1") && Catch::Contains("rank 7") &&
                       Catch::Contains("check_test.cc"));
}

TEST_CASE("SLUICE_CHECK_OK names the status", "[common]") {
  int wait_status = 0;
  const std::string text = StderrOfChild(
      [] { SLUICE_CHECK_OK(absl::NotFoundError("plan 9")); }, &wait_status);
  CHECK(WIFSIGNALED(wait_status));
  CHECK_THAT(text, Catch::Contains("NOT_FOUND: plan 9"));
}

TEST_CASE("a check is one statement of an unbraced if", "[common]") {
  bool other = false;
  if (false)
    SLUICE_CHECK(true);
  else
    other = true;
  CHECK(other);
}

}  // namespace
}  // namespace sluice
