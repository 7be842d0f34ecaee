#ifndef SLUICE_TESTS_COMMON_LAYOUT_BUILDERS_H_
#define SLUICE_TESTS_COMMON_LAYOUT_BUILDERS_H_

// Small models, meshes and layouts for the tests of the layout language.

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "common/layout.h"
#include "common/mesh.h"
#include "common/model.h"

namespace sluice::testing {

// Ranks are not mesh indices: rank = 100 + index.
inline Mesh MakeMesh(std::vector<MeshAxis> axes) {
  Mesh mesh;
  int64_t size = 1;
  for (const MeshAxis& axis : axes) size *= axis.size;
  mesh.axes = std::move(axes);
  for (int64_t i = 0; i < size; ++i) {
    mesh.ranks.push_back(Rank(static_cast<int32_t>(100 + i)));
  }
  return mesh;
}

inline ModelSpec MakeModel(
    const std::vector<std::pair<std::string, Shape>>& tensors) {
  ModelSpec model;
  model.name = "m";
  for (const auto& [name, shape] : tensors) {
    model.tensors.push_back({name, DType::kBF16, shape});
  }
  return model;
}

inline LayoutRule MakeRule(std::string pattern,
                           std::vector<DimSplit> splits = {}) {
  LayoutRule rule;
  rule.pattern = std::move(pattern);
  rule.splits = std::move(splits);
  return rule;
}

inline DimSplit MakeSplit(int dim, std::string axis, int64_t unit = 1) {
  DimSplit split;
  split.dim = dim;
  split.axes = {std::move(axis)};
  split.unit = unit;
  return split;
}

inline Layout MakeLayout(std::vector<LayoutRule> rules) {
  Layout layout;
  layout.name = "l";
  layout.rules = std::move(rules);
  return layout;
}

inline Box B(std::vector<Interval> dims) { return Box(std::move(dims)); }

inline const LocalParam* FindParam(const RankLayout& rank,
                                   const std::string& name) {
  for (const LocalParam& param : rank.params) {
    if (param.name == name) return &param;
  }
  return nullptr;
}

inline std::vector<View> ViewsOf(const RankLayout& rank,
                                 const std::string& name) {
  std::vector<View> views;
  for (const View& view : rank.views) {
    if (rank.params[static_cast<size_t>(view.param)].name == name) {
      views.push_back(view);
    }
  }
  return views;
}

}  // namespace sluice::testing

#endif  // SLUICE_TESTS_COMMON_LAYOUT_BUILDERS_H_
