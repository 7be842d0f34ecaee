#include "agent/core/copy_states.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/check.h"

namespace sluice::agent {

std::string Copy::Users() const {
  std::vector<std::string> users;
  if (occupied())
    users.push_back(absl::StrCat("operation ", operation.value()));
  if (state == CopyState::kWriting) users.push_back("an open write bracket");
  for (const OperationId reader : readers) {
    users.push_back(absl::StrCat("operation ", reader.value()));
  }
  for (const auto& [pin, worker] : pins) {
    users.push_back(absl::StrCat("a pin of worker ", worker));
  }
  return absl::StrJoin(users, ", ");
}

std::optional<int> CopySet::FindPublished(Version version) const {
  if (version == Version()) return std::nullopt;
  if (current_.has_value() && copy(*current_).version == version) {
    return current_;
  }
  for (int i = 0; i < size(); ++i) {
    if (copy(i).state == CopyState::kPublished && copy(i).version == version) {
      return i;
    }
  }
  return std::nullopt;
}

bool CopySet::MayBecome(Version version) const {
  for (const Copy& copy : copies_) {
    if (!copy.occupied()) continue;
    if (copy.version == version || version == Version()) return true;
    // A load learns its version with its commit; it is the newest then.
    if (copy.version == Version() && version > current_version()) return true;
  }
  return false;
}

int CopySet::Target() const {
  if (lent()) return 0;
  if (current_.has_value()) return 1 - *current_;
  return copies_[0].occupied() ? 1 : 0;
}

void CopySet::BeginFill(int index, OperationId operation, Version version) {
  Copy& target = copy(index);
  SLUICE_CHECK(!target.occupied() && target.readers.empty() &&
               target.pins.empty())
      << "copy " << index << " is used by " << target.Users();
  SLUICE_CHECK(lent() || current_ != index) << "copy " << index;
  if (current_ == index) current_.reset();
  target.state = CopyState::kFilling;
  target.operation = operation;
  target.version = version;
  target.step = 0;
}

void CopySet::Stage(int index) {
  SLUICE_CHECK(copy(index).state == CopyState::kFilling) << "copy " << index;
  copy(index).state = CopyState::kStaged;
}

void CopySet::Publish(int index, Version version) {
  Copy& target = copy(index);
  SLUICE_CHECK(target.state == CopyState::kStaged) << "copy " << index;
  target.state = CopyState::kPublished;
  target.version = version;
  target.operation = OperationId();
  current_ = index;
}

void CopySet::Discard(int index) {
  Copy& target = copy(index);
  SLUICE_CHECK(target.occupied()) << "copy " << index;
  target.state = lent() ? CopyState::kTorn : CopyState::kAbsent;
  target.version = Version();
  target.operation = OperationId();
}

void CopySet::BeginWrite() {
  Copy& target = copy(0);
  SLUICE_CHECK(lent() && !target.occupied() && target.readers.empty() &&
               target.pins.empty())
      << "the copy is used by " << target.Users();
  current_.reset();
  target.state = CopyState::kWriting;
  target.version = Version();
  target.step = 0;
}

void CopySet::EndWrite(int64_t step) {
  Copy& target = copy(0);
  SLUICE_CHECK(target.state == CopyState::kWriting);
  target.state = CopyState::kPublished;
  target.step = step;
}

bool CopySet::AssignVersion(int64_t step, Version version) {
  Copy& target = copy(0);
  if (!lent() || target.state != CopyState::kPublished || target.step != step ||
      version == Version()) {
    return false;
  }
  target.version = version;
  current_ = 0;
  return true;
}

void CopySet::Tear() {
  Copy& target = copy(0);
  SLUICE_CHECK(target.state == CopyState::kWriting);
  target.state = CopyState::kTorn;
}

void CopySet::Lose() {
  Copy& target = copy(0);
  SLUICE_CHECK(lent() && !target.occupied() &&
               target.state != CopyState::kWriting)
      << "the copy is used by " << target.Users();
  current_.reset();
  if (target.state == CopyState::kPublished) target.state = CopyState::kTorn;
  target.version = Version();
  target.step = 0;
  target.buffer = BufferId();
  target.offset_bytes = 0;
}

void CopySet::Replace(BufferId buffer, int64_t offset_bytes, Version version,
                      int64_t step) {
  Copy& target = copy(0);
  SLUICE_CHECK(lent() && !target.occupied() && target.readers.empty() &&
               target.pins.empty())
      << "the copy is used by " << target.Users();
  target.buffer = buffer;
  target.offset_bytes = offset_bytes;
  target.version = version;
  target.step = step;
  const bool content = version != Version() || step != 0;
  target.state = content ? CopyState::kPublished : CopyState::kAbsent;
  current_.reset();
  if (version != Version()) current_ = 0;
}

std::vector<CopyInventory> CopySet::Inventory() const {
  std::vector<CopyInventory> inventory;
  for (const Copy& copy : copies_) {
    const bool filling = copy.state == CopyState::kFilling;
    inventory.push_back({copy.state, filling ? Version() : copy.version,
                         copy.operation, copy.step});
  }
  return inventory;
}

}  // namespace sluice::agent
