// Part of Device: what is read from files, and digests of what is held.

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "agent/copy/digest.h"
#include "common/dtype.h"
#include "tests/sim/device.h"

namespace sluice::sim {
namespace {

// An element in as many bytes as its other type has.
std::vector<uint8_t> AsType(const uint8_t* element, int64_t bytes,
                            int64_t wanted) {
  std::vector<uint8_t> out(static_cast<size_t>(wanted), 0);
  for (int64_t b = 0; b < std::min(bytes, wanted); ++b) {
    out[static_cast<size_t>(wanted - 1 - b)] = element[bytes - 1 - b];
  }
  return out;
}

}  // namespace

void Device::Run(const agent::StartLoad& order) {
  Loading loading;
  loading.order = order;
  loading.content = d_.world.contents.OfDirectory(order.directory);
  loaded_[order.operation] = loading.content;
  loads_[order.operation] = std::move(loading);
  d_.process.After(absl::Microseconds(50),
                   [this, id = order.operation] { WorkOnLoad(id); });
}

void Device::Run(const agent::AbortLoad& order) {
  const auto it = loads_.find(order.operation);
  if (it != loads_.end()) it->second.stop = order.reason;
}

void Device::WorkOnLoad(OperationId id) {
  const auto it = loads_.find(id);
  if (it == loads_.end()) return;
  Loading& loading = it->second;
  d_.world.At(Moment::kLoading, d_.process.name());
  const agent::BoundPlacement& placement = loading.order.placement;
  const ElementMap& map = d_.world.maps.Of(*placement.spec, placement.layout);
  const MemoryPtr memory = Get(placement.buffer);
  absl::Status status = loading.stop;
  if (memory == nullptr) status = absl::InternalError("no memory to load to");
  // A truncated file is noticed half way.
  if (loading.next > map.elements().size() / 2 &&
      loading.order.directory == "/truncated") {
    status = absl::DataLossError("simulated: the file is truncated");
  }
  if (status.ok() && loading.next < map.elements().size()) {
    if (memory->pins > 0) {
      d_.world.history.Violation(d_.process.name(), " load ", id.value(),
                                 " writes pinned memory");
    }
    for (int64_t n = 1 + d_.world.random.Below(16);
         n > 0 && loading.next < map.elements().size(); --n) {
      map.Write(memory->bytes, placement.offset_bytes, loading.next++,
                loading.content);
    }
    d_.process.After(
        d_.world.random.Between(absl::Microseconds(20), kLongestStep),
        [this, id] { WorkOnLoad(id); });
    return;
  }
  loads_.erase(it);
  d_.post(agent::LoadDoneEvent{id, status, {}});
}

ContentId Device::ContentOfLoad(OperationId operation) const {
  const auto it = loaded_.find(operation);
  return it == loaded_.end() ? 0 : it->second;
}

void Device::Run(const agent::ReadDigests& order) {
  d_.process.After(
      d_.world.random.Between(absl::ZeroDuration(), kLongestStep),
      [this, order] {
        agent::DigestsReadEvent event{order.operation, absl::OkStatus(), {}};
        const MemoryPtr memory = Get(order.placement.buffer);
        const ModelSpec& spec = *order.placement.spec;
        const ElementMap& map = d_.world.maps.Of(spec, order.placement.layout);
        for (const View& view : order.placement.layout->views) {
          BoxDigest digest{view.tensor, view.box, Digest()};
          const TensorSpec& tensor = spec.tensor(view.tensor);
          for (const int64_t index : IndicesOf(view.box, tensor.shape)) {
            const ElementMap::Element& element = *map.Find(view.tensor, index);
            const int64_t at =
                order.placement.offset_bytes + element.offset_bytes;
            const DType wanted =
                order.dtypes.empty()
                    ? element.dtype
                    : order.dtypes[static_cast<size_t>(view.tensor.value())];
            const std::vector<uint8_t> value = AsType(
                memory->bytes.data() + at, element.bytes, ByteSize(wanted));
            const auto bytes = static_cast<int64_t>(value.size());
            digest.digest +=
                agent::DigestRun(value.data(), index * bytes, bytes);
          }
          event.digests.push_back(std::move(digest));
        }
        d_.post(std::move(event));
      });
}

}  // namespace sluice::sim
