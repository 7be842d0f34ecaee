// Plans on the wire: what goes out comes back the same, and what no sender of
// ours would send is refused with the field's name.

#include "common/convert_plan.h"

#include <google/protobuf/util/message_differencer.h>

#include <catch2/catch.hpp>
#include <cstdint>

#include "absl/status/status.h"
#include "common/convert_limits.h"
#include "tests/support/status_matchers.h"

namespace sluice {
namespace {

using testing::StatusIs;
constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

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

v1::Transfer TransferProto() {
  v1::Transfer proto;
  proto.set_id(1);
  proto.set_kind(v1::TRANSFER_KIND_SEND_RECV);
  proto.set_source(0);
  proto.set_destination(3);
  proto.set_link(v1::LINK_CLASS_BETWEEN_NODES);
  proto.set_reads_after(0);
  proto.set_bytes(64);
  proto.mutable_box()->add_lo(0);
  proto.mutable_box()->add_hi(8);
  proto.set_wire_dtype(v1::DTYPE_BF16);
  v1::TensorRun& run = *proto.add_tensors();
  run.set_first(2);
  run.set_count(4);
  run.set_step(7);
  return proto;
}

TEST_CASE("plans survive the wire", "[convert]") {
  v1::PlanPart part;
  part.set_digest(~uint64_t{0});
  part.set_num_plan_transfers(2);
  *part.add_transfers() = TransferProto();
  v1::Transfer& samples = *part.add_transfers() = TransferProto();
  samples.clear_box();
  samples.clear_tensors();
  samples.clear_wire_dtype();
  samples.clear_reads_after();
  samples.add_samples(0);
  *part.add_entries() = EntryProto();
  REQUIRE_OK_AND_ASSIGN(const PlanPart parsed, FromProto(part));
  CHECK(google::protobuf::util::MessageDifferencer::Equals(ToProto(parsed),
                                                           part));
}

TEST_CASE("a certificate survives the wire, idle ranks left out", "[convert]") {
  Certificate certificate;
  certificate.bytes = {1, 2, 3};
  certificate.bytes_in = {{0, 0, 0}, {1, 2, 3}};
  certificate.bytes_out = {{0, 0, 0}, {0, 0, 4}};
  certificate.wasted_bytes = 5;
  certificate.rounds = 2;
  certificate.num_transfers = 7;
  certificate.lower_bound_bytes = 8;
  certificate.max_link_bytes = 12;
  certificate.bound_ratio = 1.5;
  const v1::Certificate proto = ToProto(certificate, {"a", "b"});
  REQUIRE(proto.ranks_size() == 1);
  CHECK(proto.ranks(0).agent() == "b");
  REQUIRE_OK_AND_ASSIGN(const Certificate back, FromProto(proto));
  CHECK(back == certificate);
}

TEST_CASE("a malformed transfer is refused", "[convert]") {
  v1::PlanPart part;
  part.set_num_plan_transfers(2);
  v1::Transfer& transfer = *part.add_transfers() = TransferProto();
  SECTION("kind unspecified") { transfer.clear_kind(); }
  SECTION("kind unknown") {
    transfer.set_kind(static_cast<v1::TransferKind>(6));
  }
  SECTION("link unknown") { transfer.set_link(static_cast<v1::LinkClass>(3)); }
  SECTION("no source") { transfer.set_source(-1); }
  SECTION("no destination") { transfer.set_destination(-1); }
  SECTION("negative round") { transfer.set_round(-1); }
  SECTION("negative bytes") { transfer.set_bytes(-1); }
  SECTION("id beyond the plan") { transfer.set_id(2); }
  SECTION("reads_after beyond the plan") { transfer.set_reads_after(2); }
  SECTION("neither tensors nor samples") { transfer.clear_tensors(); }
  SECTION("tensors and samples") { transfer.add_samples(0); }
  SECTION("no wire type") { transfer.clear_wire_dtype(); }
  SECTION("unknown wire type") {
    transfer.set_wire_dtype(static_cast<v1::DType>(99));
  }
  SECTION("a wire type for samples") {
    transfer.clear_tensors();
    transfer.add_samples(0);
    *part.add_entries() = EntryProto();
  }
  SECTION("an entry that is not there") {
    transfer.clear_tensors();
    transfer.clear_wire_dtype();
    transfer.add_samples(0);
  }
  SECTION("a run of none") { transfer.mutable_tensors(0)->set_count(0); }
  SECTION("a run that stands still") {
    transfer.mutable_tensors(0)->set_step(0);
  }
  SECTION("a run that leaves the model") {
    transfer.mutable_tensors(0)->set_step(kMaxTensors);
  }
  SECTION("runs that expand to more than a model") {
    transfer.mutable_tensors(0)->set_first(0);
    transfer.mutable_tensors(0)->set_count(kMaxTensors);
    transfer.mutable_tensors(0)->set_step(1);
    *transfer.add_tensors() = transfer.tensors(0);
  }
  CHECK_THAT(FromProto(part), StatusIs(kInvalid, "transfers[0]"));
}

}  // namespace
}  // namespace sluice
