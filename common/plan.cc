#include "common/plan.h"

#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"
#include "common/check.h"

namespace sluice {
namespace {

// A 64-bit hash that is the same on every machine and in every release: parts
// are named by it across processes. Not a MAC.
class StableHash {
 public:
  void Add(uint64_t value) {
    state_ ^= Mix(value + 0x9e3779b97f4a7c15u * ++count_);
    state_ = ((state_ << 27) | (state_ >> 37)) * 0x3c79ac492ba7b653u +
             0x1c69b3f74ac4ae35u;
  }
  void Add(int64_t value) { Add(static_cast<uint64_t>(value)); }
  void Add(int32_t value) { Add(static_cast<int64_t>(value)); }
  void Add(uint32_t value) { Add(static_cast<uint64_t>(value)); }
  void AddSize(size_t size) { Add(static_cast<uint64_t>(size)); }
  void Add(absl::string_view text) {
    AddSize(text.size());
    for (size_t begin = 0; begin < text.size(); begin += 8) {
      uint64_t word = 0;  // little endian, whatever the machine
      const size_t end = std::min(begin + 8, text.size());
      for (size_t i = end; i > begin; --i) {
        word = (word << 8) | static_cast<unsigned char>(text[i - 1]);
      }
      Add(word);
    }
  }

  uint64_t Finish() const { return Mix(state_ + count_); }

 private:
  static uint64_t Mix(uint64_t x) {  // the finisher of splitmix64
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
  }

  uint64_t state_ = 0x243f6a8885a308d3u;
  uint64_t count_ = 0;
};

void AddTransfer(const Transfer& transfer, StableHash& hash) {
  hash.Add(transfer.id);
  hash.Add(transfer.round);
  hash.Add(static_cast<int32_t>(transfer.kind));
  hash.Add(transfer.collective);
  hash.Add(transfer.source.value());
  hash.Add(transfer.destination.value());
  hash.Add(static_cast<int32_t>(transfer.link));
  hash.Add(transfer.destination_placement);
  hash.Add(transfer.reads_after.has_value()
               ? static_cast<int64_t>(*transfer.reads_after)
               : int64_t{-1});
  hash.Add(transfer.bytes);
  if (transfer.wire_dtype != DType::kUnspecified) {
    hash.Add(static_cast<int32_t>(transfer.wire_dtype));
  }
  hash.Add(static_cast<int32_t>(transfer.params.box.rank()));
  for (const Interval& dim : transfer.params.box.dims()) {
    hash.Add(dim.lo);
    hash.Add(dim.hi);
  }
  hash.AddSize(transfer.params.tensors.size());
  for (const TensorRun& run : transfer.params.tensors) {
    hash.Add(run.first);
    hash.Add(run.count);
    hash.Add(run.step);
  }
  hash.AddSize(transfer.samples.size());
  for (const uint32_t sample : transfer.samples) hash.Add(sample);
}

void AddEntry(const SampleEntry& entry, StableHash& hash) {
  hash.Add(entry.sample_id);
  hash.Add(entry.key);
  hash.Add(static_cast<int32_t>(entry.dtype));
  hash.AddSize(entry.sequence_lengths.size());
  for (const int64_t length : entry.sequence_lengths) hash.Add(length);
  hash.AddSize(entry.trailing_shape.size());
  for (const int64_t size : entry.trailing_shape) hash.Add(size);
}

uint64_t DigestOf(const PlanPart& part) {
  StableHash hash;
  hash.Add(part.num_plan_transfers);
  hash.AddSize(part.transfers.size());
  for (const Transfer& transfer : part.transfers) AddTransfer(transfer, hash);
  hash.AddSize(part.entries.size());
  for (const SampleEntry& entry : part.entries) AddEntry(entry, hash);
  return hash.Finish();
}

// Copies the entries that the part's transfers name, in the plan's order, and
// makes the transfers name the copies.
void TakeEntries(const TransferPlan& plan, PlanPart& part) {
  std::vector<uint32_t> used;
  for (const Transfer& transfer : part.transfers) {
    used.insert(used.end(), transfer.samples.begin(), transfer.samples.end());
  }
  std::sort(used.begin(), used.end());
  used.erase(std::unique(used.begin(), used.end()), used.end());
  absl::flat_hash_map<uint32_t, uint32_t> renumbered;
  renumbered.reserve(used.size());
  part.entries.reserve(used.size());
  for (const uint32_t index : used) {
    renumbered.emplace(index, static_cast<uint32_t>(part.entries.size()));
    part.entries.push_back(plan.entries[index]);
  }
  for (Transfer& transfer : part.transfers) {
    for (uint32_t& sample : transfer.samples) sample = renumbered[sample];
  }
}

void Finish(const TransferPlan& plan, PlanPart& part) {
  part.num_plan_transfers = static_cast<uint32_t>(plan.transfers.size());
  TakeEntries(plan, part);
  part.digest = DigestOf(part);
}

}  // namespace

int64_t SampleEntry::num_bytes() const {
  int64_t rows = 0;
  for (const int64_t length : sequence_lengths) rows += length;
  int64_t row_elements = 1;
  for (const int64_t size : trailing_shape) row_elements *= size;
  return rows * row_elements * ByteSize(dtype);
}

std::vector<TensorIndex> ExpandTensors(const std::vector<TensorRun>& runs) {
  size_t total = 0;
  for (const TensorRun& run : runs) {
    total += static_cast<size_t>(std::max(run.count, 0));
  }
  std::vector<TensorIndex> out;
  out.reserve(total);
  for (const TensorRun& run : runs) {
    for (int32_t i = 0; i < run.count; ++i) {
      out.emplace_back(run.first + i * run.step);
    }
  }
  return out;
}

std::vector<TensorRun> CompressTensors(
    const std::vector<TensorIndex>& indices) {
  std::vector<TensorRun> out;
  size_t i = 0;
  while (i < indices.size()) {
    TensorRun run{indices[i].value(), 1, 1};
    if (i + 1 < indices.size()) {
      run.step = indices[i + 1].value() - indices[i].value();
      run.count = 2;
      while (i + static_cast<size_t>(run.count) < indices.size() &&
             indices[i + static_cast<size_t>(run.count)].value() -
                     indices[i + static_cast<size_t>(run.count) - 1].value() ==
                 run.step) {
        ++run.count;
      }
    }
    i += static_cast<size_t>(run.count);
    out.push_back(run);
  }
  return out;
}

PlanPart PartOf(const TransferPlan& plan, Rank rank) {
  PlanPart part;
  for (const Transfer& transfer : plan.transfers) {
    if (transfer.source == rank || transfer.destination == rank) {
      part.transfers.push_back(transfer);
    }
  }
  Finish(plan, part);
  return part;
}

std::vector<PlanPart> SplitPlan(const TransferPlan& plan, int32_t num_ranks) {
  std::vector<PlanPart> parts(static_cast<size_t>(num_ranks));
  for (const Transfer& transfer : plan.transfers) {
    for (const Rank rank : {transfer.source, transfer.destination}) {
      SLUICE_CHECK(rank.value() >= 0 && rank.value() < num_ranks)
          << "transfer " << transfer.id << ": rank " << rank << " of "
          << num_ranks;
    }
    parts[static_cast<size_t>(transfer.source.value())].transfers.push_back(
        transfer);
    if (transfer.destination == transfer.source) continue;
    parts[static_cast<size_t>(transfer.destination.value())]
        .transfers.push_back(transfer);
  }
  for (PlanPart& part : parts) Finish(plan, part);
  return parts;
}

std::ostream& operator<<(std::ostream& os, TransferKind kind) {
  switch (kind) {
    case TransferKind::kUnspecified:
      return os << "UNSPECIFIED";
    case TransferKind::kLocalCopy:
      return os << "LOCAL_COPY";
    case TransferKind::kSendRecv:
      return os << "SEND_RECV";
    case TransferKind::kBroadcast:
      return os << "BROADCAST";
    case TransferKind::kGather:
      return os << "GATHER";
    case TransferKind::kScatter:
      return os << "SCATTER";
  }
  return os << "TransferKind(" << static_cast<int>(kind) << ")";
}

std::ostream& operator<<(std::ostream& os, LinkClass link) {
  switch (link) {
    case LinkClass::kSameDevice:
      return os << "same device";
    case LinkClass::kSameNode:
      return os << "same node";
    case LinkClass::kBetweenNodes:
      return os << "between nodes";
  }
  return os << "LinkClass(" << static_cast<int>(link) << ")";
}

}  // namespace sluice
