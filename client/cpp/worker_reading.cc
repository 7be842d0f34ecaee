// The part of a worker that pins versions and puts and gets samples.

#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/cpp/worker_impl.h"
#include "common/convert_tensor.h"
#include "common/convert_time.h"
#include "common/plan.h"

namespace sluice {
namespace {

// Bytes of a sample's tensor; 0 for an entry that is no sample's.
int64_t SampleBytes(const v1::SampleEntry& proto) {
  const absl::StatusOr<SampleEntry> entry = FromProto(proto);
  return entry.ok() ? entry->num_bytes() : 0;
}

// A pin that is released when it goes, if its attachment still stands.
class Pinned final : public PinnedVersion {
 public:
  // `memory` is null if this rank holds nothing of the placement.
  Pinned(const v1::PinResponse& response,
         std::shared_ptr<agent::MappedMemory> memory,
         std::function<void(const std::string& event)> unpin)
      : version_(response.version()),
        memory_(std::move(memory)),
        data_(memory_ == nullptr ? nullptr
                                 : memory_->data() + response.offset_bytes()),
        bytes_(response.bytes()),
        unpin_(std::move(unpin)) {
    if (!response.has_device()) return;
    const v1::DeviceMemory& device = response.device();
    device_ = DeviceBytes{device.handle(),
                          device.offset_bytes() + response.offset_bytes(),
                          response.bytes(), device.event()};
  }
  ~Pinned() override { unpin_(read_event_); }
  uint64_t version() const override { return version_; }
  const std::byte* data() const override { return data_; }
  int64_t size() const override { return bytes_; }
  const std::optional<DeviceBytes>& device() const override { return device_; }
  void SetReadEvent(std::string event) override {
    read_event_ = std::move(event);
  }

 private:
  const uint64_t version_;
  const std::shared_ptr<agent::MappedMemory> memory_;
  const std::byte* const data_;
  const int64_t bytes_;
  std::optional<DeviceBytes> device_;
  std::string read_event_;
  const std::function<void(const std::string& event)> unpin_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<PinnedVersion>> Worker::Impl::Pin(
    const std::string& model, const std::string& placement, uint64_t version,
    absl::Duration deadline) {
  v1::PinRequest request;
  request.set_model(model);
  request.set_placement(placement);
  request.set_version(version);
  *request.mutable_deadline() = ToProto(deadline);
  SLUICE_ASSIGN_OR_RETURN(
      const v1::PinResponse response,
      Call(&v1::WorkerService::Stub::Pin, request, deadline));
  SLUICE_ASSIGN_OR_RETURN(const Attachment::Current current, Await());
  const auto unpin = [self = shared_from_this(), pin = response.pin(),
                      generation =
                          current.generation](const std::string& event) {
    self->Unpin(pin, generation, event);
  };
  std::shared_ptr<agent::MappedMemory> memory;
  if (response.bytes() > 0 && !response.has_device()) {
    auto fetched = FetchMemory(SourceOf(current), response.token(),
                               agent::Access::kReadOnly);
    if (fetched.ok() &&
        (response.offset_bytes() < 0 ||
         response.bytes() > (*fetched)->size() - response.offset_bytes())) {
      fetched = absl::InternalError("a pin outside its memory");
    }
    if (!fetched.ok()) {
      unpin("");
      return fetched.status();
    }
    memory = *std::move(fetched);
  }
  return std::make_unique<Pinned>(response, std::move(memory), unpin);
}

void Worker::Impl::Unpin(uint64_t pin, uint64_t generation,
                         const std::string& event) {
  // A pin ends with its attachment; there is nothing to release in a new one.
  const auto current = attachment_.Await(absl::Now());
  if (!current.ok() || current->generation != generation) return;
  v1::UnpinRequest request;
  request.set_session(current->attached.session());
  request.set_pin(pin);
  request.set_event(event);
  v1::UnpinResponse response;
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(absl::Now() + options_.rpc_deadline));
  attachment_.stub().Unpin(&context, request, &response);
}

absl::StatusOr<std::map<uint64_t, std::shared_ptr<agent::MappedMemory>>>
Worker::Impl::MapTokens(
    const Attachment::Current& current,
    const google::protobuf::RepeatedPtrField<v1::SamplePlace>& places,
    agent::Access access) {
  std::map<uint64_t, std::shared_ptr<agent::MappedMemory>> mapped;
  for (const v1::SamplePlace& place : places) {
    // An empty tensor lies nowhere.
    if (SampleBytes(place.entry()) == 0) continue;
    auto& memory = mapped[place.token()];
    if (memory != nullptr) continue;
    SLUICE_ASSIGN_OR_RETURN(
        memory, FetchMemory(SourceOf(current), place.token(), access));
  }
  return mapped;
}

absl::Status Worker::Impl::PutSamples(absl::Span<const SampleValue> values) {
  v1::ReserveSamplesRequest reserve;
  for (const SampleValue& value : values) {
    *reserve.add_entries() = value.entry;
  }
  SLUICE_ASSIGN_OR_RETURN(
      const v1::ReserveSamplesResponse reserved,
      Call(&v1::WorkerService::Stub::ReserveSamples, std::move(reserve)));
  if (static_cast<size_t>(reserved.places_size()) != values.size()) {
    return absl::InternalError(absl::StrCat("reserved ", reserved.places_size(),
                                            " places for ", values.size(),
                                            " samples"));
  }
  SLUICE_ASSIGN_OR_RETURN(const Attachment::Current current, Await());
  SLUICE_ASSIGN_OR_RETURN(
      const auto memories,
      MapTokens(current, reserved.places(), agent::Access::kReadWrite));
  for (size_t i = 0; i < values.size(); ++i) {
    const v1::SamplePlace& place = reserved.places(static_cast<int>(i));
    const int64_t bytes = SampleBytes(values[i].entry);
    if (bytes == 0) continue;
    const auto& memory = memories.at(place.token());
    if (place.offset_bytes() < 0 ||
        bytes > memory->size() - place.offset_bytes()) {
      return absl::InternalError(absl::StrCat("place of ",
                                              values[i].entry.sample_id(),
                                              " lies outside its segment"));
    }
    std::memcpy(memory->data() + place.offset_bytes(), values[i].data,
                static_cast<size_t>(bytes));
  }
  v1::CommitSamplesRequest commit;
  commit.set_reservation(reserved.reservation());
  return Call(&v1::WorkerService::Stub::CommitSamples, commit, kAckWait)
      .status();
}

absl::StatusOr<std::vector<SampleView>> Worker::Impl::GetSamples(
    const std::vector<std::string>& sample_ids,
    const std::vector<std::string>& keys) {
  v1::GetSamplesRequest request;
  *request.mutable_sample_ids() = {sample_ids.begin(), sample_ids.end()};
  *request.mutable_keys() = {keys.begin(), keys.end()};
  SLUICE_ASSIGN_OR_RETURN(
      const v1::GetSamplesResponse response,
      Call(&v1::WorkerService::Stub::GetSamples, std::move(request)));
  SLUICE_ASSIGN_OR_RETURN(const Attachment::Current current, Await());
  SLUICE_ASSIGN_OR_RETURN(
      const auto memories,
      MapTokens(current, response.places(), agent::Access::kReadOnly));
  std::vector<SampleView> views;
  for (const v1::SamplePlace& place : response.places()) {
    SampleView view;
    view.entry = place.entry();
    view.bytes = SampleBytes(place.entry());
    if (view.bytes > 0) {
      view.memory = AsSharedBytes(memories.at(place.token()));
      view.data = view.memory->data() + place.offset_bytes();
    }
    views.push_back(std::move(view));
  }
  return views;
}

}  // namespace sluice
