#ifndef SLUICE_TESTS_INTEGRATION_FAKE_NCCL_H_
#define SLUICE_TESTS_INTEGRATION_FAKE_NCCL_H_

// The library of tests/fakes/nccl for the agents of one test.

#include <catch2/catch.hpp>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>

#include "tests/support/test_dir.h"

namespace sluice::testing {

// From its making on, processes that the test starts find the library by their
// environment. Lives as long as they do.
class FakeNccl {
 public:
  FakeNccl() {
    SetFaults("");
    ::setenv(
        "SLUICE_NCCL_LIBRARY",
        std::filesystem::absolute("tests/fakes/nccl/libfake_nccl.so").c_str(),
        1);
    ::setenv("SLUICE_FAKE_NCCL_DIR", dir_.path().c_str(), 1);
    ::setenv("SLUICE_FAKE_NCCL_CONTROL", dir_.File("faults").c_str(), 1);
  }

  // What the library does wrong from now on (tests/fakes/nccl/fake_nccl.cc).
  void SetFaults(const std::string& faults) {
    // Whole or not at all: agents read it at any moment.
    const std::string fresh = dir_.Write("faults.new", faults);
    REQUIRE(std::rename(fresh.c_str(), dir_.File("faults").c_str()) == 0);
  }

 private:
  TestDir dir_;
};

}  // namespace sluice::testing

#endif  // SLUICE_TESTS_INTEGRATION_FAKE_NCCL_H_
