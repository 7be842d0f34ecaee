// The main program of every Catch2 test: runs the tests, prints the seed, and
// ends with the line "N passed, N failed" (test cases) that tests/run sums.

#define CATCH_CONFIG_RUNNER
#include <catch2/catch.hpp>
#include <cstdio>

namespace {

class CountingListener : public Catch::TestEventListenerBase {
 public:
  using TestEventListenerBase::TestEventListenerBase;

  void testRunEnded(const Catch::TestRunStats& stats) override {
    const Catch::Counts& cases = stats.totals.testCases;
    const size_t failed = cases.failed + (stats.aborting ? 1 : 0);
    std::printf("seed %u\n%zu passed, %zu failed\n", m_config->rngSeed(),
                static_cast<size_t>(cases.passed + cases.failedButOk),
                static_cast<size_t>(failed));
    std::fflush(stdout);
  }
};

CATCH_REGISTER_LISTENER(CountingListener)

}  // namespace

int main(int argc, char* argv[]) { return Catch::Session().run(argc, argv); }
