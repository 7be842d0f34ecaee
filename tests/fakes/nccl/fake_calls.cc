// How a group call moves its bytes.

#include <algorithm>
#include <cstring>
#include <utility>

#include "tests/fakes/nccl/fake_arithmetic.h"
#include "tests/fakes/nccl/fake_comm.h"

using sluice::fake_nccl::Flow;
using sluice::fake_nccl::Kind;
using sluice::fake_nccl::kLogLength;
using sluice::fake_nccl::kRingBytes;
using sluice::fake_nccl::LogEntry;
using sluice::fake_nccl::Op;
using sluice::fake_nccl::Ring;

namespace {

// Before the bytes of each message.
struct Announcement {
  uint32_t kind;
  uint32_t unused;
  uint64_t bytes;
};

void Put(Ring& ring, const void* data, uint64_t bytes) {
  const uint64_t at = ring.written.load() % kRingBytes;
  const uint64_t first = std::min(bytes, kRingBytes - at);
  std::memcpy(ring.bytes + at, data, first);
  std::memcpy(ring.bytes, static_cast<const char*>(data) + first,
              bytes - first);
  ring.written += bytes;
}

void Peek(const Ring& ring, void* data, uint64_t bytes) {
  const uint64_t at = ring.read.load() % kRingBytes;
  const uint64_t first = std::min(bytes, kRingBytes - at);
  std::memcpy(data, ring.bytes + at, first);
  std::memcpy(static_cast<char*>(data) + first, ring.bytes, bytes - first);
}

void Take(Ring& ring, void* data, uint64_t bytes) {
  Peek(ring, data, bytes);
  ring.read += bytes;
}

Flow SendTo(int peer, const char* data, size_t bytes, Kind kind) {
  return {.send = true,
          .peer = peer,
          .data = const_cast<char*>(data),
          .bytes = bytes,
          .kind = kind};
}

Flow ReceiveFrom(int peer, char* data, size_t bytes, Kind kind) {
  return {
      .send = false, .peer = peer, .data = data, .bytes = bytes, .kind = kind};
}

void CopyOwn(const char* from, char* to, size_t bytes) {
  if (from != to && bytes > 0) std::memmove(to, from, bytes);
}

}  // namespace

void ncclComm::RunGroup(const std::vector<Op>& ops) {
  std::lock_guard lock(run_mutex_);
  std::vector<Flow> flows;
  for (const Op& op : ops) {
    if (stopped) return;
    if (op.kind == Kind::kSend) {
      flows.push_back(SendTo(op.root, op.from, op.bytes(), Kind::kSend));
    } else if (op.kind == Kind::kRecv) {
      flows.push_back(ReceiveFrom(op.root, op.to, op.bytes(), Kind::kSend));
    } else if (!Enter(op) || !RunCollective(op)) {
      return;
    }
  }
  RunFlows(std::move(flows));
}

bool ncclComm::Enter(const Op& op) {
  const uint64_t number = ++collectives_;
  LogEntry& own = board_.slot(rank).log[number % kLogLength];
  own.count = op.count;
  own.kind = static_cast<uint32_t>(op.kind);
  own.type = static_cast<int32_t>(op.type);
  own.op = static_cast<int32_t>(op.op);
  own.root = op.root;
  own.number = number;
  board_.NotifyAll();
  // A rank that entered something else is waited for in vain, as in NCCL.
  const auto all_same = [&] {
    for (int r = 0; r < ranks; ++r) {
      const LogEntry& peer = board_.slot(r).log[number % kLogLength];
      if (peer.number != number || peer.count != own.count ||
          peer.kind != own.kind || peer.type != own.type || peer.op != own.op ||
          peer.root != own.root) {
        return false;
      }
    }
    return true;
  };
  return board_.Wait(rank, all_same, stopped);
}

bool ncclComm::RunCollective(const Op& op) {
  const size_t bytes = op.bytes();
  const bool is_root = rank == op.root;
  std::vector<Flow> flows;
  for (int r = 0; r < ranks; ++r) {
    const char* from = op.from;
    char* to = op.to;
    bool sends = true;
    bool receives = true;
    switch (op.kind) {
      case Kind::kBroadcast:
        sends = is_root;
        receives = r == op.root;
        break;
      case Kind::kAllGather:
        to += r * bytes;
        break;
      case Kind::kAllToAll:
        from += r * bytes;
        to += r * bytes;
        break;
      case Kind::kGather:
        sends = r == op.root;
        receives = is_root;
        if (receives) to += r * bytes;
        break;
      case Kind::kScatter:
        sends = is_root;
        receives = r == op.root;
        if (sends) from += r * bytes;
        break;
      default:
        return RunReduction(op);
    }
    if (r == rank) {
      if (sends && receives) CopyOwn(from, to, bytes);
      continue;
    }
    if (sends) flows.push_back(SendTo(r, from, bytes, op.kind));
    if (receives) flows.push_back(ReceiveFrom(r, to, bytes, op.kind));
  }
  return RunFlows(std::move(flows));
}

// Everyone sends its part to where it is summed, which is done there.
bool ncclComm::RunReduction(const Op& op) {
  const size_t bytes = op.bytes();
  const bool sums = op.kind != Kind::kReduce || rank == op.root;
  const bool parted = op.kind == Kind::kReduceScatter;
  std::vector<std::vector<char>> parts(ranks);
  std::vector<const void*> inputs(ranks);
  std::vector<Flow> flows;
  for (int r = 0; r < ranks; ++r) {
    const char* own = parted ? op.from + r * bytes : op.from;
    if (r == rank) {
      inputs[r] = own;
      continue;
    }
    if (op.kind != Kind::kReduce || r == op.root) {
      flows.push_back(SendTo(r, own, bytes, op.kind));
    }
    if (sums) {
      parts[r].resize(bytes);
      inputs[r] = parts[r].data();
      flows.push_back(ReceiveFrom(r, parts[r].data(), bytes, op.kind));
    }
  }
  if (!RunFlows(std::move(flows))) return false;
  if (sums) {
    sluice::fake_nccl::Reduce(op.type, op.op, op.count, inputs, op.to);
  }
  return true;
}

bool ncclComm::RunFlows(std::vector<Flow> flows) {
  while (!flows.empty()) {
    bool moved = false;
    const auto step = [&] {
      // Of each direction with each peer, only the first is on its way.
      uint32_t sending = 0;
      uint32_t receiving = 0;
      for (Flow& flow : flows) {
        uint32_t& busy = flow.send ? sending : receiving;
        if ((busy >> flow.peer & 1) != 0) continue;
        moved |= Advance(flow);
        if (!flow.announced || flow.moved < flow.bytes) busy |= 1u << flow.peer;
      }
      return moved;
    };
    if (!board_.Wait(rank, step, stopped)) return false;
    flows.erase(std::remove_if(flows.begin(), flows.end(),
                               [](const Flow& flow) {
                                 return flow.announced &&
                                        flow.moved == flow.bytes;
                               }),
                flows.end());
  }
  return !stopped;
}

bool ncclComm::Advance(Flow& flow) {
  Ring& ring =
      flow.send ? board_.ring(rank, flow.peer) : board_.ring(flow.peer, rank);
  const uint64_t filled = ring.written.load() - ring.read.load();
  uint64_t room = flow.send ? kRingBytes - filled : filled;
  bool moved = false;
  if (!flow.announced) {
    if (room < sizeof(Announcement)) return false;
    Announcement announcement = {static_cast<uint32_t>(flow.kind), 0,
                                 flow.bytes};
    if (flow.send) {
      Put(ring, &announcement, sizeof announcement);
    } else {
      // What was sent is not what is expected: NCCL would wait for ever. The
      // announcement stays where it is, so that this does, too.
      Announcement sent;
      Peek(ring, &sent, sizeof sent);
      if (sent.kind != announcement.kind || sent.bytes != flow.bytes) {
        return false;
      }
      ring.read += sizeof sent;
    }
    flow.announced = true;
    moved = true;
    room -= sizeof(Announcement);
  }
  const uint64_t bytes = std::min(room, flow.bytes - flow.moved);
  if (bytes > 0) {
    if (flow.send) {
      Put(ring, flow.data + flow.moved, bytes);
    } else {
      Take(ring, flow.data + flow.moved, bytes);
    }
    flow.moved += bytes;
    moved = true;
  }
  if (moved) board_.Notify(flow.peer);
  return moved;
}
