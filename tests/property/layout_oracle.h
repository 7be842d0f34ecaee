#ifndef SLUICE_TESTS_PROPERTY_LAYOUT_ORACLE_H_
#define SLUICE_TESTS_PROPERTY_LAYOUT_ORACLE_H_

// What a layout means, element by element. Knows nothing of boxes: it decides
// for each single element who holds it, and lists each local parameter's
// elements in order.

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "common/layout.h"
#include "common/mesh.h"
#include "common/model.h"

namespace sluice::testing {

// Names are "layers.L.X", "layers.L.e.E.X" or without numbers; the patterns of
// the rules are these with {layer} and {expert}, or "rest.*". The stage axis is
// "pipe".
struct LayoutCase {
  ModelSpec model;
  Layout layout;
  Mesh mesh;
};

// A value that names one element of one tensor; 0 is padding.
int64_t ElementValue(size_t tensor, int64_t flat);

// Returns the local parameters of one agent: name -> values in memory order,
// padding left out.
std::map<std::string, std::vector<int64_t>> OracleParams(const LayoutCase& c,
                                                         int64_t mesh_index);

}  // namespace sluice::testing

#endif  // SLUICE_TESTS_PROPERTY_LAYOUT_ORACLE_H_
