#include "agent/nccl/join_card.h"

#include <cstdint>
#include <map>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "agent/collective/call_header.h"
#include "common/convert_limits.h"
#include "common/nccl_version.h"
#include "common/status_macros.h"

namespace sluice::agent {
namespace {

// From here on NCCL takes several ranks on one device where it is told to.
constexpr int kSharesDevices = 23000;

// With the rest of a card in what members can tell each other.
constexpr int64_t kMaxRefusalBytes = 768;

// The host as NCCL tells hosts apart.
std::string HostOf(const CollectiveMembers& members,
                   const std::vector<JoinCard>& cards, size_t member) {
  const std::string& id = cards[member].host_id;
  if (!id.empty()) return absl::StrCat("NCCL_HOSTID ", id);
  return absl::StrCat("node ", members.peers[member].node);
}

absl::Status CheckRefusals(const CollectiveMembers& members,
                           const std::vector<JoinCard>& cards) {
  std::string refusal;
  int others = 0;
  for (size_t m = 0; m < cards.size(); ++m) {
    if (cards[m].refusal.empty()) continue;
    if (!refusal.empty()) {
      ++others;
      continue;
    }
    refusal = absl::StrCat(MemberName(members, static_cast<int>(m)),
                           " cannot join: ", cards[m].refusal);
  }
  if (refusal.empty()) return absl::OkStatus();
  if (others > 0) absl::StrAppend(&refusal, " (nor can ", others, " others)");
  return absl::FailedPreconditionError(refusal);
}

}  // namespace

std::string JoinCard::Encode() const {
  const std::string why =
      absl::StrReplaceAll(SafeText(refusal, kMaxRefusalBytes), {{"\n", " "}});
  return absl::StrCat(version, "\n", host_id, "\n", bus_id, "\n",
                      shares_device ? 1 : 0, "\n", why);
}

absl::StatusOr<JoinCard> JoinCard::Decode(absl::string_view bytes) {
  const std::vector<std::string> fields = absl::StrSplit(bytes, '\n');
  JoinCard card;
  int shares = 0;
  if (fields.size() != 5 || !absl::SimpleAtoi(fields[3], &shares) ||
      !absl::SimpleAtoi(fields[0], &card.version)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "no card of a member who joins: ", bytes.size(), " bytes"));
  }
  card.host_id = fields[1];
  card.bus_id = fields[2];
  card.shares_device = shares != 0;
  card.refusal = fields[4];
  return card;
}

absl::Status CheckCards(const CollectiveMembers& members,
                        const std::vector<JoinCard>& cards) {
  SLUICE_RETURN_IF_ERROR(CheckRefusals(members, cards));
  std::map<std::pair<std::string, std::string>, int> devices;
  for (size_t m = 0; m < cards.size(); ++m) {
    const int member = static_cast<int>(m);
    if (cards[m].version != cards[0].version) {
      return absl::FailedPreconditionError(absl::StrCat(
          MemberName(members, 0), " has NCCL ",
          NcclVersionName(cards[0].version), ", ", MemberName(members, member),
          " has ", NcclVersionName(cards[m].version),
          ": give all agents the same library (SLUICE_NCCL_LIBRARY)"));
    }
    const std::string host = HostOf(members, cards, m);
    const auto [first, inserted] =
        devices.emplace(std::make_pair(host, cards[m].bus_id), member);
    const bool can_share = cards[m].version >= kSharesDevices;
    if (!inserted && !(can_share && cards[m].shares_device &&
                       cards[first->second].shares_device)) {
      return absl::FailedPreconditionError(absl::StrCat(
          MemberName(members, first->second), " and ",
          MemberName(members, member), " share GPU ", cards[m].bus_id, " of ",
          host,
          ", which NCCL refuses: give each agent a GPU of its own "
          "(CUDA_VISIBLE_DEVICES), or, to test over sockets, a NCCL_HOSTID of "
          "its own",
          can_share ? "; or NCCL_MULTI_RANK_GPU_ENABLE=1 to each, to share it"
                    : ""));
    }
  }
  return absl::OkStatus();
}

}  // namespace sluice::agent
