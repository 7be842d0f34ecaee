#include "tests/sim/element_map.h"

#include "absl/strings/str_cat.h"
#include "common/check.h"

namespace sluice::sim {
namespace {

// Steps a coordinate through a box, row-major; false at the end.
bool Advance(const Box& box, std::vector<int64_t>& at) {
  for (int d = box.rank() - 1; d >= 0; --d) {
    if (++at[static_cast<size_t>(d)] < box.dim(d).hi) return true;
    at[static_cast<size_t>(d)] = box.dim(d).lo;
  }
  return false;
}

std::vector<int64_t> Start(const Box& box) {
  std::vector<int64_t> at;
  for (const Interval& dim : box.dims()) at.push_back(dim.lo);
  return at;
}

int64_t Flat(const std::vector<int64_t>& at, const Shape& shape) {
  int64_t index = 0;
  for (size_t d = 0; d < at.size(); ++d) index = index * shape[d] + at[d];
  return index;
}

}  // namespace

std::vector<int64_t> IndicesOf(const Box& box, const Shape& shape) {
  std::vector<int64_t> indices;
  if (box.empty()) return indices;
  std::vector<int64_t> at = Start(box);
  do {
    indices.push_back(Flat(at, shape));
  } while (Advance(box, at));
  return indices;
}

ElementMap::ElementMap(const ModelSpec& spec, const RankLayout& layout) {
  for (const View& view : layout.views) {
    if (view.box.empty()) continue;
    const TensorSpec& tensor = spec.tensor(view.tensor);
    const LocalParam& param = layout.params[static_cast<size_t>(view.param)];
    const int64_t bytes = ByteSize(param.dtype);
    std::vector<int64_t> at = Start(view.box);
    do {
      int64_t element = view.offset;
      for (size_t d = 0; d < at.size(); ++d) {
        element +=
            (at[d] - view.box.dim(static_cast<int>(d)).lo) * view.strides[d];
      }
      const int64_t index = Flat(at, tensor.shape);
      by_index_[{view.tensor, index}] = elements_.size();
      elements_.push_back({view.tensor, index,
                           param.offset_bytes + element * bytes, param.dtype,
                           bytes});
    } while (Advance(view.box, at));
  }
}

const ElementMap::Element* ElementMap::Find(TensorIndex tensor,
                                            int64_t index) const {
  const auto it = by_index_.find({tensor, index});
  return it == by_index_.end() ? nullptr : &elements_[it->second];
}

void ElementMap::Write(Bytes& bytes, int64_t base, size_t i,
                       ContentId content) const {
  const Element& element = elements_[i];
  for (int64_t b = 0; b < element.bytes; ++b) {
    bytes.at(static_cast<size_t>(base + element.offset_bytes + b)) =
        Contents::ParameterByte(content, element.tensor, element.index,
                                element.dtype, b);
  }
}

std::string ElementMap::Check(const Bytes& bytes, int64_t base,
                              ContentId content) const {
  int64_t wrong = 0;
  std::string first;
  for (const Element& element : elements_) {
    for (int64_t b = 0; b < element.bytes; ++b) {
      const uint8_t want = Contents::ParameterByte(
          content, element.tensor, element.index, element.dtype, b);
      const uint8_t found =
          bytes.at(static_cast<size_t>(base + element.offset_bytes + b));
      if (want == found) continue;
      if (wrong++ == 0) {
        first = absl::StrCat("tensor ", element.tensor.value(), " element ",
                             element.index, " byte ", b);
      }
    }
  }
  if (wrong == 0) return "";
  return absl::StrCat(wrong, " bytes are not content ", content, ", first ",
                      first);
}

const ElementMap& ElementMaps::Of(
    const ModelSpec& spec, const std::shared_ptr<const RankLayout>& layout) {
  SLUICE_CHECK(layout != nullptr);
  Entry& entry = maps_[layout.get()];
  if (entry.map == nullptr) {
    entry.layout = layout;
    entry.map = std::make_unique<ElementMap>(spec, *layout);
  }
  return *entry.map;
}

}  // namespace sluice::sim
