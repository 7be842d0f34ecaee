// Every convert_* library: what goes out comes back the same, and what no
// sender of ours would send is refused with the field's name.

#include <google/protobuf/util/message_differencer.h>

#include <catch2/catch.hpp>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "common/convert_layout.h"
#include "common/convert_limits.h"
#include "common/convert_tensor.h"
#include "common/convert_time.h"
#include "tests/support/status_matchers.h"

namespace sluice {
namespace {

using testing::StatusIs;
constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
constexpr int64_t kMaxInt64 = std::numeric_limits<int64_t>::max();

v1::TensorSpec TensorProto() {
  v1::TensorSpec proto;
  proto.set_name("model.embed_tokens.weight");
  proto.set_dtype(v1::DTYPE_BF16);
  proto.add_shape(151936);
  proto.add_shape(1536);
  return proto;
}

v1::ModelSpec ModelProto() {
  v1::ModelSpec proto;
  proto.set_name("policy");
  *proto.add_tensors() = TensorProto();
  (*proto.mutable_aliases())["lm_head.weight"] = "model.embed_tokens.weight";
  return proto;
}

v1::SampleEntry EntryProto() {
  v1::SampleEntry proto;
  proto.set_sample_id("s-1");
  proto.set_key("logprobs");
  proto.set_dtype(v1::DTYPE_BF16);
  proto.add_sequence_lengths(3);
  proto.add_sequence_lengths(0);
  proto.add_trailing_shape(4);
  return proto;
}

v1::LayoutRule RuleProto() {
  v1::LayoutRule proto;
  proto.set_pattern("model.layers.{layer}.self_attn.q_proj.weight");
  proto.set_local_name("decoder.{layer}.qkv");
  proto.set_stage(v1::STAGE_RULE_BY_LAYER);
  v1::DimSplit& split = *proto.add_splits();
  split.add_axes("tensor");
  split.set_unit(128);
  split.set_driver_units(12);
  proto.set_fused(true);
  proto.set_interleave(2);
  proto.set_dtype(v1::DTYPE_F32);
  return proto;
}

v1::Mesh MeshProto() {
  v1::Mesh proto;
  for (const auto& [name, size] : std::vector<std::pair<std::string, int64_t>>{
           {"data", 1}, {"tensor", 2}}) {
    v1::MeshAxis& axis = *proto.add_axes();
    axis.set_name(name);
    axis.set_size(size);
  }
  proto.add_agents("a");
  proto.add_agents("b");
  return proto;
}

v1::View ViewProto() {
  v1::View proto;
  proto.mutable_box()->add_lo(4);
  proto.mutable_box()->add_hi(8);
  proto.set_offset(16);
  proto.add_strides(2);
  return proto;
}

// Whether `proto` comes back unchanged from the domain.
template <typename Proto>
void CheckRoundTrip(const Proto& proto) {
  const auto value = FromProto(proto);
  REQUIRE_OK(value);
  const Proto back = ToProto(*value);
  CAPTURE(proto.DebugString(), back.DebugString());
  CHECK(google::protobuf::util::MessageDifferencer::Equals(proto, back));
}

TEST_CASE("every element type survives the wire, none else does", "[convert]") {
  for (int i = 1; i <= 12; ++i) {
    CAPTURE(i);
    const auto dtype = FromProto(static_cast<v1::DType>(i));
    REQUIRE_OK(dtype);
    CHECK(static_cast<int>(ToProto(*dtype)) == i);
  }
  CHECK_THAT(FromProto(v1::DTYPE_UNSPECIFIED), StatusIs(kInvalid, "0"));
  CHECK_THAT(FromProto(static_cast<v1::DType>(77)), StatusIs(kInvalid, "77"));
}

TEST_CASE("tensors, models, views and samples survive the wire", "[convert]") {
  CheckRoundTrip(TensorProto());
  CheckRoundTrip(ModelProto());
  CheckRoundTrip(EntryProto());
  v1::RankLayout layout;
  v1::LocalParam& param = *layout.add_params();
  param.set_name("qkv");
  param.set_dtype(v1::DTYPE_F32);
  param.add_shape(64);
  param.set_offset_bytes(256);
  *layout.add_views() = ViewProto();
  layout.set_buffer_bytes(512);
  CheckRoundTrip(layout);
  CheckRoundTrip(v1::Box());  // a scalar's
}

TEST_CASE("aliases come in one order whatever the map's", "[convert]") {
  v1::ModelSpec proto = ModelProto();
  for (const char* alias : {"z", "a", "m"}) {
    (*proto.mutable_aliases())[alias] = "model.embed_tokens.weight";
  }
  REQUIRE_OK_AND_ASSIGN(const ModelSpec model, FromProto(proto));
  std::vector<std::string> aliases;
  for (const auto& [alias, canonical] : model.aliases) aliases.push_back(alias);
  CHECK(aliases == std::vector<std::string>{"a", "lm_head.weight", "m", "z"});
}

TEST_CASE("a malformed tensor is refused by name", "[convert]") {
  v1::ModelSpec proto = ModelProto();
  v1::TensorSpec& tensor = *proto.mutable_tensors(0);
  const std::string name = tensor.name();
  SECTION("negative size") { tensor.set_shape(0, -1); }
  SECTION("elements overflow") {
    tensor.set_shape(0, int64_t{1} << 40);
    tensor.set_shape(1, int64_t{1} << 40);
  }
  SECTION("bytes overflow") {
    // 2^62 elements fit, of two bytes each they do not.
    tensor.set_shape(0, int64_t{1} << 62);
    tensor.set_shape(1, 1);
  }
  SECTION("dtype unspecified") { tensor.clear_dtype(); }
  SECTION("dtype unknown") { tensor.set_dtype(static_cast<v1::DType>(99)); }
  SECTION("too many dimensions") {
    for (int i = 0; i < kMaxDims; ++i) tensor.add_shape(1);
  }
  SECTION("given twice") { *proto.add_tensors() = tensor; }
  CHECK_THAT(FromProto(proto), StatusIs(kInvalid, name));
}

TEST_CASE("a name is bounded and printable", "[convert]") {
  v1::ModelSpec proto = ModelProto();
  SECTION("none") {
    proto.clear_name();
    CHECK_THAT(FromProto(proto), StatusIs(kInvalid, "name"));
  }
  SECTION("longest") {
    proto.set_name(std::string(kMaxModelNameBytes, 'm'));
    CHECK_OK(FromProto(proto));
  }
  SECTION("too long") {
    proto.set_name(std::string(kMaxModelNameBytes + 1, 'm'));
    CHECK_THAT(FromProto(proto), StatusIs(kInvalid, "257"));
  }
  SECTION("control character") {
    proto.set_name(std::string("a\0b", 3));
    CHECK_THAT(FromProto(proto), StatusIs(kInvalid, "x00"));
  }
  SECTION("a model without tensors") {
    proto.clear_tensors();
    CHECK_THAT(FromProto(proto), StatusIs(kInvalid, "policy"));
  }
  SECTION("an alias of nothing") {
    (*proto.mutable_aliases())["x"] = "y";
    CHECK_THAT(FromProto(proto), StatusIs(kInvalid, "\"y\""));
  }
}

TEST_CASE("a malformed box is refused", "[convert]") {
  v1::Box proto;
  proto.add_lo(2);
  proto.add_hi(4);
  SECTION("corner missing") { proto.add_lo(0); }
  SECTION("negative") { proto.set_lo(0, -1); }
  SECTION("upside down") { proto.set_hi(0, 1); }
  SECTION("too many dimensions") {
    for (int i = 0; i < kMaxDims; ++i) {
      proto.add_lo(0);
      proto.add_hi(1);
    }
  }
  SECTION("overflow") {
    proto.add_lo(0);
    proto.add_hi(kMaxInt64);
  }
  CHECK_THAT(FromProto(proto), StatusIs(kInvalid, "box"));
}

TEST_CASE("a malformed view is refused", "[convert]") {
  v1::View proto = ViewProto();
  SECTION("stride missing") { proto.clear_strides(); }
  SECTION("negative stride") { proto.set_strides(0, -2); }
  SECTION("negative offset") { proto.set_offset(-1); }
  SECTION("negative tensor") { proto.set_tensor(-1); }
  SECTION("reach overflows") { proto.set_strides(0, kMaxInt64 / 2); }
  SECTION("reach and offset overflow") {
    proto.set_strides(0, kMaxInt64 / 3);
    proto.set_offset(kMaxInt64 - 1);
  }
  CHECK_THAT(FromProto(proto), StatusIs(kInvalid));
  v1::RankLayout layout;
  *layout.add_views() = ViewProto();  // of a parameter that is not there
  CHECK_THAT(FromProto(layout), StatusIs(kInvalid, "views[0]: param"));
}

TEST_CASE("a malformed sample is refused by id and key", "[convert]") {
  v1::SampleEntry proto = EntryProto();
  SECTION("negative length") { proto.set_sequence_lengths(0, -1); }
  SECTION("rows overflow") {
    proto.set_sequence_lengths(0, kMaxInt64);
    proto.set_sequence_lengths(1, 1);
  }
  SECTION("bytes overflow") { proto.set_trailing_shape(0, kMaxInt64 / 3); }
  SECTION("negative shape") { proto.set_trailing_shape(0, -4); }
  SECTION("dtype") { proto.clear_dtype(); }
  CHECK_THAT(FromProto(proto), StatusIs(kInvalid, "s-1"));
  CHECK_THAT(FromProto(proto), StatusIs(kInvalid, "logprobs"));
}

TEST_CASE("a sample without id or key is refused", "[convert]") {
  v1::SampleEntry proto = EntryProto();
  proto.clear_key();
  CHECK_THAT(FromProto(proto), StatusIs(kInvalid, "key"));
  proto = EntryProto();
  proto.set_sample_id(std::string(kMaxSampleIdBytes + 1, 's'));
  CHECK_THAT(FromProto(proto), StatusIs(kInvalid, "sample_id"));
}

TEST_CASE("meshes and layouts survive the wire", "[convert]") {
  CheckRoundTrip(MeshProto());
  v1::Layout layout;
  layout.set_name("megatron");
  layout.set_stage_axis("pipe");
  layout.add_stage_layers(3);
  layout.add_replica_axes("data");
  *layout.add_rules() = RuleProto();
  layout.add_rules()->set_pattern("*");
  *layout.mutable_rules(1) = RuleProto();
  layout.mutable_rules(1)->set_fused(false);
  layout.mutable_rules(1)->set_optional(true);
  layout.add_explicit_ranks()->set_buffer_bytes(0);
  CheckRoundTrip(layout);
}

v1::Layout GridLayoutProto() {
  v1::Layout layout;
  layout.set_name("grids");
  layout.set_chunk_layers(2);
  v1::AxisRegroup& regroup = *layout.add_regroups();
  regroup.add_axes("data");
  regroup.add_axes("tensor");
  for (const auto& [name, size] :
       std::vector<std::pair<std::string, int64_t>>{{"rest", 0}, {"e", 4}}) {
    regroup.add_names(name);
    regroup.add_sizes(size);
  }
  v1::ExpertMap& map = *layout.add_expert_maps();
  map.set_first_layer(3);
  map.set_num_layers(1);
  for (const int64_t expert : {0, 2, 1, 0}) map.add_slots(expert);
  v1::LayoutRule& rule = *layout.add_rules() = RuleProto();
  rule.add_dim_order(1);
  rule.add_dim_order(0);
  rule.mutable_experts()->add_axes("e");
  rule.mutable_experts()->add_sizes(4);
  rule.mutable_experts()->set_stacked(true);
  rule.mutable_flat()->add_axes("data");
  rule.mutable_flat()->set_unit(16);
  rule.mutable_splits(0)->add_parts(8);
  rule.mutable_splits(0)->add_parts(4);
  return layout;
}

TEST_CASE("grids, experts and flat shards survive the wire", "[convert]") {
  CheckRoundTrip(GridLayoutProto());
}

TEST_CASE("malformed grids, experts and flat shards are refused", "[convert]") {
  v1::Layout proto = GridLayoutProto();
  v1::LayoutRule& rule = *proto.mutable_rules(0);
  SECTION("sizes missing") { proto.mutable_regroups(0)->clear_sizes(); }
  SECTION("negative size") { proto.mutable_regroups(0)->set_sizes(0, -1); }
  SECTION("axis without a name") {
    proto.mutable_regroups(0)->set_names(0, "");
  }
  SECTION("negative chunk") { proto.set_chunk_layers(-1); }
  SECTION("negative layer") {
    proto.mutable_expert_maps(0)->set_first_layer(-1);
  }
  SECTION("negative slot") { proto.mutable_expert_maps(0)->set_slots(0, -1); }
  SECTION("order beyond the dimensions") { rule.set_dim_order(0, 2); }
  SECTION("expert axis without a name") {
    rule.mutable_experts()->set_axes(0, "");
  }
  SECTION("negative flat unit") { rule.mutable_flat()->set_unit(-1); }
  SECTION("negative part") { rule.mutable_splits(0)->set_parts(0, -8); }
  CHECK_THAT(FromProto(proto), StatusIs(kInvalid));
}

TEST_CASE("an unset unit is one, an unfused rule has no index", "[convert]") {
  v1::LayoutRule proto = RuleProto();
  proto.mutable_splits(0)->clear_unit();
  REQUIRE_OK_AND_ASSIGN(LayoutRule rule, FromProto(proto));
  CHECK(rule.splits[0].unit == 1);
  CHECK(rule.fuse_index == 0);
  proto.set_fused(false);
  REQUIRE_OK_AND_ASSIGN(rule, FromProto(proto));
  CHECK(rule.fuse_index == -1);
}

TEST_CASE("a malformed mesh is refused", "[convert]") {
  v1::Mesh proto = MeshProto();
  SECTION("an agent missing") { proto.mutable_agents()->RemoveLast(); }
  SECTION("an agent twice") { proto.set_agents(1, "a"); }
  SECTION("an agent without a name") { proto.set_agents(1, ""); }
  SECTION("an axis twice") { proto.mutable_axes(0)->set_name("tensor"); }
  SECTION("an axis without a name") { proto.mutable_axes(0)->clear_name(); }
  SECTION("a size of zero") { proto.mutable_axes(0)->set_size(0); }
  SECTION("a size beyond any cluster") {
    proto.mutable_axes(0)->set_size(kMaxMeshSize + 1);
  }
  SECTION("no axis") { proto.clear_axes(); }
  CHECK_THAT(FromProto(proto), StatusIs(kInvalid));
}

TEST_CASE("a malformed rule is refused", "[convert]") {
  v1::Layout layout;
  v1::LayoutRule& rule = *layout.add_rules() = RuleProto();
  SECTION("no pattern") { rule.clear_pattern(); }
  SECTION("unknown stage rule") {
    rule.set_stage(static_cast<v1::StageRule>(9));
  }
  SECTION("negative dimension") { rule.mutable_splits(0)->set_dim(-1); }
  SECTION("negative unit") { rule.mutable_splits(0)->set_unit(-1); }
  SECTION("negative pad") { rule.mutable_splits(0)->set_pad_units(-1); }
  SECTION("negative drivers") { rule.mutable_splits(0)->set_driver_units(-1); }
  SECTION("sizes overflow") {
    rule.mutable_splits(0)->add_sizes(kMaxInt64);
    rule.mutable_splits(0)->add_sizes(1);
  }
  SECTION("an axis without a name") { rule.mutable_splits(0)->add_axes(""); }
  SECTION("negative fuse dimension") { rule.set_fuse_dim(-1); }
  SECTION("negative fuse index") { rule.set_fuse_index(-1); }
  SECTION("unknown dtype") { rule.set_dtype(static_cast<v1::DType>(99)); }
  SECTION("negative interleave") { rule.set_interleave(-1); }
  CHECK_THAT(FromProto(layout), StatusIs(kInvalid, "rules[0]"));
}

TEST_CASE("durations and times survive the wire within bounds", "[convert]") {
  const absl::Duration duration = absl::Seconds(3) + absl::Nanoseconds(7);
  REQUIRE_OK_AND_ASSIGN(const absl::Duration back,
                        DurationFromProto("lease", ToProto(duration)));
  CHECK(back == duration);
  REQUIRE_OK_AND_ASSIGN(
      const absl::Duration most,
      DurationFromProto("lease", ToProto(absl::InfiniteDuration())));
  CHECK(most == kMaxWireDuration);

  google::protobuf::Duration bad;
  SECTION("negative") { bad.set_seconds(-1); }
  SECTION("negative nanoseconds") { bad.set_nanos(-1); }
  SECTION("too many nanoseconds") { bad.set_nanos(1000000000); }
  SECTION("too long") { bad.set_seconds(kMaxInt64); }
  CHECK_THAT(DurationFromProto("lease", bad), StatusIs(kInvalid, "lease"));

  const absl::Time time = absl::UnixEpoch() - absl::Nanoseconds(1);
  REQUIRE_OK_AND_ASSIGN(const absl::Time same,
                        TimeFromProto("time", ToProto(time)));
  CHECK(same == time);
}

TEST_CASE("text for the wire is valid UTF-8 and bounded", "[convert]") {
  CHECK(SafeText("plain", 100) == "plain");
  CHECK(SafeText("\xC3\xA9", 100) == "\xC3\xA9");
  CHECK(SafeText("a\xFF\xC3z", 100) == "a??z");
  CHECK(SafeText("\xED\xA0\x80", 100) == "???");  // a surrogate
  CHECK(SafeText("0123456789", 10) == "0123456789");
  CHECK(SafeText("0123456789a", 10) == "0123456...");
  // Two bytes of three-byte characters would be left at the cut.
  CHECK(SafeText("12345\xE2\x82\xAC\xE2\x82\xAC", 10) == "12345...");
}

}  // namespace
}  // namespace sluice
