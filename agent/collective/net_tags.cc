#include "agent/collective/net_tags.h"

#include <atomic>

namespace sluice::agent {
namespace {

// 1 bit of ours, 24 of the receiver's port, 10 of the sender, 3 of the kind, 26
// of the number.
constexpr uint64_t kOurs = uint64_t{1} << 63;
constexpr int kPortShift = 39;
constexpr int kSenderShift = 29;
constexpr int kKindShift = 26;
constexpr uint64_t kNumberMask = (uint64_t{1} << kKindShift) - 1;
constexpr uint32_t kPortMask = (1u << 24) - 1;

uint64_t Mix(uint64_t x) {
  x = (x ^ x >> 31) * 0x7fb5d329728ea185u;
  x = (x ^ x >> 27) * 0x81dadef4bc2dd44du;
  return x ^ x >> 33;
}

}  // namespace

uint64_t NetTag(uint32_t port, int sender, NetKind kind, uint64_t number) {
  return kOurs | uint64_t{port} << kPortShift |
         static_cast<uint64_t>(sender) << kSenderShift |
         static_cast<uint64_t>(kind) << kKindShift | (number & kNumberMask);
}

uint64_t NetHelloTag(uint64_t group, int sender, int receiver) {
  const uint64_t hash = Mix(group + static_cast<uint64_t>(receiver));
  return NetTag(static_cast<uint32_t>(hash >> 40) & kPortMask, sender,
                NetKind::kHello, hash);
}

uint32_t NextNetPort() {
  static std::atomic<uint32_t> next{0};
  uint32_t port = 0;
  while (port == 0) port = ++next & kPortMask;  // 0 is none
  return port;
}

bool IsLaterNetPort(uint32_t port, uint32_t other) {
  return other == 0 ||
         (port != other && ((port - other) & kPortMask) <= kPortMask / 2);
}

UcxTransport::GroupId NextNetOperations() {
  static std::atomic<uint64_t> next{0};
  return kOurs | ++next;
}

}  // namespace sluice::agent
