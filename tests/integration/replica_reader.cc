#include "tests/integration/replica_reader.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/status_macros.h"

namespace sluice::testing {
namespace {

// Between two reads: enough for the daemons on a machine of few cores.
constexpr absl::Duration kBetweenReads = absl::Milliseconds(20);
constexpr absl::Duration kPinDeadline = absl::Seconds(1);

}  // namespace

absl::StatusOr<std::unique_ptr<ReplicaReader>> ReplicaReader::Start(
    TestCluster& cluster, const v1::ModelSpec& model,
    const std::string& placement, const std::vector<int>& agents,
    const StepsOfVersions& steps) {
  std::unique_ptr<ReplicaReader> reader(
      new ReplicaReader(model, placement, steps));
  for (const int agent : agents) {
    RankReader rank;
    WorkerOptions options;
    options.agent_socket =
        cluster.processes().agents().at(static_cast<size_t>(agent)).socket;
    options.name = absl::StrCat("reader-", placement);
    // A reader gives its pins back soon when one rank is away.
    options.reconnect_for = absl::Seconds(1);
    SLUICE_ASSIGN_OR_RETURN(rank.worker, Worker::Attach(std::move(options)));
    SLUICE_ASSIGN_OR_RETURN(const v1::GetPlacementResponse described,
                            rank.worker->GetPlacement(model.name(), placement));
    rank.layout = described.layout();
    reader->ranks_.push_back(std::move(rank));
  }
  return reader;
}

ReplicaReader::~ReplicaReader() { Stop().IgnoreError(); }

absl::StatusOr<uint64_t> ReplicaReader::ReadOnce() {
  uint64_t version = 0;
  std::vector<std::unique_ptr<PinnedVersion>> pins;
  for (RankReader& rank : ranks_) {
    SLUICE_ASSIGN_OR_RETURN(
        std::unique_ptr<PinnedVersion> pin,
        rank.worker->Pin(model_.name(), placement_, version, kPinDeadline));
    if (version == 0) version = pin->version();
    if (pin->version() != version) {
      return absl::DataLossError(absl::StrCat("asked for version ", version,
                                              ", got ", pin->version()));
    }
    pins.push_back(std::move(pin));
  }
  // Once a version can be pinned its writer has been told of it.
  const absl::StatusOr<int64_t> expected = steps_.Step(version);
  if (!expected.ok()) return absl::DataLossError(expected.status().message());
  for (size_t rank = 0; rank < pins.size(); ++rank) {
    SLUICE_ASSIGN_OR_RETURN(
        const int64_t step,
        ReadStep(model_, ranks_[rank].layout, pins[rank]->data()));
    if (step != *expected) {
      return absl::DataLossError(absl::StrCat("rank ", rank, " of version ",
                                              version, ": expected step ",
                                              *expected, ", found ", step));
    }
  }
  num_reads_.fetch_add(1);
  return version;
}

void ReplicaReader::Run() {
  thread_ = std::thread([this] {
    while (!stopping_.load()) {
      const absl::StatusOr<uint64_t> version = ReadOnce();
      if (version.status().code() == absl::StatusCode::kDataLoss) {
        seen_.Update(version.status());
      }
      absl::SleepFor(kBetweenReads);
    }
  });
}

absl::Status ReplicaReader::Stop() {
  stopping_.store(true);
  if (thread_.joinable()) thread_.join();
  return seen_;
}

}  // namespace sluice::testing
