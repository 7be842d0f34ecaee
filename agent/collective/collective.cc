#include "agent/collective/collective.h"

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace sluice::agent {
namespace {

bool Rooted(CollectiveKind kind) {
  return kind == CollectiveKind::kBroadcast ||
         kind == CollectiveKind::kScatter || kind == CollectiveKind::kGather;
}

bool Reducible(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kBF16 ||
         dtype == DType::kF16 || dtype == DType::kF64 || dtype == DType::kI32;
}

// How many ranges each side of a call has.
struct Sides {
  int inputs = 0;
  int outputs = 0;
};

Sides ExpectedSides(CollectiveKind kind, int members, bool is_root) {
  switch (kind) {
    case CollectiveKind::kBroadcast:
      return {is_root ? 1 : 0, 1};
    case CollectiveKind::kScatter:
      return {is_root ? members : 0, 1};
    case CollectiveKind::kGather:
      return {1, is_root ? members : 0};
    case CollectiveKind::kAllGather:
      return {1, members};
    case CollectiveKind::kAllToAll:
      return {members, members};
    case CollectiveKind::kReduceScatter:
      return {members, 1};
  }
  return {};
}

absl::Status CheckRange(const CollectiveRange& range, int64_t element_bytes) {
  if (range.elements < 0 || range.offset_bytes < 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "expected an offset and elements of at least 0, found offset ",
        range.offset_bytes, " and ", range.elements, " elements"));
  }
  if (range.elements == 0) return absl::OkStatus();
  if (range.memory == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat(range.elements, " elements of no memory"));
  }
  const int64_t size = range.memory->size();
  // Divided, because the product may overflow.
  if (range.offset_bytes > size ||
      range.elements > (size - range.offset_bytes) / element_bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("expected bytes inside the memory's ", size, ", found ",
                     range.elements, " elements of ", element_bytes,
                     " bytes at offset ", range.offset_bytes));
  }
  if (range.offset_bytes % element_bytes != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("expected an offset that is a multiple of the element's ",
                     element_bytes, " bytes, found ", range.offset_bytes));
  }
  return absl::OkStatus();
}

absl::Status CheckRanges(absl::string_view side, int expected,
                         const std::vector<CollectiveRange>& ranges,
                         int64_t element_bytes) {
  if (static_cast<int>(ranges.size()) != expected) {
    return absl::InvalidArgumentError(absl::StrCat(
        side, ": expected ", expected, " ranges, found ", ranges.size()));
  }
  for (size_t i = 0; i < ranges.size(); ++i) {
    SLUICE_RETURN_IF_ERROR(Annotate(CheckRange(ranges[i], element_bytes),
                                    absl::StrCat(side, "[", i, "]")));
  }
  return absl::OkStatus();
}

absl::Status CheckReduction(const CollectiveCall& call) {
  if (call.kind != CollectiveKind::kReduceScatter) {
    if (call.reduce == ReduceOp::kNone) return absl::OkStatus();
    return absl::InvalidArgumentError(
        "expected no operation of what does not reduce");
  }
  if (call.reduce == ReduceOp::kNone) {
    return absl::InvalidArgumentError(
        "expected an operation (sum or average), found none");
  }
  if (!Reducible(call.dtype)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "expected F32, BF16, F16, F64 or I32, found ", DTypeName(call.dtype)));
  }
  return absl::OkStatus();
}

absl::Status CheckAll(const CollectiveCall& call, int members, int self) {
  const int64_t element_bytes = ByteSize(call.dtype);
  if (element_bytes == 0) {
    return absl::InvalidArgumentError("expected an element type, found none");
  }
  if (Rooted(call.kind) && (call.root < 0 || call.root >= members)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "expected a root from 0 to ", members - 1, ", found ", call.root));
  }
  SLUICE_RETURN_IF_ERROR(CheckReduction(call));
  const Sides sides = ExpectedSides(call.kind, members, call.root == self);
  SLUICE_RETURN_IF_ERROR(
      CheckRanges("inputs", sides.inputs, call.inputs, element_bytes));
  return CheckRanges("outputs", sides.outputs, call.outputs, element_bytes);
}

// FNV-1a: the same in every process and build.
class StableHash {
 public:
  void Add(absl::string_view text) {
    Add(static_cast<uint64_t>(text.size()));
    for (const char c : text) AddByte(static_cast<unsigned char>(c));
  }
  void Add(uint64_t value) {
    for (int i = 0; i < 8; ++i) AddByte(value >> (8 * i) & 0xff);
  }
  uint64_t value() const { return value_; }

 private:
  void AddByte(uint64_t byte) {
    value_ = (value_ ^ byte) * uint64_t{0x100000001b3};
  }
  uint64_t value_ = 0xcbf29ce484222325;
};

}  // namespace

absl::string_view CollectiveKindName(CollectiveKind kind) {
  switch (kind) {
    case CollectiveKind::kBroadcast:
      return "broadcast";
    case CollectiveKind::kScatter:
      return "scatter";
    case CollectiveKind::kGather:
      return "gather";
    case CollectiveKind::kAllGather:
      return "all-gather";
    case CollectiveKind::kAllToAll:
      return "all-to-all";
    case CollectiveKind::kReduceScatter:
      return "reduce-scatter";
  }
  return "unknown";
}

absl::Status CheckCall(const CollectiveCall& call, int members, int self) {
  return Annotate(CheckAll(call, members, self), CollectiveKindName(call.kind));
}

uint64_t CollectiveMembers::Id() const {
  StableHash hash;
  hash.Add(name);
  for (const Peer& peer : peers) {
    hash.Add(static_cast<uint64_t>(peer.rank.value()));
    hash.Add(peer.incarnation.value());
  }
  return hash.value();
}

}  // namespace sluice::agent
