// reduce_worker SOCKET GROUP AGENT,...: a worker that reduces again and again
// in a group, until somebody ends it or the group.

#include <condition_variable>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <mutex>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_split.h"
#include "client/cpp/reduce_group.h"
#include "client/cpp/worker.h"

namespace {

constexpr int64_t kNumel = 200'000;  // as the test has it

absl::Status Run(const std::string& socket, const std::string& name,
                 const std::string& agents) {
  auto worker =
      sluice::Worker::Attach({.agent_socket = socket, .name = "reducer"});
  if (!worker.ok()) return worker.status();
  sluice::ReduceGroupOptions options;
  options.name = name;
  options.agents = absl::StrSplit(agents, ',');
  options.bucket_mib = 1;
  auto group = (*worker)->JoinReduceGroup(options);
  if (!group.ok()) return group.status();
  const auto members = static_cast<int64_t>(options.agents.size());
  auto memory = (*group)->Allocate((members + 1) * kNumel * 4);
  if (!memory.ok()) return memory.status();
  std::vector<sluice::SharedTensor> tensors;
  for (int64_t m = 0; m <= members; ++m) {
    tensors.push_back(
        {*memory, m * kNumel * 4, {kNumel}, sluice::v1::DTYPE_F32});
  }
  const sluice::SharedTensor output = tensors.back();
  tensors.pop_back();
  std::mutex mutex;
  std::condition_variable changed;
  absl::Status end;
  const std::function<void()> next = [&] {
    (*group)->ReduceScatter(
        tensors, output,
        [&](const absl::StatusOr<sluice::v1::ReducedScatter>& reduced) {
          if (reduced.ok()) return next();
          const std::lock_guard<std::mutex> lock(mutex);
          end = reduced.status();
          changed.notify_all();
        });
  };
  next();
  std::unique_lock<std::mutex> lock(mutex);
  changed.wait(lock, [&] { return !end.ok(); });
  return end;
}

}  // namespace

int main(int argc, char* argv[]) {
  if (argc != 4) {
    std::fputs("usage: reduce_worker SOCKET GROUP AGENT,...\n", stderr);
    return 2;
  }
  const absl::Status status = Run(argv[1], argv[2], argv[3]);
  std::fprintf(stderr, "%s\n", status.ToString().c_str());
  return 1;
}
