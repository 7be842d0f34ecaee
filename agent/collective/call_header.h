#ifndef SLUICE_AGENT_COLLECTIVE_CALL_HEADER_H_
#define SLUICE_AGENT_COLLECTIVE_CALL_HEADER_H_

// What members tell each other of a call before data moves, in the form in
// which it lies in shared memory and crosses the network, and its comparison.

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "agent/collective/collective.h"

namespace sluice::agent {

// Numbers only; agents of one group are of one build's byte order.
struct CallHeader {
  static constexpr int kMaxDescriptionBytes = 240;

  uint64_t ordinal = 0;
  uint64_t fingerprint = 0;
  int32_t kind = 0;
  int32_t dtype = 0;
  int32_t reduce = 0;
  int32_t root = 0;  // 0 of kinds without
  uint32_t description_bytes = 0;
  // 1: the ranges of each list lie in one piece of memory, in order and without
  // gaps: what libraries' own collectives of even pieces take.
  uint32_t gapless = 0;
  char description[kMaxDescriptionBytes] = {};
};

// A header with the sizes of its ranges, in elements; -1 where there is no
// range. One block of memory: the header, then inputs' and outputs' sizes.
struct CallHeaderView {
  const CallHeader* header = nullptr;
  absl::Span<const int64_t> inputs;
  absl::Span<const int64_t> outputs;
};

// Bytes of the block of a group of `members`.
constexpr int64_t CallHeaderBytes(int members) {
  return int64_t{sizeof(CallHeader)} +
         2 * int64_t{members} * int64_t{sizeof(int64_t)};
}

// Writes a checked call (CheckCall) to a block, which is 8-byte aligned.
void WriteCallHeader(const CollectiveCall& call, uint64_t ordinal, int members,
                     void* block);
CallHeaderView ViewCallHeader(const void* block, int members);

// The block of a checked call as bytes to be sent, and what came as a view of
// them (8-byte aligned, as a string of that length is).
// Errors: INVALID_ARGUMENT - no header of a group of so many members.
std::string EncodeCallHeader(const CollectiveCall& call, uint64_t ordinal,
                             int members);
absl::StatusOr<CallHeaderView> DecodeCallHeader(absl::string_view bytes,
                                                int members);

// Compares the headers of all members, in their order. The same answer on all
// of them: the first difference in the order of the fields, then of members.
// Errors: FAILED_PRECONDITION - names the call, two agents with their ranks,
// and what differs.
absl::Status CompareCallHeaders(const CollectiveMembers& members,
                                const std::vector<CallHeaderView>& headers);

// Whether all members' pieces are of one size and without gaps; the same answer
// on all of them.
bool EvenPieces(const std::vector<CallHeaderView>& headers);

// "call 3: reduce-scatter F32 sum (op 17: float32[4096])".
std::string CallText(const CallHeader& header);

// "agent "a" (rank 3)".
std::string MemberName(const CollectiveMembers& members, int member);

// DEADLINE_EXCEEDED: who was waited for, to do what, and for how long.
absl::Status DidNotCome(const CollectiveMembers& members,
                        const std::vector<int>& missing, absl::string_view what,
                        absl::Duration waited);

// Errors: INVALID_ARGUMENT - no members, more than 512, an agent twice, or
// `self` not one of them.
absl::Status CheckMembers(const CollectiveMembers& members);

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_COLLECTIVE_CALL_HEADER_H_
