#ifndef SLUICE_COMMON_PLAN_H_
#define SLUICE_COMMON_PLAN_H_

// The TransferPlan: the one value both planners produce, the validator proves
// and the agents carry out. Logical only: boxes, tensor indices, sample
// entries, ranks; never an address or a buffer.

#include <array>
#include <cstdint>
#include <optional>
#include <ostream>
#include <string>
#include <vector>

#include "common/box.h"
#include "common/dtype.h"
#include "common/ids.h"

namespace sluice {

enum class TransferKind : uint8_t {
  kUnspecified = 0,
  kLocalCopy = 1,  // source == destination
  kSendRecv = 2,
  kBroadcast = 3,
  kGather = 4,
  kScatter = 5,
};

// How far apart source and destination are; decided by agents' node names.
enum class LinkClass : uint8_t {
  kSameDevice = 0,    // same agent
  kSameNode = 1,      // mapped memory
  kBetweenNodes = 2,  // network
};
inline constexpr int kNumLinkClasses = 3;
using LinkBytes = std::array<int64_t, kNumLinkClasses>;

// An arithmetic run of tensor indices: first, first+step, ... (count of them).
struct TensorRun {
  int32_t first = 0;
  int32_t count = 1;
  int32_t step = 1;
  friend bool operator==(const TensorRun&, const TensorRun&) = default;
};

// One box pattern over an index set of tensors of equal shape, which the source
// holds in one element type and the destination in one.
struct ParamBundle {
  Box box;
  std::vector<TensorRun> tensors;
  friend bool operator==(const ParamBundle&, const ParamBundle&) = default;
};

// Metadata of one stored (sample, key) tensor: packed rows of `trailing_shape`;
// rows = sum of sequence_lengths.
struct SampleEntry {
  std::string sample_id;
  std::string key;
  DType dtype = DType::kUnspecified;
  std::vector<int64_t> sequence_lengths;
  Shape trailing_shape;

  int64_t num_bytes() const;
  friend bool operator==(const SampleEntry&, const SampleEntry&) = default;
};

// A point-to-point leg. Legs of one collective carry its number, so that a
// transport with collectives can run them as one call.
struct Transfer {
  uint32_t id = 0;  // position in TransferPlan::transfers
  int32_t round = 0;
  TransferKind kind = TransferKind::kUnspecified;
  LinkClass link = LinkClass::kSameDevice;
  uint32_t collective = 0;  // 0 = none
  Rank source = kNoRank;
  Rank destination = kNoRank;
  // Which of the operation's destination placements is written (parameters).
  int32_t destination_placement = 0;
  // The element type in which parameters cross; kUnspecified for samples. A
  // side that holds another type converts: the source before it sends and
  // digests, the destination when it has received. A relay's is that of the
  // transfer it reads after.
  DType wire_dtype = DType::kUnspecified;
  // The source reads what this earlier transfer delivered to it in its
  // destination placement (a relay); nullopt = it reads what it had at start.
  // A relayed box is contained in the box that transfer delivered.
  std::optional<uint32_t> reads_after;
  int64_t bytes = 0;  // on the wire: bundle expanded, in wire_dtype
  // Exactly one of the two is used.
  ParamBundle params;
  std::vector<uint32_t> samples;  // indices into the plan's or part's entries

  friend bool operator==(const Transfer&, const Transfer&) = default;
};

// What a plan says of itself. Seconds are estimates from the link rates given.
struct Certificate {
  LinkBytes bytes{};                           // moved, by link class
  std::vector<LinkBytes> bytes_in, bytes_out;  // by rank
  int64_t wasted_bytes = 0;        // delivered to who already had it
  int64_t peak_staging_bytes = 0;  // largest over agents
  int32_t rounds = 0;
  int64_t num_transfers = 0;
  int64_t lower_bound_bytes = 0;  // most loaded link of any plan, in bytes
  int64_t max_link_bytes = 0;     // most loaded link of this plan, same measure
  double bound_ratio = 1.0;       // max_link_bytes / lower_bound_bytes

  friend bool operator==(const Certificate&, const Certificate&) = default;
};

struct TransferPlan {
  std::vector<Transfer> transfers;  // ordered by round, then id
  std::vector<SampleEntry> entries;
  Certificate certificate;
};

// One agent's share of a plan: every transfer it sends, receives or makes
// locally, with the ids of the whole plan, in plan order.
struct PlanPart {
  // Over everything below; a repeated operation names it instead of resending.
  uint64_t digest = 0;
  uint32_t num_plan_transfers = 0;  // of the whole plan: size of the board
  std::vector<Transfer> transfers;
  std::vector<SampleEntry> entries;  // those the transfers name, renumbered
  friend bool operator==(const PlanPart&, const PlanPart&) = default;
};

// Returns the tensor indices of a bundle in order.
std::vector<TensorIndex> ExpandTensors(const std::vector<TensorRun>& runs);
// Returns the runs of an ascending list of indices.
std::vector<TensorRun> CompressTensors(const std::vector<TensorIndex>& indices);

// Cuts out the part of one rank, with its digest.
PlanPart PartOf(const TransferPlan& plan, Rank rank);
// Cuts all parts in one pass; entry i is the part of rank i.
std::vector<PlanPart> SplitPlan(const TransferPlan& plan, int32_t num_ranks);

std::ostream& operator<<(std::ostream& os, TransferKind kind);
std::ostream& operator<<(std::ostream& os, LinkClass link);

}  // namespace sluice

#endif  // SLUICE_COMMON_PLAN_H_
