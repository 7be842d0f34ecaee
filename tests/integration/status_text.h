#ifndef SLUICE_TESTS_INTEGRATION_STATUS_TEXT_H_
#define SLUICE_TESTS_INTEGRATION_STATUS_TEXT_H_

// What people see of a cluster.

#include <catch2/catch.hpp>
#include <fstream>
#include <iterator>
#include <string>

#include "tests/integration/test_cluster.h"
#include "tests/support/status_matchers.h"
#include "tools/local_cluster/binaries.h"
#include "tools/local_cluster/process.h"

namespace sluice::testing {

// What `sluicectl status` prints.
inline std::string StatusText(TestCluster& cluster) {
  const std::string out = cluster.dir() + "/status.txt";
  REQUIRE_OK_AND_ASSIGN(
      const std::string program,
      local_cluster::FindProgram({"tools/sluicectl/sluicectl"}));
  REQUIRE_OK_AND_ASSIGN(
      const auto process,
      local_cluster::Spawn(
          {program, "--state-dir", cluster.processes().dir(), "status"}, out,
          {.die_with_parent = true}));
  REQUIRE_OK(local_cluster::WaitForExit(process, kPatience));
  std::ifstream file(out);
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace sluice::testing

#endif  // SLUICE_TESTS_INTEGRATION_STATUS_TEXT_H_
