#include "tools/quickstart/sample_batch.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <set>

namespace sluice::quickstart {
namespace {

TEST_CASE("a batch follows from its seed alone", "[tools][quickstart]") {
  const SampleBatch batch(5, 16), same(5, 512), other(6, 16);
  for (const int64_t i : {0, 7, 15}) {
    CHECK(batch.Entries(i) == same.Entries(i));
    for (const SampleEntry& entry : batch.Entries(i)) {
      CHECK(batch.Bytes(entry) == same.Bytes(entry));
      CHECK(batch.Bytes(entry) != other.Bytes(entry));
    }
  }
}

TEST_CASE("samples are ragged and their three tensors agree",
          "[tools][quickstart]") {
  const SampleBatch batch(1, 64);
  std::set<int64_t> sizes;
  for (int64_t i = 0; i < batch.size(); ++i) {
    const std::vector<SampleEntry> entries = batch.Entries(i);
    REQUIRE(entries.size() == 3);
    std::vector<std::string> keys;
    for (const SampleEntry& entry : entries) {
      CHECK(entry.sample_id == SampleBatch::Id(i));
      CHECK(entry.sequence_lengths.size() ==
            entries[0].sequence_lengths.size());
      keys.push_back(entry.key);
    }
    CHECK(keys == SampleBatch::Keys());
    CHECK(std::is_sorted(keys.begin(), keys.end()));
    sizes.insert(entries[1].num_bytes());
  }
  CHECK(sizes.size() > 32);
}

}  // namespace
}  // namespace sluice::quickstart
