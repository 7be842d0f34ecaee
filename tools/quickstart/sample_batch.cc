#include "tools/quickstart/sample_batch.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/types/span.h"
#include "tools/checkpoint_generator/values.h"

namespace sluice::quickstart {
namespace {

constexpr int64_t kMaxSequences = 4;
constexpr int64_t kMinPrompt = 32, kMaxPrompt = 512;
constexpr int64_t kMinResponse = 64, kMaxResponse = 4096;

// Number `n` of a stream of random numbers named by a seed and a sample.
class Stream {
 public:
  Stream(uint64_t seed, const std::string& id) : key_(TensorKey(seed, id)) {}

  int64_t Between(int64_t lo, int64_t hi) {
    uint8_t bytes[8] = {};
    FillValues(key_, DType::kI64, next_++, absl::MakeSpan(bytes));
    uint64_t value = 0;
    for (const uint8_t byte : bytes) value = value << 8 | byte;
    return lo +
           static_cast<int64_t>(value % static_cast<uint64_t>(hi - lo + 1));
  }

 private:
  uint64_t key_;
  int64_t next_ = 0;
};

}  // namespace

std::string SampleBatch::Id(int64_t index) {
  return absl::StrFormat("sample-%06d", index);
}

std::vector<std::string> SampleBatch::Ids() const {
  std::vector<std::string> ids;
  for (int64_t i = 0; i < size_; ++i) ids.push_back(Id(i));
  return ids;
}

std::vector<std::string> SampleBatch::Keys() {
  return {kLogprobsKey, kPromptsKey, kRewardsKey};
}

std::vector<SampleEntry> SampleBatch::Entries(int64_t index) const {
  const std::string id = Id(index);
  Stream random(seed_, id);
  SampleEntry prompts{id, kPromptsKey, DType::kI32, {}, {}};
  SampleEntry logprobs{id, kLogprobsKey, DType::kBF16, {}, {}};
  SampleEntry rewards{id, kRewardsKey, DType::kF32, {}, {}};
  const int64_t sequences = random.Between(1, kMaxSequences);
  for (int64_t i = 0; i < sequences; ++i) {
    prompts.sequence_lengths.push_back(random.Between(kMinPrompt, kMaxPrompt));
    logprobs.sequence_lengths.push_back(
        random.Between(kMinResponse, kMaxResponse));
    rewards.sequence_lengths.push_back(1);
  }
  return {logprobs, prompts, rewards};
}

std::vector<std::byte> SampleBatch::Bytes(const SampleEntry& entry) const {
  std::vector<std::byte> bytes(static_cast<size_t>(entry.num_bytes()));
  const uint64_t key =
      TensorKey(seed_, absl::StrCat(entry.sample_id, "/", entry.key));
  FillValues(
      key, entry.dtype, 0,
      absl::MakeSpan(reinterpret_cast<uint8_t*>(bytes.data()), bytes.size()));
  return bytes;
}

}  // namespace sluice::quickstart
