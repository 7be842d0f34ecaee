#include "tests/agent/executor/mini_cluster.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <catch2/catch.hpp>
#include <chrono>
#include <cstring>
#include <numeric>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/copy/cast_kernels.h"
#include "agent/copy/copy_kernels.h"
#include "agent/copy/digest.h"
#include "agent/device/memory_file.h"
#include "agent/piece_match.h"
#include "tests/support/status_matchers.h"

namespace sluice::agent {
namespace {

constexpr int64_t kMemoryBytes = int64_t{96} << 20;
constexpr auto kPatience = std::chrono::seconds(60);
constexpr std::byte kUntouched{0xEE};

// Byte `offset` of a tensor, in the order of its logical elements.
std::byte ByteOf(uint64_t tensor_hash, int64_t offset) {
  uint64_t x =
      tensor_hash ^ (static_cast<uint64_t>(offset) * 0x9e3779b97f4aull);
  x ^= x >> 29;
  x *= 0xbf58476d1ce4e5b9ull;
  return static_cast<std::byte>(x >> 56);
}

// The wire's value `bits` as `held`; perturbed where that is rounded away.
uint64_t Widened(DType wire, DType held, uint64_t bits, bool perturbed) {
  using copy_internal::FindCast;
  using copy_internal::Isa;
  if (held == wire) return bits;
  const auto cast = [](DType from, DType to, uint64_t value) {
    uint64_t out = 0;
    FindCast(Isa::kPortable, from, to)(
        1, reinterpret_cast<const std::byte*>(&value), 0,
        reinterpret_cast<std::byte*>(&out), 0);
    return out;
  };
  const uint64_t exact = cast(wire, held, bits);
  const bool same = cast(held, wire, exact + 1) == bits;
  return perturbed && same ? exact + 1 : exact;
}

// Element at `logical` of a tensor, as it lies in a place that holds `held`.
void PutElement(const BoundPiece& piece, DType held, int64_t logical,
                bool perturbed, std::byte* at) {
  uint64_t wire = 0;
  for (int64_t i = ByteSize(piece.dtype); i-- > 0;) {
    wire = wire << 8 | static_cast<uint64_t>(ByteOf(piece.mix, logical + i));
  }
  const uint64_t value = Widened(piece.dtype, held, wire, perturbed);
  std::memcpy(at, &value, static_cast<size_t>(ByteSize(held)));
}

// Calls visit(place offset, logical byte offset) for each element of a piece.
template <typename Visit>
void ForElements(const BoundPiece& piece, const BoundPlace& place,
                 Visit visit) {
  const int64_t element = ByteSize(piece.dtype);
  const std::vector<int64_t> logical = RowMajorStrides(piece.shape);
  const Shape extents = piece.box.shape();
  for (int64_t e = 0; e < piece.box.num_elements(); ++e) {
    int64_t rest = e, at = place.offset_bytes, flat = 0;
    for (size_t d = extents.size(); d-- > 0;) {
      const int64_t i = rest % extents[d];
      rest /= extents[d];
      at += i * place.strides_bytes[d];
      flat += (piece.box.dim(static_cast<int>(d)).lo + i) * logical[d];
    }
    visit(at, flat * element);
  }
}

}  // namespace

// Hands out the boards and sources of the other executors.
class MiniCluster::Directory final : public PeerDirectory {
 public:
  Directory(MiniCluster& cluster, int self) : cluster_(cluster), self_(self) {}

  absl::StatusOr<PeerSource> Open(OperationId operation, Rank peer, absl::Time,
                                  int interrupt) override {
    if (silent_) {
      pollfd entry{interrupt, POLLIN, 0};
      poll(&entry, 1, -1);
      return absl::CancelledError("interrupted");
    }
    const auto handle = cluster_.executor(peer.value()).Board(operation);
    if (!handle.ok()) return handle.status();
    PeerSource source;
    auto board = MapMemoryFile(UniqueFd(dup(handle->fd)), handle->size,
                               Access::kReadWrite);
    if (!board.ok()) return board.status();
    source.board = *board;
    for (const auto& transfer : sources_[peer.value()]) {
      if (transfer.destination.value() != self_) continue;
      PeerTransferSource& to = source.transfers[transfer.id];
      for (const BoundPiece& piece : transfer.pieces) {
        to.pieces.push_back(*piece.source);
        to.boxes.push_back(piece.box);
      }
    }
    return source;
  }

  // Peers do not answer until the caller gives up.
  std::atomic<bool> silent_ = false;
  // As bound, before requests were handed to executors.
  std::map<int, std::vector<BoundTransfer>> sources_;

 private:
  MiniCluster& cluster_;
  const int self_;
};

std::shared_ptr<MappedMemory> MiniCluster::NewMemory(int rank,
                                                     bool source) const {
  if (hardware_.memory) return hardware_.memory(rank, source, kMemoryBytes);
  auto file = CreateMemoryFile(kMemoryBytes, "test");
  REQUIRE_OK(file);
  auto memory =
      MapMemoryFile(*std::move(file), kMemoryBytes, Access::kReadWrite);
  REQUIRE_OK(memory);
  return *memory;
}

MiniCluster::MiniCluster(std::vector<int> nodes, uint64_t seed,
                         Hardware hardware)
    : nodes_(std::move(nodes)), hardware_(std::move(hardware)), random_(seed) {
  for (size_t r = 0; r < nodes_.size(); ++r) {
    auto agent = std::make_unique<Agent>();
    agent->rank = static_cast<int>(r);
    agent->directory = std::make_unique<Directory>(*this, agent->rank);
    Agent* a = agent.get();
    ExecutorCallbacks callbacks;
    callbacks.on_progress = [this, a](OperationId, int64_t bytes) {
      std::lock_guard lock(mutex_);
      a->progress = bytes;
    };
    callbacks.on_done = [this, a](OperationId id, absl::Status status,
                                  ExecutionStats stats, Rank peer) {
      std::lock_guard lock(mutex_);
      const bool first =
          a->outcomes.emplace(id.value(), TestOutcome{status, stats, peer})
              .second;
      // Seen by Wait: the main thread fails the test.
      if (!first) a->outcomes[id.value()].status = absl::InternalError("twice");
      changed_.notify_all();
    };
    TransferExecutorOptions options;
    options.network.net_devices = "lo";
    if (hardware_.mover) options.mover = hardware_.mover(agent->rank);
    auto executor =
        MakeTransferExecutor(options, callbacks, *agent->directory, clock_);
    REQUIRE_OK(executor);
    agent->executor = *std::move(executor);
    agents_.push_back(std::move(agent));
  }
  for (const auto& from : agents_) {
    for (const auto& to : agents_) {
      if (from == to) continue;
      REQUIRE_OK(from->executor->SetPeer(Rank(to->rank), Incarnation(1),
                                         to->executor->NetworkAddress()));
    }
  }
}

MiniCluster::~MiniCluster() {
  for (const auto& agent : agents_) agent->executor.reset();
}

BoundPlace MiniCluster::NewPlace(const BoundPiece& piece, DType held,
                                 const std::shared_ptr<MappedMemory>& memory,
                                 int64_t& used) {
  const Box& box = piece.box;
  // Mostly row-major, sometimes with gaps, sometimes transposed.
  std::vector<size_t> order(static_cast<size_t>(box.rank()));
  std::iota(order.begin(), order.end(), size_t{0});
  const bool small = box.num_elements() < 200000;
  if (small && random_() % 4 == 0) {
    std::shuffle(order.begin(), order.end(), random_);
  }
  const bool gaps = random_() % 3 == 0;
  const int64_t element =
      ByteSize(held == DType::kUnspecified ? piece.dtype : held);
  BoundPlace place{memory, used + element * static_cast<int64_t>(random_() % 3),
                   std::vector<int64_t>(order.size()), held};
  int64_t stride = element;
  for (auto d = order.rbegin(); d != order.rend(); ++d) {
    place.strides_bytes[*d] = stride;
    const int64_t gap = gaps ? static_cast<int64_t>(random_() % 5) : 0;
    stride *= box.dim(static_cast<int>(*d)).size() + gap;
  }
  used = (place.offset_bytes + stride + 63) / 8 * 8;
  REQUIRE(used <= kMemoryBytes);
  return place;
}

std::vector<Box> MiniCluster::RandomCuts(const Box& box) {
  // Along the outermost dimension of more than one element, as a binder cuts.
  int d = 0;
  while (d < box.rank() && box.dim(d).size() == 1) ++d;
  if (d == box.rank() || random_() % 3 != 0) return {box};
  std::vector<Box> cuts;
  Box part = box;
  for (int64_t at = box.dim(d).lo; at < box.dim(d).hi;) {
    const int64_t left = box.dim(d).hi - at;
    const int64_t n = 1 + static_cast<int64_t>(random_() % left);
    part.dim(d) = {at, at + n};
    cuts.push_back(part);
    at += n;
  }
  return cuts;
}

void MiniCluster::Fill(const BoundPiece& piece) {
  std::byte* base = piece.source->memory->data();
  ForElements(piece, *piece.source, [&](int64_t at, int64_t logical) {
    PutElement(piece, HeldType(piece, *piece.source), logical,
               /*perturbed=*/true, base + at);
  });
}

BoundPiece& MiniCluster::AddPiece(BoundTransfer& side,
                                  const TestTransfer::Tensor& tensor,
                                  const Box& box) {
  BoundPiece& piece = side.pieces.emplace_back();
  piece.tensor = tensor.name;
  piece.mix = MixTensor(tensor.name);
  piece.dtype = tensor.dtype;
  piece.shape = tensor.shape;
  piece.box = box;
  side.bytes += box.num_elements() * ByteSize(tensor.dtype);
  return piece;
}

void MiniCluster::BindSource(const TestTransfer& t,
                             const TestTransfer::Tensor& tensor,
                             BoundTransfer& bound) {
  if (!t.reads_after.has_value()) {
    Agent& from = *agents_[t.source];
    for (const Box& box : RandomCuts(tensor.box)) {
      BoundPiece& piece = AddPiece(bound, tensor, box);
      piece.source =
          NewPlace(piece, tensor.at_source, from.source, from.source_used);
      Fill(piece);
    }
    return;
  }
  // Wherever the first transfer puts the box.
  for (const auto& earlier : requests_[t.source].transfers) {
    if (earlier.id != *t.reads_after) continue;
    for (const auto& piece : earlier.pieces) {
      const auto common = piece.box.Intersect(tensor.box);
      if (piece.tensor != tensor.name || !common) continue;
      AddPiece(bound, tensor, *common).source =
          PlaceOfPart(piece.destinations.front(), piece.box, *common);
    }
  }
}

void MiniCluster::BindDestination(const TestTransfer& t,
                                  const TestTransfer::Tensor& tensor,
                                  absl::Span<BoundPiece> local,
                                  BoundTransfer& receiving) {
  Agent& to = *agents_[t.destination];
  const int copies = random_() % 4 == 0 ? 2 : 1;
  const auto place = [&](BoundPiece& piece) {
    for (int copy = 0; copy < copies; ++copy) {
      piece.destinations.push_back(NewPlace(
          piece, tensor.at_destination, to.destination, to.destination_used));
    }
  };
  if (t.source == t.destination) {
    for (BoundPiece& piece : local) place(piece);
    return;
  }
  for (const Box& box : RandomCuts(tensor.box)) {
    place(AddPiece(receiving, tensor, box));
  }
}

void MiniCluster::BindOne(const TestTransfer& t) {
  BoundTransfer bound;
  bound.id = t.id;
  bound.source = Rank(t.source);
  bound.destination = Rank(t.destination);
  bound.reads_after = t.reads_after;
  bound.link = t.source == t.destination ? LinkClass::kSameDevice
               : nodes_[t.source] == nodes_[t.destination]
                   ? LinkClass::kSameNode
                   : LinkClass::kBetweenNodes;
  BoundTransfer receiving = bound;
  for (const auto& tensor : t.tensors) {
    const size_t first = bound.pieces.size();
    BindSource(t, tensor, bound);
    // A transfer inside one agent has one list of pieces.
    BindDestination(t, tensor, absl::MakeSpan(bound.pieces).subspan(first),
                    receiving);
  }
  requests_[t.source].transfers.push_back(bound);
  if (t.source != t.destination) {
    requests_[t.destination].transfers.push_back(std::move(receiving));
  }
}

void MiniCluster::Bind(OperationId operation,
                       const std::vector<TestTransfer>& transfers) {
  operation_ = operation;
  requests_.clear();
  num_transfers_ = 0;
  for (const TestTransfer& t : transfers) {
    num_transfers_ = std::max(num_transfers_, t.id + 1);
  }
  for (const auto& agent : agents_) {
    agent->source = NewMemory(agent->rank, /*source=*/true);
    agent->destination = NewMemory(agent->rank, /*source=*/false);
    agent->source_used = agent->destination_used = 0;
    ExecutionRequest& request = requests_[agent->rank];
    request.operation = operation;
    request.self = Rank(agent->rank);
    request.num_plan_transfers = num_transfers_;
  }
  for (const TestTransfer& t : transfers) BindOne(t);
  for (const auto& agent : agents_) {
    std::memset(agent->destination->data(), static_cast<int>(kUntouched),
                static_cast<size_t>(agent->destination_used));
    agent->directory->sources_.clear();
    for (const auto& [rank, request] : requests_) {
      for (const auto& transfer : request.transfers) {
        if (transfer.source != request.self) continue;
        agent->directory->sources_[rank].push_back(transfer);
      }
    }
  }
}

absl::Status MiniCluster::Prepare(int rank) {
  return executor(rank).Prepare(requests_[rank]);
}

void MiniCluster::PrepareAll() {
  for (const auto& agent : agents_) REQUIRE_OK(Prepare(agent->rank));
}

void MiniCluster::SilencePeersOf(int rank) {
  agents_[rank]->directory->silent_ = true;
}

void MiniCluster::Start(int rank) {
  REQUIRE_OK(executor(rank).Start(operation_));
}

void MiniCluster::StartAll() {
  for (const auto& agent : agents_) Start(agent->rank);
}

TestOutcome MiniCluster::Wait(int rank, OperationId operation) {
  std::unique_lock lock(mutex_);
  Agent& agent = *agents_[rank];
  const bool came = changed_.wait_for(lock, kPatience, [&] {
    return agent.outcomes.contains(operation.value());
  });
  if (!came) return {absl::DeadlineExceededError("no on_done"), {}, kNoRank};
  return agent.outcomes[operation.value()];
}

bool MiniCluster::HasEnded(int rank) {
  std::lock_guard lock(mutex_);
  return agents_[rank]->outcomes.contains(operation_.value());
}

void MiniCluster::ReleaseAll() {
  for (const auto& agent : agents_) agent->executor->Release(operation_);
}

int64_t MiniCluster::last_progress(int rank) {
  std::lock_guard lock(mutex_);
  return agents_[rank]->progress;
}

std::vector<std::byte> MiniCluster::Expected(int rank) const {
  const Agent& agent = *agents_[rank];
  std::vector<std::byte> expected(static_cast<size_t>(agent.destination_used),
                                  kUntouched);
  for (const auto& transfer : requests_.at(rank).transfers) {
    for (const auto& piece : transfer.pieces) {
      for (const auto& place : piece.destinations) {
        ForElements(piece, place, [&](int64_t at, int64_t logical) {
          PutElement(piece, HeldType(piece, place), logical,
                     /*perturbed=*/false, &expected[static_cast<size_t>(at)]);
        });
      }
    }
  }
  return expected;
}

std::string MiniCluster::CheckDestinations() const {
  for (const auto& agent : agents_) {
    const std::vector<std::byte> expected = Expected(agent->rank);
    const std::byte* found = agent->destination->data();
    const auto differs =
        std::mismatch(expected.begin(), expected.end(), found).first;
    if (differs != expected.end()) {
      return absl::StrCat("rank ", agent->rank, ": byte ",
                          differs - expected.begin(), " of ", expected.size());
    }
  }
  return "";
}

bool MiniCluster::Untouched(int rank) const {
  const Agent& agent = *agents_[rank];
  const std::byte* bytes = agent.destination->data();
  return std::all_of(bytes, bytes + agent.destination_used,
                     [](std::byte b) { return b == kUntouched; });
}

void MiniCluster::FillDestinations(int rank, std::byte value) {
  Agent& agent = *agents_[rank];
  std::memset(agent.destination->data(), static_cast<int>(value),
              static_cast<size_t>(agent.destination_used));
}

void MiniCluster::CorruptSource(uint32_t id) {
  for (auto& [rank, request] : requests_) {
    for (auto& transfer : request.transfers) {
      if (transfer.id != id || transfer.source != request.self) continue;
      const BoundPlace& place = *transfer.pieces.back().source;
      place.memory->data()[place.offset_bytes] ^= std::byte{1};
    }
  }
}

}  // namespace sluice::agent
