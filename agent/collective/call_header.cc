#include "agent/collective/call_header.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <string>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/command.h"
#include "common/dtype.h"
#include "common/ids.h"
#include "common/status_macros.h"

namespace sluice::agent {
namespace {

constexpr int kMaxMembers = 512;

absl::string_view ReduceName(int32_t reduce) {
  switch (static_cast<ReduceOp>(reduce)) {
    case ReduceOp::kNone:
      return "none";
    case ReduceOp::kSum:
      return "sum";
    case ReduceOp::kAverage:
      return "average";
  }
  return "unknown";
}

std::string DescriptionOf(const CallHeader& header) {
  const size_t bytes =
      std::min<size_t>(header.description_bytes, sizeof(header.description));
  if (bytes == 0) return "";
  return absl::StrCat(" (", absl::string_view(header.description, bytes), ")");
}

// A field that is the same on all members, in words.
using FieldText = std::string (*)(const CallHeader&);
struct Field {
  absl::string_view name;
  FieldText text;
};

constexpr Field kFields[] = {
    {"the number of the call",
     [](const CallHeader& h) { return absl::StrCat(h.ordinal); }},
    {"the kind",
     [](const CallHeader& h) {
       return std::string(
           CollectiveKindName(static_cast<CollectiveKind>(h.kind)));
     }},
    {"the element type",
     [](const CallHeader& h) {
       return std::string(DTypeName(static_cast<DType>(h.dtype)));
     }},
    {"the operation",
     [](const CallHeader& h) { return std::string(ReduceName(h.reduce)); }},
    {"the root", [](const CallHeader& h) { return absl::StrCat(h.root); }},
    {"the fingerprint of the operations",
     [](const CallHeader& h) {
       return absl::StrCat(absl::Hex(h.fingerprint, absl::kZeroPad16));
     }},
};

class Comparison {
 public:
  Comparison(const CollectiveMembers& members,
             const std::vector<CallHeaderView>& headers)
      : members_(members), headers_(headers) {}

  absl::Status Run() {
    for (const Field& field : kFields) {
      SLUICE_RETURN_IF_ERROR(CompareField(field));
    }
    SLUICE_RETURN_IF_ERROR(CompareSizes());
    // Last: what else differs says more.
    return CompareField({"the description", &DescriptionOf});
  }

 private:
  absl::Status CompareField(const Field& field) const {
    for (int m = 1; m < size(); ++m) {
      const std::string first = field.text(*headers_[0].header);
      const std::string other = field.text(*headers_[At(m)].header);
      if (first != other) return Differ(0, m, field.name, first, other);
    }
    return absl::OkStatus();
  }

  static size_t At(int member) { return static_cast<size_t>(member); }
  int size() const { return static_cast<int>(headers_.size()); }
  int64_t Input(int member, int i) const {
    return headers_[At(member)].inputs[At(i)];
  }
  int64_t Output(int member, int i) const {
    return headers_[At(member)].outputs[At(i)];
  }

  absl::Status Differ(int a, int b, absl::string_view what,
                      const std::string& of_a, const std::string& of_b) const {
    const CallHeader& first = *headers_[At(a)].header;
    const CallHeader& second = *headers_[At(b)].header;
    return absl::FailedPreconditionError(absl::StrCat(
        "group \"", members_.name, "\", call ",
        std::min(first.ordinal, second.ordinal), ": ", MemberName(members_, a),
        DescriptionOf(first), " and ", MemberName(members_, b),
        DescriptionOf(second), " differ in ", what, ": ", of_a, " and ", of_b));
  }

  // Member `from` gives its inputs[input], member `to` takes it as
  // outputs[output].
  absl::Status Piece(int from, int input, int to, int output) const {
    const int64_t given = Input(from, input);
    const int64_t taken = Output(to, output);
    if (given == taken) return absl::OkStatus();
    return Differ(from, to, "a size",
                  absl::StrCat(given, " elements of inputs[", input, "]"),
                  absl::StrCat(taken, " of outputs[", output, "]"));
  }

  absl::Status CompareSizes() const {
    const CallHeader& call = *headers_[0].header;
    const auto kind = static_cast<CollectiveKind>(call.kind);
    if (kind == CollectiveKind::kReduceScatter) return CompareReduced();
    for (int from = 0; from < size(); ++from) {
      for (int to = 0; to < size(); ++to) {
        SLUICE_RETURN_IF_ERROR(ComparePiece(kind, call.root, from, to));
      }
    }
    return absl::OkStatus();
  }

  absl::Status ComparePiece(CollectiveKind kind, int root, int from,
                            int to) const {
    switch (kind) {
      case CollectiveKind::kBroadcast:
        return from == root ? Piece(from, 0, to, 0) : absl::OkStatus();
      case CollectiveKind::kScatter:
        return from == root ? Piece(from, to, to, 0) : absl::OkStatus();
      case CollectiveKind::kGather:
        return to == root ? Piece(from, 0, to, from) : absl::OkStatus();
      case CollectiveKind::kAllGather:
        return Piece(from, 0, to, from);
      case CollectiveKind::kAllToAll:
        return Piece(from, to, to, from);
      case CollectiveKind::kReduceScatter:
        break;
    }
    return absl::OkStatus();
  }

  absl::Status CompareReduced() const {
    for (int piece = 0; piece < size(); ++piece) {
      for (int m = 1; m < size(); ++m) {
        if (Input(0, piece) == Input(m, piece)) continue;
        return Differ(
            0, m, "a size",
            absl::StrCat(Input(0, piece), " elements of inputs[", piece, "]"),
            absl::StrCat(Input(m, piece)));
      }
      SLUICE_RETURN_IF_ERROR(Piece(0, piece, piece, 0));
    }
    return absl::OkStatus();
  }

  const CollectiveMembers& members_;
  const std::vector<CallHeaderView>& headers_;
};

void WriteSizes(const std::vector<CollectiveRange>& ranges, int members,
                int64_t* sizes) {
  for (int i = 0; i < members; ++i) {
    const auto at = static_cast<size_t>(i);
    sizes[i] = at < ranges.size() ? ranges[at].elements : -1;
  }
}

bool Gapless(const std::vector<CollectiveRange>& ranges,
             int64_t element_bytes) {
  for (size_t i = 1; i < ranges.size(); ++i) {
    const CollectiveRange& last = ranges[i - 1];
    if (ranges[i].memory != last.memory ||
        ranges[i].offset_bytes !=
            last.offset_bytes + last.elements * element_bytes) {
      return false;
    }
  }
  return true;
}

// Of the ranges that there are.
bool EvenSizes(absl::Span<const int64_t> sizes) {
  return std::all_of(sizes.begin(), sizes.end(), [&](int64_t size) {
    return size == sizes[0] || size < 0;
  });
}

bool IsHeader(const CallHeader& header, int members) {
  const auto below = [](int32_t value, int end) {
    return value >= 0 && value < end;
  };
  return below(header.kind,
               static_cast<int>(CollectiveKind::kReduceScatter) + 1) &&
         below(header.dtype, static_cast<int>(DType::kF8E5M2) + 1) &&
         below(header.reduce, static_cast<int>(ReduceOp::kAverage) + 1) &&
         below(header.root, members) && header.gapless <= 1 &&
         header.description_bytes <= sizeof(header.description);
}

const int64_t* SizesOf(const void* block) {
  return reinterpret_cast<const int64_t*>(
      static_cast<const CallHeader*>(block) + 1);
}

}  // namespace

void WriteCallHeader(const CollectiveCall& call, uint64_t ordinal, int members,
                     void* block) {
  static_assert(sizeof(CallHeader) % sizeof(int64_t) == 0);
  CallHeader header;
  header.ordinal = ordinal;
  header.fingerprint = call.fingerprint;
  header.kind = static_cast<int32_t>(call.kind);
  header.dtype = static_cast<int32_t>(call.dtype);
  header.reduce = static_cast<int32_t>(call.reduce);
  const bool rooted = call.kind == CollectiveKind::kBroadcast ||
                      call.kind == CollectiveKind::kScatter ||
                      call.kind == CollectiveKind::kGather;
  header.root = rooted ? call.root : 0;
  const int64_t element_bytes = ByteSize(call.dtype);
  header.gapless = Gapless(call.inputs, element_bytes) &&
                           Gapless(call.outputs, element_bytes)
                       ? 1
                       : 0;
  header.description_bytes = static_cast<uint32_t>(
      std::min(call.description.size(), sizeof(header.description)));
  std::memcpy(header.description, call.description.data(),
              header.description_bytes);
  std::memcpy(block, &header, sizeof(header));
  auto* sizes = reinterpret_cast<int64_t*>(static_cast<CallHeader*>(block) + 1);
  WriteSizes(call.inputs, members, sizes);
  WriteSizes(call.outputs, members, sizes + members);
}

CallHeaderView ViewCallHeader(const void* block, int members) {
  const int64_t* sizes = SizesOf(block);
  const auto count = static_cast<size_t>(members);
  return {static_cast<const CallHeader*>(block),
          {sizes, count},
          {sizes + members, count}};
}

std::string EncodeCallHeader(const CollectiveCall& call, uint64_t ordinal,
                             int members) {
  std::string bytes(static_cast<size_t>(CallHeaderBytes(members)), '\0');
  WriteCallHeader(call, ordinal, members, bytes.data());
  return bytes;
}

absl::StatusOr<CallHeaderView> DecodeCallHeader(absl::string_view bytes,
                                                int members) {
  if (static_cast<int64_t>(bytes.size()) == CallHeaderBytes(members)) {
    const CallHeaderView view = ViewCallHeader(bytes.data(), members);
    if (IsHeader(*view.header, members)) return view;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("no header of a call of ", members,
                   " members: ", bytes.size(), " bytes"));
}

bool EvenPieces(const std::vector<CallHeaderView>& headers) {
  return std::all_of(headers.begin(), headers.end(),
                     [](const CallHeaderView& view) {
                       return view.header->gapless == 1 &&
                              EvenSizes(view.inputs) && EvenSizes(view.outputs);
                     });
}

std::string CallText(const CallHeader& header) {
  const absl::string_view reduce =
      header.reduce == 0 ? absl::string_view() : ReduceName(header.reduce);
  return absl::StrCat(
      "call ", header.ordinal, ": ",
      CollectiveKindName(static_cast<CollectiveKind>(header.kind)), " ",
      DTypeName(static_cast<DType>(header.dtype)), reduce.empty() ? "" : " ",
      reduce, DescriptionOf(header));
}

absl::Status CompareCallHeaders(const CollectiveMembers& members,
                                const std::vector<CallHeaderView>& headers) {
  return Comparison(members, headers).Run();
}

std::string MemberName(const CollectiveMembers& members, int member) {
  const Peer& peer = members.peers[static_cast<size_t>(member)];
  return absl::StrCat("agent \"", peer.name, "\" (rank ", peer.rank.value(),
                      ")");
}

absl::Status DidNotCome(const CollectiveMembers& members,
                        const std::vector<int>& missing, absl::string_view what,
                        absl::Duration waited) {
  const std::string names =
      absl::StrJoin(missing, ", ", [&](std::string* out, int m) {
        absl::StrAppend(out, MemberName(members, m));
      });
  return absl::DeadlineExceededError(
      absl::StrCat("group \"", members.name, "\": waited ",
                   absl::FormatDuration(waited), " for ", names, " ", what));
}

absl::Status CheckMembers(const CollectiveMembers& members) {
  const int size = static_cast<int>(members.peers.size());
  if (size == 0 || size > kMaxMembers || members.self < 0 ||
      members.self >= size) {
    return absl::InvalidArgumentError(absl::StrCat(
        "group \"", members.name, "\": expected 1 to ", kMaxMembers,
        " members and self among them, found ", size, " and ", members.self));
  }
  absl::flat_hash_set<Rank> ranks;
  for (int m = 0; m < size; ++m) {
    if (ranks.insert(members.peers[static_cast<size_t>(m)].rank).second) {
      continue;
    }
    return absl::InvalidArgumentError(
        absl::StrCat("group \"", members.name, "\": ", MemberName(members, m),
                     " is a member twice"));
  }
  return absl::OkStatus();
}

}  // namespace sluice::agent
