#include "tests/integration/sample_set.h"

#include <cstring>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "common/status_macros.h"
#include "tests/integration/test_cluster.h"
#include "tools/checkpoint_generator/values.h"

namespace sluice::testing {
namespace {

int64_t ElementBytes(v1::DType dtype) {
  return dtype == v1::DTYPE_BF16 ? 2 : 4;
}

std::vector<uint8_t> Bytes(const v1::SampleEntry& entry) {
  int64_t rows = 0;
  for (const int64_t length : entry.sequence_lengths()) rows += length;
  std::vector<uint8_t> bytes(
      static_cast<size_t>(rows * ElementBytes(entry.dtype())));
  FillValues(
      TensorKey(/*seed=*/7, absl::StrCat(entry.sample_id(), "/", entry.key())),
      DType::kU8, 0, absl::MakeSpan(bytes));
  return bytes;
}

}  // namespace

std::string SampleSet::Id(int index) const {
  return absl::StrCat(prefix_, index);
}

std::vector<std::string> SampleSet::Ids(int first, int last) const {
  std::vector<std::string> ids;
  for (int i = first; i < last; ++i) ids.push_back(Id(i));
  return ids;
}

std::vector<std::string> SampleSet::Keys() {
  return {"logprobs", "prompts", "rewards"};
}

std::vector<v1::SampleEntry> SampleSet::Entries(int index) const {
  const std::vector<std::pair<v1::DType, int>> kinds = {
      {v1::DTYPE_BF16, 301}, {v1::DTYPE_I32, 97}, {v1::DTYPE_F32, 1}};
  std::vector<v1::SampleEntry> entries;
  for (size_t k = 0; k < kinds.size(); ++k) {
    v1::SampleEntry entry;
    entry.set_sample_id(Id(index));
    entry.set_key(Keys()[k]);
    entry.set_dtype(kinds[k].first);
    // One to three sequences, longer from sample to sample; some are empty.
    for (int s = 0; s <= index % 3; ++s) {
      const int ragged = kinds[k].second == 1 ? 0 : (index * 13 + s * 29) % 64;
      entry.add_sequence_lengths(
          index % 7 == 6 && s == 0 ? 0 : kinds[k].second + ragged);
    }
    entries.push_back(std::move(entry));
  }
  return entries;
}

absl::Status SampleSet::Put(Worker& worker, int first, int last) const {
  std::vector<std::vector<uint8_t>> bytes;
  std::vector<SampleValue> values;
  for (int i = first; i < last; ++i) {
    for (v1::SampleEntry& entry : Entries(i)) {
      bytes.push_back(Bytes(entry));
      values.push_back({std::move(entry), bytes.back().data()});
    }
  }
  return worker.PutSamples(values);
}

absl::Status SampleSet::Check(Worker& worker, int first, int last) const {
  SLUICE_ASSIGN_OR_RETURN(const std::vector<SampleView> views,
                          worker.GetSamples(Ids(first, last), Keys()));
  std::map<std::pair<std::string, std::string>, const SampleView*> held;
  for (const SampleView& view : views) {
    held[{view.entry.sample_id(), view.entry.key()}] = &view;
  }
  for (int i = first; i < last; ++i) {
    for (const v1::SampleEntry& entry : Entries(i)) {
      const std::string name =
          absl::StrCat(entry.sample_id(), "/", entry.key());
      const auto it = held.find({entry.sample_id(), entry.key()});
      if (it == held.end()) return absl::NotFoundError(name);
      const SampleView& view = *it->second;
      const std::vector<uint8_t> expected = Bytes(entry);
      if (view.entry.SerializeAsString() != entry.SerializeAsString() ||
          view.bytes != static_cast<int64_t>(expected.size())) {
        return absl::DataLossError(absl::StrCat(
            name, ": expected ", entry.ShortDebugString(), ", found ",
            view.entry.ShortDebugString(), " of ", view.bytes, " bytes"));
      }
      if (!expected.empty() &&
          std::memcmp(view.data, expected.data(), expected.size()) != 0) {
        return absl::DataLossError(absl::StrCat(name, ": wrong bytes"));
      }
    }
  }
  return absl::OkStatus();
}

absl::Status SampleSet::AwaitDropped(Worker& worker, int first,
                                     int last) const {
  const absl::Time deadline = absl::Now() + kPatience;
  for (int i = first; i < last;) {
    const absl::Status held = Check(worker, i, i + 1);
    if (absl::IsNotFound(held)) {
      ++i;
    } else if (!held.ok()) {
      return held;
    } else if (absl::Now() > deadline) {
      return absl::DeadlineExceededError(absl::StrCat(Id(i), " is still held"));
    } else {
      absl::SleepFor(absl::Milliseconds(1));
    }
  }
  return absl::OkStatus();
}

v1::Want SampleSet::WantOf(const std::vector<std::string>& agents, int first,
                           int last) const {
  v1::Want want;
  *want.mutable_agents() = {agents.begin(), agents.end()};
  for (const std::string& id : Ids(first, last)) want.add_sample_ids(id);
  for (const std::string& key : Keys()) want.add_keys(key);
  return want;
}

}  // namespace sluice::testing
