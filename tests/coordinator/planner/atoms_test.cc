#include "coordinator/planner/atoms.h"

#include <algorithm>
#include <catch2/catch.hpp>

namespace sluice::coordinator {
namespace {

using Numbers = std::vector<int32_t>;

std::vector<Atom> Sorted(std::vector<Atom> atoms) {
  std::sort(atoms.begin(), atoms.end(),
            [](const Atom& a, const Atom& b) { return a.box < b.box; });
  return atoms;
}

TEST_CASE("atoms lie between the cut points of both sides", "[planner]") {
  // 12 rows: source in 4 blocks of 3, destination in 3 blocks of 4: cuts at
  // 3, 4, 6, 8, 9 make 6 atoms.
  const std::vector<Box> sources = {Box({{0, 3}}), Box({{3, 6}}), Box({{6, 9}}),
                                    Box({{9, 12}})};
  const std::vector<Box> destinations = {Box({{0, 4}}), Box({{4, 8}}),
                                         Box({{8, 12}})};
  const std::vector<Atom> atoms =
      Sorted(CutIntoAtoms({12}, sources, destinations));
  REQUIRE(atoms.size() == 6);
  CHECK(atoms[1].box == Box({{3, 4}}));
  CHECK(atoms[1].sources == Numbers{1});
  CHECK(atoms[1].destinations == Numbers{0});
  CHECK(atoms[4].box == Box({{8, 9}}));
  CHECK(atoms[4].sources == Numbers{2});
  CHECK(atoms[4].destinations == Numbers{2});
}

TEST_CASE("rows to columns make one atom per crossing", "[planner]") {
  const std::vector<Box> rows = {Box({{0, 2}, {0, 6}}), Box({{2, 4}, {0, 6}})};
  const std::vector<Box> columns = {
      Box({{0, 4}, {0, 2}}), Box({{0, 4}, {2, 4}}), Box({{0, 4}, {4, 6}})};
  CHECK(CutIntoAtoms({4, 6}, rows, columns).size() == 6);
}

TEST_CASE("an atom names all who cover it, and none is a hole", "[planner]") {
  // Sources overlap in [2,4); nobody holds [6,8); nobody wants [0,1).
  const std::vector<Box> sources = {Box({{0, 4}}), Box({{2, 6}})};
  const std::vector<Box> destinations = {Box({{1, 8}})};
  const std::vector<Atom> atoms =
      Sorted(CutIntoAtoms({8}, sources, destinations));
  REQUIRE(atoms.size() == 4);
  CHECK(atoms[0].box == Box({{1, 2}}));
  CHECK(atoms[1].box == Box({{2, 4}}));
  CHECK(atoms[1].sources == Numbers{0, 1});
  CHECK(atoms[3].box == Box({{6, 8}}));
  CHECK(atoms[3].sources.empty());
}

TEST_CASE("flat shards of a matrix cost a few atoms each", "[planner]") {
  // 64 x 64 elements cut into 50 flat ranges of 82 elements: each is at most 3
  // boxes. Taken in two blocks of rows. A grid of all faces would have
  // thousands of cells.
  std::vector<Box> sources;
  for (int64_t begin = 0; begin < 4096; begin += 82) {
    const int64_t end = std::min<int64_t>(begin + 82, 4096);
    for (int64_t at = begin; at < end;) {
      const int64_t row = at / 64;
      const bool whole = at % 64 == 0 && end - at >= 64;
      const int64_t rows = whole ? (end - at) / 64 : 1;
      const int64_t upto =
          whole ? (row + rows) * 64 : std::min((row + 1) * 64, end);
      sources.push_back(
          whole ? Box({{row, row + rows}, {0, 64}})
                : Box({{row, row + 1}, {at - row * 64, upto - row * 64}}));
      at = upto;
    }
  }
  const std::vector<Box> halves = {Box({{0, 32}, {0, 64}}),
                                   Box({{32, 64}, {0, 64}})};
  const std::vector<Atom> atoms = CutIntoAtoms({64, 64}, sources, halves);
  CHECK(atoms.size() <= sources.size() + 1);
  int64_t volume = 0;
  for (const Atom& atom : atoms) {
    CHECK(atom.sources.size() == 1);
    CHECK(atom.destinations.size() == 1);
    volume += atom.box.num_elements();
  }
  CHECK(volume == 4096);
}

TEST_CASE("a scalar is one atom", "[planner]") {
  const std::vector<Box> one = {Box(std::vector<Interval>{})};
  const std::vector<Atom> atoms = CutIntoAtoms({}, one, one);
  REQUIRE(atoms.size() == 1);
  CHECK(atoms[0].sources == Numbers{0});
}

TEST_CASE("boxes that touch are joined as far as they stay boxes",
          "[planner]") {
  // Four quarters and a piece to the right of the upper half.
  const std::vector<Box> boxes = {Box({{0, 1}, {0, 1}}), Box({{1, 2}, {1, 2}}),
                                  Box({{0, 1}, {1, 2}}), Box({{1, 2}, {0, 1}}),
                                  Box({{0, 1}, {2, 5}})};
  const std::vector<MergedBox> merged = MergeBoxes(boxes);
  REQUIRE(merged.size() == 2);
  CHECK(merged[0].box.num_elements() + merged[1].box.num_elements() == 7);
  CHECK(merged[0].parts.size() + merged[1].parts.size() == 5);
}

TEST_CASE("nothing to join is left as it is", "[planner]") {
  CHECK(MergeBoxes({}).empty());
  CHECK(MergeBoxes({Box({{0, 2}}), Box({{3, 4}})}).size() == 2);
}

}  // namespace
}  // namespace sluice::coordinator
