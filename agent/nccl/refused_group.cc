#include "agent/nccl/refused_group.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "agent/nccl/join_card.h"
#include "agent/nccl/member_slots.h"
#include "common/status_macros.h"

namespace sluice::agent {
namespace {

class RefusedGroup final : public CollectiveGroup {
 public:
  RefusedGroup(CollectiveMembers members, JoinCard card, MemberSlots slots,
               std::unique_ptr<CollectiveGroup> group)
      : members_(std::move(members)),
        card_(std::move(card)),
        slots_(std::move(slots)),
        group_(std::move(group)) {}

  // Whatever is asked for: the members tell each other of themselves instead.
  void Run(CollectiveCall, Done done) override {
    group_->Run(slots_.Call(),
                [this, done = std::move(done)](absl::Status met) mutable {
                  absl::Status verdict = Verdict(met);
                  if (met.ok()) group_->Abort(verdict, [] {});
                  std::move(done)(std::move(verdict));
                });
  }

  void Abort(absl::Status reason,
             absl::AnyInvocable<void() &&> ended) override {
    group_->Abort(std::move(reason), std::move(ended));
  }

 private:
  absl::Status Verdict(const absl::Status& met) const {
    if (absl::IsDeadlineExceeded(met)) {
      // Who has not come does not matter more than this one's own reason.
      std::vector<JoinCard> cards(members_.peers.size());
      cards[static_cast<size_t>(members_.self)] = card_;
      return Annotate(CheckCards(members_, cards),
                      absl::StrCat("not all came (", met.message(), ")"));
    }
    SLUICE_RETURN_IF_ERROR(met);
    SLUICE_ASSIGN_OR_RETURN(const std::vector<std::string> all, slots_.Read());
    std::vector<JoinCard> cards;
    for (const std::string& bytes : all) {
      SLUICE_ASSIGN_OR_RETURN(JoinCard card, JoinCard::Decode(bytes));
      cards.push_back(std::move(card));
    }
    return CheckCards(members_, cards);
  }

  const CollectiveMembers members_;
  const JoinCard card_;
  const MemberSlots slots_;
  // Last: its callbacks use the members above.
  const std::unique_ptr<CollectiveGroup> group_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<CollectiveGroup>> MakeRefusedGroup(
    const CollectiveMembers& members, const absl::Status& why, Device& host,
    const HostGroupControls::MakeGroup& make_group, HostGroupOptions options) {
  JoinCard card;
  card.refusal = std::string(why.message());
  SLUICE_ASSIGN_OR_RETURN(MemberSlots slots,
                          MemberSlots::Create(host, members));
  SLUICE_RETURN_IF_ERROR(slots.Write(card.Encode()));
  SLUICE_ASSIGN_OR_RETURN(auto group, make_group(members, std::move(options)));
  return std::make_unique<RefusedGroup>(members, std::move(card),
                                        std::move(slots), std::move(group));
}

}  // namespace sluice::agent
