#ifndef SLUICE_TESTS_SIM_ELEMENT_MAP_H_
#define SLUICE_TESTS_SIM_ELEMENT_MAP_H_

// Where each element of a placement lies in one agent's buffer, element by
// element: slow, obvious, and none of the code it checks.

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/box.h"
#include "common/dtype.h"
#include "common/model.h"
#include "tests/sim/contents.h"

namespace sluice::sim {

using Bytes = std::vector<uint8_t>;

class ElementMap {
 public:
  struct Element {
    TensorIndex tensor;
    int64_t index = 0;         // flat, row-major, in the logical tensor
    int64_t offset_bytes = 0;  // in the placement's buffer
    DType dtype = DType::kUnspecified;  // as it is held
    int64_t bytes = 0;
  };

  ElementMap(const ModelSpec& spec, const RankLayout& layout);

  const std::vector<Element>& elements() const { return elements_; }
  // Null if this agent does not hold the element.
  const Element* Find(TensorIndex tensor, int64_t index) const;

  // Writes element `i` of the content.
  void Write(Bytes& bytes, int64_t base, size_t i, ContentId content) const;
  // Returns what is wrong; empty if all bytes are the content's.
  std::string Check(const Bytes& bytes, int64_t base, ContentId content) const;

 private:
  std::vector<Element> elements_;
  std::map<std::pair<TensorIndex, int64_t>, size_t> by_index_;
};

// Flat indices of the elements of a box in a tensor of `shape`, row-major.
std::vector<int64_t> IndicesOf(const Box& box, const Shape& shape);

// Maps are made once per layout.
class ElementMaps {
 public:
  const ElementMap& Of(const ModelSpec& spec,
                       const std::shared_ptr<const RankLayout>& layout);

 private:
  struct Entry {
    std::shared_ptr<const RankLayout> layout;  // keeps the key's address taken
    std::unique_ptr<ElementMap> map;
  };
  std::map<const RankLayout*, Entry> maps_;
};

}  // namespace sluice::sim

#endif  // SLUICE_TESTS_SIM_ELEMENT_MAP_H_
