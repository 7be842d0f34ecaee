#include "tests/agent/collective/group_rig.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/copy/cast_kernels.h"
#include "agent/device/memory_file.h"
#include "tests/support/status_matchers.h"

namespace sluice::agent {
namespace {

constexpr auto kPatience = std::chrono::seconds(60);
constexpr std::byte kUntouched{0xEE};

size_t At(int index) { return static_cast<size_t>(index); }

std::shared_ptr<MappedMemory> NewMemory(int64_t bytes) {
  auto file = CreateMemoryFile(std::max<int64_t>(bytes, 1), "test");
  REQUIRE_OK(file);
  auto memory = MapMemoryFile(*std::move(file), std::max<int64_t>(bytes, 1),
                              Access::kReadWrite);
  REQUIRE_OK(memory);
  std::memset((*memory)->data(), static_cast<int>(kUntouched),
              static_cast<size_t>((*memory)->size()));
  return *memory;
}

// A whole number as an element.
void PutNumber(DType dtype, int value, std::byte* at) {
  if (dtype == DType::kI32) {
    std::memcpy(at, &value, sizeof(value));
    return;
  }
  const auto number = static_cast<double>(value);
  if (dtype == DType::kF64) {
    std::memcpy(at, &number, sizeof(number));
    return;
  }
  copy_internal::FindCast(copy_internal::Isa::kPortable, DType::kF64, dtype)(
      1, reinterpret_cast<const std::byte*>(&number), 0, at, 0);
}

// Writes sum or average of whole numbers.
void PutResult(DType dtype, int sum, int divisor, std::byte* at) {
  if (dtype == DType::kI32) {
    PutNumber(dtype, sum / divisor, at);
    return;
  }
  // As the accumulators have it, rounded once more.
  const double exact = static_cast<double>(sum) / divisor;
  const double value = dtype == DType::kF64 ? exact
                                            : static_cast<float>(sum) /
                                                  static_cast<float>(divisor);
  if (dtype == DType::kF64) {
    std::memcpy(at, &value, sizeof(value));
    return;
  }
  copy_internal::FindCast(copy_internal::Isa::kPortable, DType::kF64, dtype)(
      1, reinterpret_cast<const std::byte*>(&value), 0, at, 0);
}

}  // namespace

std::string RigCall::Check() const {
  for (size_t i = 0; i < expected.size(); ++i) {
    const auto& want = expected[i].bytes;
    const std::byte* found = expected[i].memory->data();
    const auto differs = std::mismatch(want.begin(), want.end(), found).first;
    if (differs != want.end()) {
      return absl::StrCat("output ", i, ": byte ", differs - want.begin(),
                          " of ", want.size());
    }
  }
  return "";
}

GroupRig::GroupRig(std::vector<int> nodes, uint64_t seed, const Clock& clock,
                   HostGroupOptions options)
    : nodes_(std::move(nodes)),
      clock_(clock),
      options_(options),
      random_(seed),
      groups_(nodes_.size()) {
  const bool one_node = std::set<int>(nodes_.begin(), nodes_.end()).size() == 1;
  for (int m = 0; m < size(); ++m) {
    Peer peer;
    peer.rank = Rank(10 + m);
    peer.name = absl::StrCat("a", m);
    peer.node = absl::StrCat("n", nodes_[At(m)]);
    peer.incarnation = Incarnation(seed * 100 + static_cast<uint64_t>(m) + 1);
    if (!one_node) {
      auto made = UcxTransport::Create({.net_devices = "lo"});
      REQUIRE_OK(made);
      transports_.push_back(*std::move(made));
      peer.network_address = transports_.back()->LocalAddress();
    }
    peers_.push_back(std::move(peer));
  }
  for (size_t a = 0; a < transports_.size(); ++a) {
    for (size_t b = 0; b < transports_.size(); ++b) {
      if (nodes_[a] == nodes_[b]) continue;
      REQUIRE_OK(
          transports_[a]->Connect(static_cast<uint64_t>(peers_[b].rank.value()),
                                  peers_[b].network_address));
    }
  }
}

CollectiveMembers GroupRig::members(int self) const {
  CollectiveMembers out;
  out.name = "rig";
  out.peers = peers_;
  out.self = self;
  return out;
}

void GroupRig::Make(int member) {
  UcxTransport* transport =
      transports_.empty() ? nullptr : transports_[At(member)].get();
  auto made =
      MakeHostGroup(members(member), {directory_, transport, clock_}, options_);
  REQUIRE_OK(made);
  groups_[At(member)] = *std::move(made);
}

void GroupRig::MakeAll() {
  for (int m = 0; m < size(); ++m) Make(m);
}

std::vector<int> GroupRig::everybody() const {
  std::vector<int> all(nodes_.size());
  std::iota(all.begin(), all.end(), 0);
  return all;
}

CollectiveRange GroupRig::NewRange(DType dtype, int64_t elements) {
  CollectiveRange range;
  range.elements = elements;
  if (elements == 0) return range;
  const int64_t size = ByteSize(dtype);
  range.offset_bytes = static_cast<int64_t>(random_() % 9) * size;
  range.memory = NewMemory(range.offset_bytes + elements * size +
                           static_cast<int64_t>(random_() % 70));
  return range;
}

RigCall::Expected& GroupRig::Expect(RigCall& call,
                                    const CollectiveRange& range) {
  RigCall::Expected& out = call.expected.emplace_back();
  out.memory = range.memory;
  out.bytes.assign(range.memory->data(),
                   range.memory->data() + range.memory->size());
  return out;
}

void GroupRig::Deliver(RigCall& call, DType dtype, int from, size_t input,
                       int to, size_t output) {
  const CollectiveRange& source = call.calls[At(from)].inputs[input];
  CollectiveRange& target = call.calls[At(to)].outputs[output];
  if (source.elements == 0) return;
  const size_t bytes = static_cast<size_t>(source.elements * ByteSize(dtype));
  // A member's own piece sometimes is where it belongs.
  if (from == to && random_() % 3 == 0) target = source;
  auto& expected = Expect(call, target);
  std::memcpy(expected.bytes.data() + target.offset_bytes,
              source.memory->data() + source.offset_bytes, bytes);
}

void GroupRig::FillMoved(RigCall& call, CollectiveKind kind, DType dtype) {
  const int root = call.calls[0].root;
  for (int from = 0; from < size(); ++from) {
    for (const CollectiveRange& range : call.calls[At(from)].inputs) {
      const int64_t bytes = range.elements * ByteSize(dtype);
      for (int64_t i = 0; i < bytes; i += 8) {
        const uint64_t word = random_();
        std::memcpy(range.memory->data() + range.offset_bytes + i, &word,
                    static_cast<size_t>(std::min<int64_t>(8, bytes - i)));
      }
    }
    for (int to = 0; to < size(); ++to) {
      switch (kind) {
        case CollectiveKind::kBroadcast:
          if (from == root) Deliver(call, dtype, from, 0, to, 0);
          break;
        case CollectiveKind::kScatter:
          if (from == root) Deliver(call, dtype, from, At(to), to, 0);
          break;
        case CollectiveKind::kGather:
          if (to == root) Deliver(call, dtype, from, 0, to, At(from));
          break;
        case CollectiveKind::kAllGather:
          Deliver(call, dtype, from, 0, to, At(from));
          break;
        case CollectiveKind::kAllToAll:
          Deliver(call, dtype, from, At(to), to, At(from));
          break;
        case CollectiveKind::kReduceScatter:
          break;
      }
    }
  }
}

void GroupRig::FillReduced(RigCall& call, DType dtype, ReduceOp reduce) {
  const int64_t size_of = ByteSize(dtype);
  const int divisor = reduce == ReduceOp::kAverage ? size() : 1;
  for (int piece = 0; piece < size(); ++piece) {
    CollectiveRange& output = call.calls[At(piece)].outputs[0];
    if (output.elements == 0) continue;
    std::vector<int> sums(static_cast<size_t>(output.elements), 0);
    for (int m = 0; m < size(); ++m) {
      const CollectiveRange& range = call.calls[At(m)].inputs[At(piece)];
      for (int64_t i = 0; i < range.elements; ++i) {
        // Sums of eight of these are exact in all types.
        const int value = static_cast<int>(random_() % 31) - 15;
        sums[static_cast<size_t>(i)] += value;
        PutNumber(dtype, value,
                  range.memory->data() + range.offset_bytes + i * size_of);
      }
    }
    if (random_() % 3 == 0) output = call.calls[At(piece)].inputs[At(piece)];
    auto& expected = Expect(call, output);
    for (int64_t i = 0; i < output.elements; ++i) {
      PutResult(dtype, sums[static_cast<size_t>(i)], divisor,
                expected.bytes.data() + output.offset_bytes + i * size_of);
    }
  }
}

// Elements of a piece: none, as many as can be, or any number.
int64_t GroupRig::SizeOfPiece(int64_t max_elements) {
  const uint64_t kind_of_size = random_() % 8;
  if (kind_of_size == 0) return int64_t{0};
  if (kind_of_size == 1) return max_elements;
  return static_cast<int64_t>(random_() %
                              static_cast<uint64_t>(max_elements + 1));
}

void GroupRig::AddRanges(RigCall& out, int a, int b, const PieceSizes& sizes) {
  auto& from = out.calls[At(a)].inputs;
  auto& to = out.calls[At(b)].outputs;
  const CollectiveKind kind = out.calls[At(a)].kind;
  const DType dtype = out.calls[At(a)].dtype;
  const int root = out.calls[At(a)].root;
  const auto add = [&](std::vector<CollectiveRange>& side, int64_t n) {
    side.push_back(NewRange(dtype, n));
  };
  switch (kind) {
    case CollectiveKind::kBroadcast:
      if (a == root && b == 0) add(from, sizes.shared);
      if (a == root) add(to, sizes.shared);
      break;
    case CollectiveKind::kScatter:
      if (a == root) add(from, sizes.by_member[At(b)]);
      if (a == root) add(to, sizes.by_member[At(b)]);
      break;
    case CollectiveKind::kGather:
      if (b == root) add(from, sizes.by_member[At(a)]);
      if (b == root) add(to, sizes.by_member[At(a)]);
      break;
    case CollectiveKind::kAllGather:
      if (b == 0) add(from, sizes.by_member[At(a)]);
      add(to, sizes.by_member[At(a)]);
      break;
    case CollectiveKind::kAllToAll:
      add(from, sizes.pair);
      add(to, sizes.pair);
      break;
    case CollectiveKind::kReduceScatter:
      add(from, sizes.by_member[At(b)]);
      if (a == 0) add(to, sizes.by_member[At(b)]);
      break;
  }
}

RigCall GroupRig::MakeCall(CollectiveKind kind, DType dtype, ReduceOp reduce,
                           int64_t max_elements) {
  RigCall out;
  out.calls.resize(nodes_.size());
  const int root = static_cast<int>(random_() % nodes_.size());
  PieceSizes sizes;
  sizes.shared = SizeOfPiece(max_elements);
  sizes.by_member.resize(nodes_.size());
  for (int64_t& elements : sizes.by_member) {
    elements = SizeOfPiece(max_elements);
  }
  for (CollectiveCall& call : out.calls) {
    call.kind = kind;
    call.dtype = dtype;
    call.reduce = reduce;
    call.root = root;
    call.fingerprint = 77;
    call.description = "rig";
  }
  for (int a = 0; a < size(); ++a) {
    for (int b = 0; b < size(); ++b) {
      sizes.pair =
          kind == CollectiveKind::kAllToAll ? SizeOfPiece(max_elements) : 0;
      AddRanges(out, a, b, sizes);
    }
  }
  if (kind == CollectiveKind::kReduceScatter) {
    FillReduced(out, dtype, reduce);
  } else {
    FillMoved(out, kind, dtype);
  }
  return out;
}

void GroupRig::Start(const RigCall& call, const std::vector<int>& who,
                     RigOutcome& outcome) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    outcome.statuses.resize(nodes_.size());
  }
  for (const int m : who) {
    group(m).Run(call.calls[At(m)], NoteOutcome(m, outcome));
  }
}

void GroupRig::Start(RigCall&& call, RigOutcome& outcome) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    outcome.statuses.resize(nodes_.size());
  }
  for (int m = 0; m < size(); ++m) {
    group(m).Run(std::move(call.calls[At(m)]), NoteOutcome(m, outcome));
  }
}

CollectiveGroup::Done GroupRig::NoteOutcome(int member, RigOutcome& outcome) {
  return [this, member, &outcome](absl::Status status) {
    std::lock_guard<std::mutex> lock(mutex_);
    if (outcome.statuses[At(member)].has_value()) std::abort();  // twice
    outcome.statuses[At(member)] = std::move(status);
    changed_.notify_all();
  };
}

bool GroupRig::AllOver(const std::vector<int>& who,
                       const RigOutcome& outcome) const {
  return std::all_of(who.begin(), who.end(), [&](int m) {
    return outcome.statuses[At(m)].has_value();
  });
}

bool GroupRig::Wait(const std::vector<int>& who, RigOutcome& outcome) {
  std::unique_lock<std::mutex> lock(mutex_);
  outcome.statuses.resize(nodes_.size());
  return changed_.wait_for(lock, kPatience,
                           [&] { return AllOver(who, outcome); });
}

bool GroupRig::WaitAdvancing(testing::FakeClock& clock, absl::Duration step,
                             const std::vector<int>& who, RigOutcome& outcome) {
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  std::unique_lock<std::mutex> lock(mutex_);
  while (!changed_.wait_for(lock, std::chrono::milliseconds(20),
                            [&] { return AllOver(who, outcome); })) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    clock.Advance(step);
  }
  return true;
}

void GroupRig::CutOff(int member) {
  directory_.SetGone(peers_[At(member)].rank);
}

std::vector<absl::Status> GroupRig::Run(const RigCall& call) {
  RigOutcome outcome;
  Start(call, everybody(), outcome);
  REQUIRE(Wait(everybody(), outcome));
  std::vector<absl::Status> out;
  for (const auto& status : outcome.statuses) out.push_back(*status);
  return out;
}

}  // namespace sluice::agent
