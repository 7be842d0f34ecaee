#ifndef SLUICE_TOOLS_QUICKSTART_SAMPLE_BATCH_H_
#define SLUICE_TOOLS_QUICKSTART_SAMPLE_BATCH_H_

// A rollout batch made from a seed: ids, ragged lengths and every byte follow
// from (seed, index), so that whoever checks needs nothing from whoever put.

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "common/plan.h"

namespace sluice::quickstart {

inline constexpr char kPromptsKey[] = "packed_prompts";  // int32, per token
inline constexpr char kLogprobsKey[] = "logprobs";       // bf16, per token
inline constexpr char kRewardsKey[] = "rewards";         // float32, one a row

class SampleBatch {
 public:
  SampleBatch(uint64_t seed, int64_t size) : seed_(seed), size_(size) {}

  int64_t size() const { return size_; }
  // "sample-000017".
  static std::string Id(int64_t index);
  std::vector<std::string> Ids() const;
  // The three keys, sorted as the coordinator sorts them.
  static std::vector<std::string> Keys();

  // Metadata of a sample's three tensors, in order of Keys(). A sample has one
  // to four sequences of 32 to 512 prompt tokens and 64 to 4,096 responses.
  std::vector<SampleEntry> Entries(int64_t index) const;
  // The bytes of one of them.
  std::vector<std::byte> Bytes(const SampleEntry& entry) const;

 private:
  uint64_t seed_;
  int64_t size_;
};

}  // namespace sluice::quickstart

#endif  // SLUICE_TOOLS_QUICKSTART_SAMPLE_BATCH_H_
