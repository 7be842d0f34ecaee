#include "agent/collective/call_run.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/copy/copy_kernels.h"
#include "common/mutex.h"
#include "common/status_macros.h"

namespace sluice::agent {
namespace {

// Of a message between nodes, and of a copy between two looks around.
constexpr int64_t kPieceBytes = int64_t{1} << 20;
// Messages of a stream under way.
constexpr int64_t kWindow = 4;
// From this many bytes of output on, stores go past the caches.
constexpr int64_t kStreamingBytes = int64_t{1} << 20;
// From this many bytes of copies on, starting threads pays.
constexpr int64_t kSharedBytes = int64_t{8} << 20;

int64_t Pieces(int64_t bytes) {
  return (bytes + kPieceBytes - 1) / kPieceBytes;
}
int64_t PieceBytes(int64_t bytes, int64_t piece) {
  return std::min(kPieceBytes, bytes - piece * kPieceBytes);
}

size_t At(int index) { return static_cast<size_t>(index); }

std::vector<std::byte> NewRing(int64_t bytes) {
  return std::vector<std::byte>(
      static_cast<size_t>(std::min(bytes, kWindow * kPieceBytes)));
}

}  // namespace

// How far the messages of a stream are; written by the transport's thread.
struct CallRun::Messages {
  explicit Messages(int64_t pieces) : done(static_cast<size_t>(pieces)) {}

  void SetDone(int64_t piece) {
    MutexLock lock(mutex);
    done[static_cast<size_t>(piece)] = true;
    while (prefix < static_cast<int64_t>(done.size()) &&
           done[static_cast<size_t>(prefix)]) {
      ++prefix;
    }
  }
  // Pieces that are done with all before them.
  int64_t Prefix() const {
    MutexLock lock(mutex);
    return prefix;
  }

  mutable Mutex mutex;
  std::vector<bool> done ABSL_GUARDED_BY(mutex);
  int64_t prefix ABSL_GUARDED_BY(mutex) = 0;
};

struct CallRun::Pull {
  int from = 0;
  const std::byte* source = nullptr;
  std::byte* destination = nullptr;
  int64_t bytes = 0;
  int64_t done = 0;
  // Followed: the board and the output of the member that receives it.
  const GroupBoard* board = nullptr;
  int relay = 0;
};

// Received into an output, or as partial sums into a ring of pieces.
struct CallRun::Incoming {
  int from = 0;
  int output = -1;
  bool relayed = false;
  std::byte* data = nullptr;
  std::vector<std::byte> ring;
  int64_t bytes = 0;
  int64_t posted = 0;    // pieces
  int64_t told = 0;      // pieces that followers know of
  int64_t consumed = 0;  // pieces of a ring that may be overwritten
  std::shared_ptr<Messages> messages;

  bool in_ring() const { return output < 0; }
  std::byte* At(int64_t piece) {
    return in_ring() ? ring.data() + piece % kWindow * kPieceBytes
                     : data + piece * kPieceBytes;
  }
  int64_t available() const {
    return std::min(bytes, messages->Prefix() * kPieceBytes);
  }
  bool over() const { return messages->Prefix() == Pieces(bytes); }
};

struct CallRun::Outgoing {
  int to = 0;
  const std::byte* data = nullptr;
  std::vector<std::byte> ring;  // of partial sums; else `data` is sent
  bool in_ring = false;
  int64_t bytes = 0;
  int64_t posted = 0;                 // pieces
  int64_t made = 0;                   // pieces of a ring that may be sent
  const Incoming* follows = nullptr;  // what is received may be sent
  std::shared_ptr<Messages> messages;

  std::byte* InRing(int64_t piece) {
    return ring.data() + piece % kWindow * kPieceBytes;
  }
  bool Ready(int64_t piece) const {
    if (in_ring) return piece < made;
    if (follows == nullptr) return true;
    return follows->messages->Prefix() > piece;
  }
  bool over() const { return messages->Prefix() == Pieces(bytes); }
};

// A sum of this node's inputs, made for a member of another node.
struct CallRun::Sum {
  std::vector<ReduceInput> inputs;
  Outgoing* to = nullptr;
  int64_t elements = 0;
};

CallRun::CallRun(Context context, const CollectiveCall& call,
                 const std::vector<CallHeaderView>& headers)
    : c_(context),
      call_(call),
      headers_(headers),
      self_(context.members.self),
      element_bytes_(ByteSize(call.dtype)) {
  int64_t written = 0;
  for (const CollectiveRange& range : call.outputs) {
    written += range.elements * element_bytes_;
  }
  streaming_ = written >= kStreamingBytes;
}

CallRun::~CallRun() = default;

int64_t CallRun::ElementsOf(int member, bool output, int index) const {
  const CallHeaderView& header = headers_[At(member)];
  return output ? header.outputs[At(index)] : header.inputs[At(index)];
}

std::byte* CallRun::Output(int index) const {
  const CollectiveRange& range = call_.outputs[At(index)];
  if (range.elements == 0) return nullptr;
  return range.memory->data() + range.offset_bytes;
}

absl::StatusOr<const std::byte*> CallRun::Locate(int member, bool output,
                                                 int index, int64_t bytes,
                                                 absl::Duration timeout) {
  if (bytes == 0) return nullptr;
  if (member == self_) {
    const CollectiveRange& range =
        output ? call_.outputs[At(index)] : call_.inputs[At(index)];
    return range.memory->data() + range.offset_bytes;
  }
  const GroupBoard* board = c_.node.board(member);
  const BoardPlace place =
      (output ? board->output_places() : board->input_places())[index];
  absl::StatusOr<std::shared_ptr<MappedMemory>> memory =
      c_.node.Map(member, place, timeout);
  if (!memory.ok()) {
    return Annotate(memory.status(),
                    absl::StrCat("memory of ", MemberName(c_.members, member)));
  }
  if (place.offset < 0 || place.offset > (*memory)->size() - bytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        MemberName(c_.members, member), ": a range of ", bytes, " bytes at ",
        place.offset, " outside its memory of ", (*memory)->size()));
  }
  held_.push_back(*memory);
  return (*memory)->data() + place.offset;
}

CallRun::Incoming* CallRun::FindIncoming(int output) {
  for (const auto& in : incoming_) {
    if (in->output == output) return in.get();
  }
  return nullptr;
}

absl::Status CallRun::Prepare(absl::Duration timeout) {
  const CallPlan plan = MakeCallPlan(call_.kind, call_.root, c_.nodes, self_);
  PrepareMessages(plan);
  SLUICE_RETURN_IF_ERROR(PreparePulls(plan, timeout));
  SLUICE_RETURN_IF_ERROR(PrepareSums(plan, timeout));
  ShareCopies();
  return absl::OkStatus();
}

absl::Status CallRun::PreparePulls(const CallPlan& plan,
                                   absl::Duration timeout) {
  for (const CallPlan::Pull& step : plan.pulls) {
    Pull pull;
    pull.from = step.from;
    pull.bytes = call_.outputs[At(step.output)].elements * element_bytes_;
    SLUICE_ASSIGN_OR_RETURN(
        pull.source,
        Locate(step.from, step.from_output, step.index, pull.bytes, timeout));
    pull.destination = Output(step.output);
    if (pull.source == pull.destination) continue;  // in place
    if (step.from_output) {
      pull.board = c_.node.board(step.from);
      pull.relay = step.index;
    }
    pulls_.push_back(pull);
  }
  return absl::OkStatus();
}

void CallRun::ShareCopies() {
  const auto near = static_cast<int>(
      std::count(c_.nodes.begin(), c_.nodes.end(), c_.nodes[At(self_)]));
  const int copiers = call_.kind == CollectiveKind::kGather      ? 1
                      : call_.kind == CollectiveKind::kBroadcast ? near - 1
                                                                 : near;
  const int helpers = HelpersFor(copiers);
  std::vector<CopyCrew::Piece> pieces;
  int64_t bytes = 0;
  for (const Pull& pull : pulls_) {
    if (pull.board != nullptr) continue;  // it follows
    bytes += pull.bytes;
    for (int64_t i = 0; i < Pieces(pull.bytes); ++i) {
      pieces.push_back({pull.source + i * kPieceBytes,
                        pull.destination + i * kPieceBytes,
                        PieceBytes(pull.bytes, i)});
    }
  }
  if (helpers == 0 || bytes < kSharedBytes) return;
  std::erase_if(pulls_, [](const Pull& pull) { return pull.board == nullptr; });
  crew_ = std::make_unique<CopyCrew>(
      std::move(pieces), helpers, streaming_,
      [node = &c_.node](const CopyCrew::Piece& piece) {
        node->own().AddMoved(piece.bytes);
        node->own().Ring();
      });
}

void CallRun::Stop() {
  if (crew_ != nullptr) crew_->Stop();
}

void CallRun::PrepareMessages(const CallPlan& plan) {
  for (const CallPlan::Receive& step : plan.receives) {
    auto in = std::make_unique<Incoming>();
    in->from = step.from;
    in->output = step.output;
    in->relayed = step.relayed;
    in->data = Output(step.output);
    in->bytes = call_.outputs[At(step.output)].elements * element_bytes_;
    in->messages = std::make_shared<Messages>(Pieces(in->bytes));
    incoming_.push_back(std::move(in));
  }
  for (const CallPlan::Send& step : plan.sends) {
    auto out = std::make_unique<Outgoing>();
    out->to = step.to;
    out->bytes =
        ElementsOf(self_, step.from_output, step.index) * element_bytes_;
    const auto& ranges = step.from_output ? call_.outputs : call_.inputs;
    const CollectiveRange& range = ranges[At(step.index)];
    if (out->bytes > 0) {
      out->data = range.memory->data() + range.offset_bytes;
    }
    if (step.from_output) out->follows = FindIncoming(step.index);
    out->messages = std::make_shared<Messages>(Pieces(out->bytes));
    outgoing_.push_back(std::move(out));
  }
}

absl::Status CallRun::PrepareSums(const CallPlan& plan,
                                  absl::Duration timeout) {
  const int64_t acc = AccumulatorBytes(call_.dtype);
  const auto locate = [&](int member, int piece,
                          std::vector<ReduceInput>& inputs) {
    const int64_t bytes = ElementsOf(member, false, piece) * element_bytes_;
    const auto at = Locate(member, false, piece, bytes, timeout);
    if (at.ok()) inputs.push_back({*at, false});
    return at.status();
  };
  for (const CallPlan::SendSum& step : plan.sums) {
    Sum sum;
    sum.elements = ElementsOf(self_, false, step.to);
    for (size_t m = 0; m < c_.nodes.size(); ++m) {
      if (c_.nodes[m] != c_.nodes[At(self_)]) continue;
      SLUICE_RETURN_IF_ERROR(locate(static_cast<int>(m), step.to, sum.inputs));
    }
    auto out = std::make_unique<Outgoing>();
    out->to = step.to;
    out->in_ring = true;
    out->bytes = sum.elements * acc;
    out->ring = NewRing(out->bytes);
    out->messages = std::make_shared<Messages>(Pieces(out->bytes));
    sum.to = out.get();
    outgoing_.push_back(std::move(out));
    sums_.push_back(std::move(sum));
  }
  for (const CallPlan::Summand& step : plan.summands) {
    own_elements_ = ElementsOf(self_, true, 0);
    OwnSummand summand;
    for (const int m : step.members) {
      SLUICE_RETURN_IF_ERROR(locate(m, self_, summand.inputs));
    }
    if (step.from >= 0) {
      auto in = std::make_unique<Incoming>();
      in->from = step.from;
      in->bytes = own_elements_ * acc;
      in->ring = NewRing(in->bytes);
      in->messages = std::make_shared<Messages>(Pieces(in->bytes));
      summand.partial = in.get();
      incoming_.push_back(std::move(in));
    }
    own_.push_back(std::move(summand));
  }
  return absl::OkStatus();
}

bool CallRun::PumpIncoming(Incoming& in) {
  bool moved = false;
  const int64_t prefix = in.messages->Prefix();
  const int64_t limit = in.in_ring() ? in.consumed : prefix;
  while (in.posted < Pieces(in.bytes) && in.posted < limit + kWindow) {
    const int64_t piece = in.posted++;
    c_.net->Receive(in.from, in.At(piece), PieceBytes(in.bytes, piece),
                    [messages = in.messages, piece](absl::Status status) {
                      if (status.ok()) messages->SetDone(piece);
                    });
    moved = true;
  }
  if (prefix > in.told) {
    in.told = prefix;
    c_.node.own().AddMoved(1);
    if (in.relayed) {
      c_.node.own().SetRelayed(in.output, in.available());
      c_.node.RingAll();
    }
    moved = true;
  }
  return moved;
}

bool CallRun::PumpOutgoing(Outgoing& out) {
  bool moved = false;
  while (out.posted < Pieces(out.bytes) && out.Ready(out.posted) &&
         out.posted < out.messages->Prefix() + kWindow) {
    const int64_t piece = out.posted++;
    const std::byte* data =
        out.in_ring ? out.InRing(piece) : out.data + piece * kPieceBytes;
    c_.net->Send(out.to, data, PieceBytes(out.bytes, piece),
                 [messages = out.messages, piece](absl::Status status) {
                   if (status.ok()) messages->SetDone(piece);
                 });
    c_.node.own().AddMoved(1);
    moved = true;
  }
  return moved;
}

bool CallRun::StepPull(Pull& pull) {
  const int64_t available =
      pull.board == nullptr
          ? pull.bytes
          : std::min(pull.bytes, pull.board->relayed(pull.relay));
  const int64_t bytes = std::min(kPieceBytes, available - pull.done);
  if (bytes <= 0) return false;
  copy_internal::Rows rows;
  rows.src = pull.source + pull.done;
  rows.dst = pull.destination + pull.done;
  rows.count = 1;
  rows.bytes = bytes;
  // One row of up to 8 bytes would be taken for an element: as good.
  copy_internal::CopyRows(copy_internal::BestIsa(), rows, streaming_);
  pull.done += bytes;
  c_.node.own().AddMoved(bytes);
  return true;
}

bool CallRun::StepSum(Sum& sum) {
  Outgoing& out = *sum.to;
  if (out.made == Pieces(out.bytes) ||
      out.made >= out.messages->Prefix() + kWindow) {
    return false;
  }
  const int64_t acc = AccumulatorBytes(call_.dtype);
  const int64_t start = out.made * kPieceBytes / acc;
  std::vector<ReduceInput> inputs = sum.inputs;
  for (ReduceInput& input : inputs) input.data += start * element_bytes_;
  Reduction reduction;
  reduction.dtype = call_.dtype;
  reduction.elements = PieceBytes(out.bytes, out.made) / acc;
  reduction.out = out.InRing(out.made);
  reduction.out_accumulators = true;
  Reduce(copy_internal::BestIsa(), reduction, inputs);
  ++out.made;
  c_.node.own().AddMoved(reduction.elements);
  PumpOutgoing(out);
  return true;
}

bool CallRun::StepOwnSum() {
  if (own_done_ == own_elements_) return false;
  const int64_t acc = AccumulatorBytes(call_.dtype);
  const int64_t piece = own_done_ * acc / kPieceBytes;
  std::vector<ReduceInput> inputs;
  for (const OwnSummand& summand : own_) {
    for (ReduceInput input : summand.inputs) {
      input.data += own_done_ * element_bytes_;
      inputs.push_back(input);
    }
    if (summand.partial != nullptr) {
      if (summand.partial->messages->Prefix() <= piece) return false;
      inputs.push_back({summand.partial->At(piece), true});
    }
  }
  Reduction reduction;
  reduction.dtype = call_.dtype;
  reduction.elements = std::min(kPieceBytes / acc, own_elements_ - own_done_);
  if (call_.reduce == ReduceOp::kAverage) {
    reduction.divisor = static_cast<int32_t>(c_.nodes.size());
  }
  reduction.out = Output(0) + own_done_ * element_bytes_;
  reduction.streaming = streaming_;
  Reduce(copy_internal::BestIsa(), reduction, inputs);
  own_done_ += reduction.elements;
  c_.node.own().AddMoved(reduction.elements);
  for (const OwnSummand& summand : own_) {
    if (summand.partial != nullptr) summand.partial->consumed = piece + 1;
  }
  return true;
}

bool CallRun::Step() {
  bool moved = false;
  for (const auto& in : incoming_) moved |= PumpIncoming(*in);
  for (const auto& out : outgoing_) moved |= PumpOutgoing(*out);
  // What others wait for comes first.
  for (Sum& sum : sums_) {
    if (StepSum(sum)) return true;
  }
  if (StepOwnSum()) return true;
  for (Pull& pull : pulls_) {
    if (StepPull(pull)) return true;
  }
  if (crew_ != nullptr && crew_->Step()) return true;
  return moved;
}

bool CallRun::Finished() const {
  const auto over = [](const auto& stream) { return stream->over(); };
  return std::all_of(pulls_.begin(), pulls_.end(),
                     [](const Pull& p) { return p.done == p.bytes; }) &&
         (crew_ == nullptr || crew_->Finished()) &&
         own_done_ == own_elements_ &&
         std::all_of(incoming_.begin(), incoming_.end(),
                     [](const auto& in) {
                       return in->over() &&
                              (!in->relayed || in->told == Pieces(in->bytes));
                     }) &&
         std::all_of(outgoing_.begin(), outgoing_.end(), over);
}

std::vector<int> CallRun::WaitingFor() const {
  std::vector<int> out;
  const auto add = [&out](int member) {
    if (std::find(out.begin(), out.end(), member) == out.end()) {
      out.push_back(member);
    }
  };
  for (const Pull& pull : pulls_) {
    if (pull.done < pull.bytes) add(pull.from);
  }
  for (const auto& in : incoming_) {
    if (!in->over()) add(in->from);
  }
  for (const auto& stream : outgoing_) {
    if (!stream->over()) add(stream->to);
  }
  std::sort(out.begin(), out.end());
  return out;
}

}  // namespace sluice::agent
