#include "client/cpp/worker.h"

#include <utility>

#include "client/cpp/worker_impl.h"
#include "common/status_macros.h"

namespace sluice {

absl::StatusOr<v1::GetPlacementResponse> Worker::Impl::GetPlacement(
    const std::string& model, const std::string& placement) {
  v1::GetPlacementRequest request;
  request.set_model(model);
  request.set_placement(placement);
  return Call(&v1::WorkerService::Stub::GetPlacement, request);
}

absl::StatusOr<std::unique_ptr<Worker>> Worker::Attach(WorkerOptions options,
                                                       OnVersion on_version) {
  auto impl = std::make_shared<Impl>(std::move(options), std::move(on_version));
  SLUICE_RETURN_IF_ERROR(impl->Await().status());
  return std::unique_ptr<Worker>(new Worker(std::move(impl)));
}

Worker::Worker(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
Worker::~Worker() = default;

v1::Attached Worker::attached() const {
  const auto current = impl_->Await();
  return current.ok() ? current->attached : v1::Attached();
}

absl::StatusOr<v1::GetPlacementResponse> Worker::GetPlacement(
    const std::string& model, const std::string& placement) {
  return impl_->GetPlacement(model, placement);
}

absl::StatusOr<std::shared_ptr<SharedBytes>> Worker::Lend(
    const std::string& model, const std::string& placement) {
  return impl_->Lend(model, placement);
}

absl::Status Worker::LendDevice(const std::string& model,
                                const std::string& placement,
                                const DeviceBytes& memory) {
  return impl_->LendDevice(model, placement, memory);
}

absl::Status Worker::BeginWrite(const std::string& model,
                                const std::string& placement,
                                absl::Duration deadline) {
  return impl_->BeginWrite(model, placement, deadline);
}

absl::StatusOr<uint64_t> Worker::EndWrite(const std::string& model,
                                          const std::string& placement,
                                          int64_t step) {
  return impl_->EndWrite(model, placement, step);
}

absl::StatusOr<std::unique_ptr<PinnedVersion>> Worker::Pin(
    const std::string& model, const std::string& placement, uint64_t version,
    absl::Duration deadline) {
  return impl_->Pin(model, placement, version, deadline);
}

absl::Status Worker::PutSamples(absl::Span<const SampleValue> values) {
  return impl_->PutSamples(values);
}

absl::StatusOr<std::vector<SampleView>> Worker::GetSamples(
    const std::vector<std::string>& sample_ids,
    const std::vector<std::string>& keys) {
  return impl_->GetSamples(sample_ids, keys);
}

}  // namespace sluice
