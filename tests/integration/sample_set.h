#ifndef SLUICE_TESTS_INTEGRATION_SAMPLE_SET_H_
#define SLUICE_TESTS_INTEGRATION_SAMPLE_SET_H_

// Ragged samples whose every byte follows from (id, key), put by workers and
// compared wherever they are wanted.

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "client/cpp/worker.h"
#include "proto/sluice/v1/catalog_service.pb.h"
#include "proto/sluice/v1/tensor.pb.h"

namespace sluice::testing {

class SampleSet {
 public:
  // Ids PREFIX0 ... ; each sample has the keys of Keys().
  SampleSet(std::string prefix, int size)
      : prefix_(std::move(prefix)), size_(size) {}

  int size() const { return size_; }
  std::string Id(int index) const;
  std::vector<std::string> Ids(int first, int last) const;
  // "logprobs" (bf16), "prompts" (int32), "rewards" (float32).
  static std::vector<std::string> Keys();

  // Puts samples [first, last) through a worker.
  absl::Status Put(Worker& worker, int first, int last) const;
  // Whether a worker's agent holds samples [first, last) with all their bytes.
  // Errors: NOT_FOUND; DATA_LOSS - sample, key and byte are named.
  absl::Status Check(Worker& worker, int first, int last) const;
  // Waits until a worker's agent, told to drop samples [first, last), has done
  // so: Clear answers when the catalogue has forgotten them. Errors:
  // DEADLINE_EXCEEDED; whatever else the agent answers.
  absl::Status AwaitDropped(Worker& worker, int first, int last) const;

  // Samples [first, last) with all keys for these agents.
  v1::Want WantOf(const std::vector<std::string>& agents, int first,
                  int last) const;

 private:
  std::vector<v1::SampleEntry> Entries(int index) const;

  const std::string prefix_;
  const int size_;
};

}  // namespace sluice::testing

#endif  // SLUICE_TESTS_INTEGRATION_SAMPLE_SET_H_
