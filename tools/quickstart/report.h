#ifndef SLUICE_TOOLS_QUICKSTART_REPORT_H_
#define SLUICE_TOOLS_QUICKSTART_REPORT_H_

// What the quickstart measured: a table for people, JSON for programs.

#include <cstdint>
#include <string>
#include <vector>

#include "common/plan.h"
#include "tools/quickstart/machine_rates.h"

namespace sluice::quickstart {

// What an operation had to do at least, in bytes.
struct Work {
  LinkBytes bytes{};
  // Read once by digests: what sources gave, counted once, and what arrived.
  int64_t digest_source_bytes = 0;
  int64_t digest_destination_bytes = 0;
  // Between nodes and not contiguous in the source's (destination's) memory.
  int64_t pack_bytes = 0;
  int64_t unpack_bytes = 0;
};

// The least time for that work at the machine's measured rates, in seconds.
struct Bound {
  double same_device = 0;    // one copy
  double same_node = 0;      // one copy
  double between_nodes = 0;  // loopback
  double digests = 0;        // one read of source and destination bytes
  double pack = 0;           // one copy
  double unpack = 0;         // one copy

  double total() const {
    return same_device + same_node + between_nodes + digests + pack + unpack;
  }
};

// Rates of 0 make their parts 0.
Bound LowerBound(const Work& work, const MachineRates& rates);

struct OperationReport {
  std::string name;
  Work work;
  double seconds = 0;
  // From admission to the reply, as the coordinator measured it, by phase.
  std::vector<std::pair<std::string, double>> phases;
  uint64_t version = 0;
  int64_t verified_bytes = 0;
  bool verified = false;

  int64_t bytes() const;
};

struct Report {
  // What ran, in words: checkpoint, meshes, numbers of nodes and agents.
  std::vector<std::pair<std::string, std::string>> setting;
  MachineRates rates;  // of the host; zeros where GPUs did the work
  std::vector<OperationReport> operations;
  int64_t coordinator_rss_bytes = 0;

  // Whether rates were measured: else there are no bounds.
  bool has_bounds() const { return rates.copy_gb_per_s > 0; }
  // Whether there are operations and each is verified.
  bool verified() const;
};

std::string PrintTable(const Report& report);
std::string PrintJson(const Report& report);

}  // namespace sluice::quickstart

#endif  // SLUICE_TOOLS_QUICKSTART_REPORT_H_
