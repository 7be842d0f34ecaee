// Commands from the wire, as an agent parses them, with models, layouts and
// meshes in them. What parses goes out and comes back the same; a placement's
// layout is checked without harm.

#include <variant>

#include "common/check.h"
#include "common/command.h"
#include "common/convert_command.h"
#include "common/layout.h"
#include "google/protobuf/stubs/logging.h"
#include "proto/sluice/v1/command.pb.h"
#include "tests/fuzz/fuzz_target.h"

namespace sluice {
namespace {

void Run(const uint8_t* data, size_t size) {
  // Text that is no UTF-8 is refused and logged each time.
  static const google::protobuf::LogSilencer silencer;
  v1::Command proto;
  if (!proto.ParseFromArray(data, static_cast<int>(size))) return;
  const absl::StatusOr<Command> command = FromProto(proto);
  if (!command.ok()) return;
  const v1::Command printed = ToProto(*command);
  const absl::StatusOr<Command> again = FromProto(printed);
  SLUICE_CHECK_OK(again.status());
  SLUICE_CHECK(ToProto(*again).SerializeAsString() ==
               printed.SerializeAsString());
  const auto* define = std::get_if<DefinePlacementCommand>(&command->body);
  if (define == nullptr) return;
  const PlacementDefinition& definition = define->definition;
  if (!CheckLayout(*definition.spec, *definition.layout, definition.mesh)
           .ok()) {
    return;
  }
  const absl::StatusOr<RankLayout> rank =
      ExpandLayout(*definition.spec, *definition.layout, definition.mesh,
                   definition.mesh_index);
  SLUICE_CHECK_OK(rank.status());
  SLUICE_CHECK(rank->buffer_bytes >= 0);
}

}  // namespace
}  // namespace sluice

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  sluice::Run(data, size);
  return 0;
}
