#include <catch2/catch.hpp>

#include "absl/status/status.h"
#include "tools/console/exit_code.h"
#include "tools/console/table.h"

namespace sluice::console {
namespace {

TEST_CASE("columns are as wide as their widest cell", "[tools][console]") {
  Table table({{"name"}, {"bytes", Align::kRight}, {"note"}});
  table.Add({"a", "1,024", "x"});
  table.Add({"größer", "7"});
  CHECK(table.Print(1) ==
        " name    bytes  note\n"
        " a       1,024  x\n"
        " größer      7\n");
}

TEST_CASE("exit codes say what kind of failure it was", "[tools][console]") {
  CHECK(ExitCode(absl::OkStatus()) == 0);
  CHECK(ExitCode(absl::InternalError("")) == 1);
  CHECK(ExitCode(absl::DataLossError("")) == 1);
  CHECK(ExitCode(absl::InvalidArgumentError("")) == 2);
  CHECK(ExitCode(absl::UnavailableError("")) == 3);
  CHECK(ExitCode(absl::NotFoundError("")) == 4);
  CHECK(ExitCode(absl::AlreadyExistsError("")) == 5);
  CHECK(ExitCode(absl::AbortedError("")) == 5);
  CHECK(ExitCode(absl::FailedPreconditionError("")) == 5);
  CHECK(ExitCode(absl::PermissionDeniedError("")) == 6);
  CHECK(ExitCode(absl::DeadlineExceededError("")) == 7);
}

}  // namespace
}  // namespace sluice::console
