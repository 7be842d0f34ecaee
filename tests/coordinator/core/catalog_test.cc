#include "coordinator/core/catalog.h"

#include <catch2/catch.hpp>

#include "absl/strings/str_cat.h"
#include "tests/support/status_matchers.h"

namespace sluice::coordinator {
namespace {

using ::sluice::testing::StatusIs;

constexpr Rank kA{0}, kB{1}, kC{2};

SampleEntry Entry(const std::string& id, const std::string& key,
                  std::vector<int64_t> lengths = {3, 2}) {
  return SampleEntry{id, key, DType::kF32, std::move(lengths), {4}};
}

TEST_CASE("the first holder owns an entry", "[core]") {
  Catalog catalog;
  REQUIRE_OK(catalog.Put(kB, {Entry("s", "k")}));
  REQUIRE_OK(catalog.Put(kA, {Entry("s", "k")}));
  REQUIRE_OK_AND_ASSIGN(const Catalog::Located found, catalog.Find("s", "k"));
  CHECK(found.owner == kB);
  CHECK(found.holders == std::vector<Rank>{kA, kB});
  CHECK(found.entry == Entry("s", "k"));
  CHECK(catalog.BytesOf(kA) == 5 * 4 * 4);  // 5 rows of 4 float32
  CHECK(catalog.num_tensors() == 1);
}

TEST_CASE("what is written differently is refused whole", "[core]") {
  Catalog catalog;
  REQUIRE_OK(catalog.Put(kA, {Entry("s", "k")}));
  CHECK_THAT(catalog.Put(kB, {Entry("new", "k"), Entry("s", "k", {5})}),
             StatusIs(absl::StatusCode::kInvalidArgument, "\"s\""));
  CHECK_FALSE(catalog.Has("new"));
  CHECK_THAT(catalog.Put(kB, {Entry("", "k")}),
             StatusIs(absl::StatusCode::kInvalidArgument));
  CHECK_THAT(catalog.Put(kB, {Entry("s", "")}),
             StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST_CASE("the lowest other holder becomes owner of a lost agent's entries",
          "[core]") {
  Catalog catalog;
  REQUIRE_OK(catalog.Put(kA, {Entry("shared", "k"), Entry("alone", "k")}));
  catalog.AddHolder(kC, Entry("shared", "k"), /*owned=*/false);
  catalog.AddHolder(kB, Entry("shared", "k"), /*owned=*/false);
  const Catalog::Loss loss = catalog.RemoveHolder(kA);
  CHECK(loss.reowned == 1);
  CHECK(loss.num_lost == 1);
  CHECK(loss.lost == std::vector<std::string>{"alone/k"});
  REQUIRE_OK_AND_ASSIGN(const Catalog::Located found,
                        catalog.Find("shared", "k"));
  CHECK(found.owner == kB);
  CHECK(found.holders == std::vector<Rank>{kB, kC});
  CHECK_FALSE(catalog.Has("alone"));
  CHECK(catalog.BytesOf(kA) == 0);
}

TEST_CASE("an inventory replaces what an agent held", "[core]") {
  Catalog catalog;
  REQUIRE_OK(catalog.Put(kA, {Entry("old", "k"), Entry("kept", "k")}));
  REQUIRE_OK(catalog.Put(kB, {Entry("other", "k", {1})}));
  std::vector<std::string> conflicts;
  const Catalog::Loss loss = catalog.SetHoldings(
      kA, {Entry("kept", "k"), Entry("new", "k"), Entry("other", "k", {2})},
      {false, true, false}, &conflicts);
  CHECK(loss.lost == std::vector<std::string>{"old/k"});
  CHECK(conflicts == std::vector<std::string>{"other/k"});
  CHECK(catalog.List("", 10) ==
        std::vector<std::string>{"kept", "new", "other"});
}

TEST_CASE("an agent that keeps part of a sample is still known to hold it",
          "[core]") {
  Catalog catalog;
  REQUIRE_OK(catalog.Put(kA, {Entry("s", "x"), Entry("s", "y", {7})}));
  REQUIRE_OK(catalog.Put(kB, {Entry("s", "x")}));
  std::vector<std::string> conflicts;
  Catalog::Loss loss =
      catalog.SetHoldings(kA, {Entry("s", "y", {7})}, {true}, &conflicts);
  CHECK(loss.reowned == 1);  // x, to B
  CHECK(loss.num_lost == 0);
  CHECK(catalog.Find("s", "x")->holders == std::vector<Rank>{kB});
  CHECK(catalog.BytesOf(kA) == 7 * 4 * 4);  // 7 rows of 4 float32
  loss = catalog.RemoveHolder(kA);
  CHECK(loss.lost == std::vector<std::string>{"s/y"});
  CHECK(catalog.num_tensors() == 1);
  loss = catalog.RemoveHolder(kB);
  CHECK(loss.lost == std::vector<std::string>{"s/x"});
  CHECK(catalog.num_samples() == 0);
  CHECK(catalog.List("", 10).empty());
}

TEST_CASE("an entry that is gone and comes again has another number",
          "[core]") {
  Catalog catalog;
  REQUIRE_OK(catalog.Put(kA, {Entry("s", "x"), Entry("s", "y")}));
  REQUIRE_OK_AND_ASSIGN(const Catalog::Located before, catalog.Find("s", "x"));
  catalog.RemoveHolder(kA);
  REQUIRE_OK(catalog.Put(kA, {Entry("s", "x", {1})}));
  REQUIRE_OK_AND_ASSIGN(const Catalog::Located after, catalog.Find("s", "x"));
  CHECK(before.id != after.id);
  CHECK(after.entry.sequence_lengths == std::vector<int64_t>{1});
}

TEST_CASE("what was lost is named in the order it came in", "[core]") {
  Catalog catalog;
  std::vector<std::string> expected;
  for (const char* id : {"m", "z", "a", "q"}) {
    REQUIRE_OK(catalog.Put(kA, {Entry(id, "k")}));
    expected.push_back(absl::StrCat(id, "/k"));
  }
  CHECK(catalog.RemoveHolder(kA).lost == expected);
}

TEST_CASE("an owner that comes back owns again", "[core]") {
  Catalog catalog;
  std::vector<std::string> conflicts;
  catalog.SetHoldings(kA, {Entry("s", "k")}, {false}, &conflicts);
  CHECK(catalog.Find("s", "k")->owner == kA);
  catalog.SetHoldings(kB, {Entry("s", "k")}, {true}, &conflicts);
  CHECK(catalog.Find("s", "k")->owner == kB);
}

TEST_CASE("locating names what nobody has", "[core]") {
  Catalog catalog;
  REQUIRE_OK(catalog.Put(kA, {Entry("s1", "z"), Entry("s1", "a")}));
  REQUIRE_OK(catalog.Put(kA, {Entry("s2", "a")}));
  REQUIRE_OK_AND_ASSIGN(const std::vector<Catalog::Located> all,
                        catalog.Locate({"s2", "s1"}, {}));
  REQUIRE(all.size() == 3);  // in order of the request, keys sorted
  CHECK(all[0].entry.sample_id == "s2");
  CHECK(all[1].entry.key == "a");
  CHECK(all[2].entry.key == "z");
  CHECK_THAT(catalog.Locate({"s1", "s3"}, {}),
             StatusIs(absl::StatusCode::kNotFound, "\"s3\""));
  CHECK_THAT(catalog.Locate({"s1", "s2"}, {"z"}),
             StatusIs(absl::StatusCode::kNotFound, "\"z\""));
  CHECK_THAT(catalog.Locate({"s3"}, {"z"}),
             StatusIs(absl::StatusCode::kNotFound, "\"s3\""));
}

TEST_CASE("lists come in pages", "[core]") {
  Catalog catalog;
  for (int i = 0; i < 5; ++i) {
    REQUIRE_OK(catalog.Put(kA, {Entry(absl::StrCat("s", i), "k")}));
  }
  CHECK(catalog.List("", 2) == std::vector<std::string>{"s0", "s1"});
  CHECK(catalog.List("s1", 2) == std::vector<std::string>{"s2", "s3"});
  CHECK(catalog.HasAfter("s3"));
  CHECK_FALSE(catalog.HasAfter("s4"));
}

TEST_CASE("clearing says what each agent has to drop", "[core]") {
  Catalog catalog;
  REQUIRE_OK(catalog.Put(kA, {Entry("s", "x")}));
  REQUIRE_OK(catalog.Put(kB, {Entry("s", "y")}));
  catalog.AddHolder(kB, Entry("s", "x"), /*owned=*/false);
  int64_t dropped = 0;
  SECTION("everywhere") {
    const std::vector<Catalog::Drop> drops =
        catalog.Clear({"s", "unknown", "s"}, /*keep_owners=*/false, &dropped);
    CHECK(dropped == 3);  // x on two agents, y on one
    REQUIRE(drops.size() == 2);
    CHECK(drops[0].rank == kA);
    CHECK(drops[0].keys.empty());
    CHECK(catalog.num_samples() == 0);
    CHECK(catalog.num_tensors() == 0);
    CHECK(catalog.BytesOf(kB) == 0);
  }
  SECTION("but at the owners") {
    const std::vector<Catalog::Drop> drops =
        catalog.Clear({"s"}, /*keep_owners=*/true, &dropped);
    CHECK(dropped == 1);
    REQUIRE(drops.size() == 1);
    CHECK(drops[0].rank == kB);
    CHECK(drops[0].keys == std::vector<std::string>{"x"});
    CHECK(catalog.Find("s", "x")->holders == std::vector<Rank>{kA});
    CHECK(catalog.Find("s", "y")->holders == std::vector<Rank>{kB});
  }
}

}  // namespace
}  // namespace sluice::coordinator
