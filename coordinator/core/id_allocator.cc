#include "coordinator/core/id_allocator.h"

#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "common/retry.h"

namespace sluice::coordinator {
namespace {

constexpr uint64_t kBlock = 1000;

}  // namespace

ClusterRecord IdAllocator::Reserve() {
  reserved_ += kBlock;
  return ClusterRecord{context_.cluster_id, context_.epoch,
                       OperationId(reserved_)};
}

ClusterRecord IdAllocator::Start(OperationId reserved_before) {
  last_ = durable_ = reserved_ = reserved_before.value();
  return Reserve();
}

void IdAllocator::Started() { durable_ = reserved_; }

absl::StatusOr<uint64_t> IdAllocator::Next() {
  if (reserved_ == durable_ && durable_ - last_ <= kBlock / 2) {
    std::vector<Record> records;
    records.push_back(Reserve());
    const uint64_t reserved = reserved_;
    store_.WriteUntilDone(
        std::move(records),
        [this, reserved](const absl::Status&) { durable_ = reserved; });
  }
  if (last_ == durable_) {
    return Retryable(absl::UnavailableError(
        "operation ids are being reserved in the state store; retry"));
  }
  return ++last_;
}

}  // namespace sluice::coordinator
