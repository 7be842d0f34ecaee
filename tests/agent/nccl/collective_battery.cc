#include "tests/agent/nccl/collective_battery.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <future>
#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/dtype.h"

namespace sluice::testing {
namespace {

using agent::CollectiveCall;
using agent::CollectiveKind;
using agent::CollectiveRange;
using agent::ReduceOp;

constexpr std::byte kPoison{0xee};
// More than passes between two ranks of the fake at a time.
constexpr int64_t kManyElements = 100'000;

// What all members know of a call.
struct Shape {
  CollectiveKind kind = CollectiveKind::kBroadcast;
  DType dtype = DType::kF32;
  ReduceOp reduce = ReduceOp::kNone;
  int root = 0;
  bool gaps = false;      // between pieces
  bool in_place = false;  // where the kind allows it
  // Elements of the piece that a member gives under a label: the member that
  // gets it, or 0 where all get the same.
  std::vector<std::vector<int64_t>> sizes;
  uint64_t seed = 0;
};

struct Piece {
  int from = 0;
  int label = 0;
};

// A small whole number, whose sums every type holds exactly.
int ValueAt(uint64_t seed, int from, int to, int64_t i) {
  uint64_t x = seed * 0x9e3779b97f4a7c15 + static_cast<uint64_t>(from) * 1009 +
               static_cast<uint64_t>(to) * 9176 + static_cast<uint64_t>(i);
  x ^= x >> 29;
  x *= 0xbf58476d1ce4e5b9;
  x ^= x >> 32;
  return static_cast<int>(x % 17) - 8;
}

uint16_t HalfBits(double value) {
  if (value == 0) return 0;
  const int exponent = std::ilogb(value);
  const double fraction = std::fabs(value) / std::ldexp(1, exponent) - 1;
  return static_cast<uint16_t>((value < 0 ? 0x8000 : 0) |
                               ((exponent + 15) << 10) |
                               static_cast<int>(fraction * 1024));
}

template <typename T>
void Store(T value, std::byte* to) {
  std::memcpy(to, &value, sizeof value);
}

// The bits of a value that the type holds exactly.
void PutElement(DType dtype, double value, std::byte* to) {
  switch (dtype) {
    case DType::kF64:
      return Store(value, to);
    case DType::kF32:
      return Store(static_cast<float>(value), to);
    case DType::kF16:
      return Store(HalfBits(value), to);
    case DType::kBF16:
      return Store(
          static_cast<uint16_t>(
              std::bit_cast<uint32_t>(static_cast<float>(value)) >> 16),
          to);
    case DType::kI64:
      return Store(static_cast<int64_t>(value), to);
    case DType::kI32:
      return Store(static_cast<int32_t>(value), to);
    case DType::kI16:
      return Store(static_cast<int16_t>(value), to);
    default:
      return Store(static_cast<int8_t>(value), to);
  }
}

std::vector<Piece> InputsOf(const Shape& shape, int members, int self) {
  const bool is_root = self == shape.root;
  std::vector<Piece> pieces;
  switch (shape.kind) {
    case CollectiveKind::kBroadcast:
      if (is_root) pieces = {{self, 0}};
      break;
    case CollectiveKind::kGather:
    case CollectiveKind::kAllGather:
      pieces = {{self, 0}};
      break;
    case CollectiveKind::kScatter:
      if (!is_root) break;
      [[fallthrough]];
    case CollectiveKind::kAllToAll:
    case CollectiveKind::kReduceScatter:
      for (int m = 0; m < members; ++m) pieces.push_back({self, m});
      break;
  }
  return pieces;
}

// Of a reduce-scatter, `from` counts for all.
std::vector<Piece> OutputsOf(const Shape& shape, int members, int self) {
  std::vector<Piece> pieces;
  switch (shape.kind) {
    case CollectiveKind::kBroadcast:
      return {{shape.root, 0}};
    case CollectiveKind::kScatter:
      return {{shape.root, self}};
    case CollectiveKind::kReduceScatter:
      return {{0, self}};
    case CollectiveKind::kGather:
      if (self != shape.root) return {};
      [[fallthrough]];
    case CollectiveKind::kAllGather:
      for (int m = 0; m < members; ++m) pieces.push_back({m, 0});
      return pieces;
    case CollectiveKind::kAllToAll:
      for (int m = 0; m < members; ++m) pieces.push_back({m, self});
      return pieces;
  }
  return pieces;
}

// What a member gives. Multiples of their number have averages that every type
// holds.
int Given(const Shape& shape, int members, const Piece& piece, int64_t i) {
  const int value = ValueAt(shape.seed, piece.from, piece.label, i);
  return shape.reduce == ReduceOp::kAverage ? value * members : value;
}

int Expected(const Shape& shape, int members, const Piece& piece, int64_t i) {
  if (shape.kind != CollectiveKind::kReduceScatter) {
    return Given(shape, members, piece, i);
  }
  int sum = 0;
  for (int m = 0; m < members; ++m) {
    sum += ValueAt(shape.seed, m, piece.label, i);
  }
  return sum;
}

// One member's side of a call, with what its memory shall hold after it.
class Case {
 public:
  Case(const Shape& shape, int members, int self)
      : shape_(shape), members_(members) {
    const std::vector<Piece> given = InputsOf(shape, members, self);
    const std::vector<Piece> got = OutputsOf(shape, members, self);
    Pieces inputs = Allocate(given);
    Pieces outputs = Allocate(got);
    if (shape.in_place && !given.empty() && !got.empty()) {
      // A member's own piece lies where it shall be.
      if (given.size() < got.size()) {
        inputs = {outputs.memory, {outputs.ranges[self]}};
      } else if (shape.kind != CollectiveKind::kAllToAll) {
        outputs = {inputs.memory,
                   {inputs.ranges[given.size() == 1 ? 0 : self]}};
      }
    }
    for (size_t p = 0; p < given.size(); ++p) {
      Fill(inputs.ranges[p], inputs.memory->data(),
           [&](int64_t i) { return Given(shape_, members_, given[p], i); });
    }
    memory_ = outputs.memory;
    expected_.assign(memory_->data(), memory_->data() + memory_->size());
    for (size_t p = 0; p < got.size(); ++p) {
      Fill(outputs.ranges[p], expected_.data(),
           [&](int64_t i) { return Expected(shape_, members_, got[p], i); });
    }
    call_.kind = shape.kind;
    call_.dtype = shape.dtype;
    call_.reduce = shape.reduce;
    call_.root = shape.root;
    call_.inputs = inputs.ranges;
    call_.outputs = outputs.ranges;
    call_.fingerprint = shape.seed;
    call_.description = absl::StrCat("case ", shape.seed);
  }

  const CollectiveCall& call() const { return call_; }

  absl::Status Check() const {
    for (size_t i = 0; i < expected_.size(); ++i) {
      if (memory_->data()[i] == expected_[i]) continue;
      return absl::DataLossError(absl::StrCat(
          agent::CollectiveKindName(call_.kind), " ", DTypeName(call_.dtype),
          " ", call_.description, ": byte ", i, " of ", expected_.size(),
          ": expected ", static_cast<int>(expected_[i]), ", found ",
          static_cast<int>(memory_->data()[i])));
    }
    return absl::OkStatus();
  }

 private:
  struct Pieces {
    std::shared_ptr<HeapMemory> memory;
    std::vector<CollectiveRange> ranges;
  };

  Pieces Allocate(const std::vector<Piece>& wanted) const {
    const int64_t element_bytes = ByteSize(shape_.dtype);
    Pieces pieces;
    // Room before, between and after shows what is written outside.
    int64_t at = 16;
    for (const Piece& piece : wanted) {
      const int64_t elements = shape_.sizes[piece.from][piece.label];
      pieces.ranges.push_back({nullptr, at, elements});
      at += (elements + (shape_.gaps ? 3 : 0)) * element_bytes;
    }
    pieces.memory = std::make_shared<HeapMemory>(at + 16);
    std::memset(pieces.memory->data(), static_cast<int>(kPoison),
                static_cast<size_t>(pieces.memory->size()));
    for (CollectiveRange& range : pieces.ranges) range.memory = pieces.memory;
    return pieces;
  }

  template <typename Value>
  void Fill(const CollectiveRange& range, std::byte* memory, Value value) {
    const int64_t element_bytes = ByteSize(shape_.dtype);
    for (int64_t i = 0; i < range.elements; ++i) {
      PutElement(shape_.dtype, value(i),
                 memory + range.offset_bytes + i * element_bytes);
    }
  }

  const Shape shape_;
  const int members_;
  CollectiveCall call_;
  std::shared_ptr<HeapMemory> memory_;
  std::vector<std::byte> expected_;
};

class RandomShapes {
 public:
  RandomShapes(int members, uint64_t seed) : members_(members), random_(seed) {}

  Shape Next(CollectiveKind kind, DType dtype, ReduceOp reduce) {
    Shape shape;
    shape.kind = kind;
    shape.dtype = dtype;
    shape.reduce = reduce;
    shape.root = static_cast<int>(random_() % members_);
    shape.gaps = random_() % 2 == 0;
    shape.in_place = random_() % 3 == 0;
    shape.seed = random_();
    const bool even = random_() % 2 == 0;
    const int64_t size = Size();
    shape.sizes.assign(members_, std::vector<int64_t>(members_, size));
    if (even) return shape;
    for (auto& row : shape.sizes) {
      for (int64_t& elements : row) elements = Size();
    }
    // All give equal pieces to be summed.
    if (kind == CollectiveKind::kReduceScatter) {
      for (auto& row : shape.sizes) row = shape.sizes[0];
    }
    return shape;
  }

 private:
  int64_t Size() {
    const uint64_t choice = random_() % 16;
    if (choice == 0) return kManyElements;
    return choice < 4 ? 0 : static_cast<int64_t>(random_() % 300);
  }

  const int members_;
  std::mt19937_64 random_;
};

std::vector<Shape> AllShapes(int members, uint64_t seed) {
  RandomShapes shapes(members, seed);
  std::vector<Shape> all;
  for (const CollectiveKind kind :
       {CollectiveKind::kBroadcast, CollectiveKind::kScatter,
        CollectiveKind::kGather, CollectiveKind::kAllGather,
        CollectiveKind::kAllToAll}) {
    for (const DType dtype :
         {DType::kF32, DType::kU8, DType::kI16, DType::kBF16, DType::kF8E4M3,
          DType::kF64, DType::kI64}) {
      all.push_back(shapes.Next(kind, dtype, ReduceOp::kNone));
    }
  }
  for (const ReduceOp op : {ReduceOp::kSum, ReduceOp::kAverage}) {
    for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16,
                              DType::kF64, DType::kI32, DType::kF32}) {
      all.push_back(shapes.Next(CollectiveKind::kReduceScatter, dtype, op));
    }
  }
  return all;
}

// Runs all, then waits for all; the first failure.
absl::Status RunCases(agent::CollectiveGroup& group,
                      const std::vector<std::unique_ptr<Case>>& cases) {
  std::vector<std::future<absl::Status>> results;
  for (const auto& one : cases) {
    auto promise = std::make_shared<std::promise<absl::Status>>();
    results.push_back(promise->get_future());
    group.Run(one->call(), [promise](absl::Status status) {
      promise->set_value(std::move(status));
    });
  }
  absl::Status first;
  for (size_t i = 0; i < cases.size(); ++i) {
    absl::Status status = results[i].get();
    if (status.ok()) status = cases[i]->Check();
    if (first.ok()) first = status;
  }
  return first;
}

}  // namespace

absl::Status RunBattery(agent::CollectiveGroup& group, int members, int self,
                        uint64_t seed) {
  std::vector<std::unique_ptr<Case>> cases;
  for (const Shape& shape : AllShapes(members, seed)) {
    cases.push_back(std::make_unique<Case>(shape, members, self));
  }
  return RunCases(group, cases);
}

absl::Status RunOne(agent::CollectiveGroup& group, int members, int self,
                    CollectiveKind kind, DType dtype, int64_t elements,
                    uint64_t fingerprint, const std::string& description) {
  Shape shape;
  shape.kind = kind;
  shape.dtype = dtype;
  if (kind == CollectiveKind::kReduceScatter) shape.reduce = ReduceOp::kSum;
  shape.sizes.assign(members, std::vector<int64_t>(members, elements));
  const Case one(shape, members, self);
  CollectiveCall call = one.call();
  call.fingerprint = fingerprint;
  call.description = description;
  std::promise<absl::Status> promise;
  group.Run(std::move(call), [&promise](absl::Status status) {
    promise.set_value(std::move(status));
  });
  absl::Status status = promise.get_future().get();
  return status.ok() ? one.Check() : status;
}

}  // namespace sluice::testing
