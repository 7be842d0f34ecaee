#include "coordinator/services/request.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>

#include <memory>

#include "common/convert_limits.h"
#include "common/convert_time.h"
#include "common/stable_hash.h"
#include "common/status_macros.h"

namespace sluice::coordinator {

uint64_t FingerprintOf(const google::protobuf::Message& request) {
  const std::unique_ptr<google::protobuf::Message> copy(request.New());
  copy->CopyFrom(request);
  const auto* id = copy->GetDescriptor()->FindFieldByName("request_id");
  if (id != nullptr) copy->GetReflection()->ClearField(copy.get(), id);
  std::string bytes;
  {
    google::protobuf::io::StringOutputStream stream(&bytes);
    google::protobuf::io::CodedOutputStream coded(&stream);
    // Else maps come in any order.
    coded.SetSerializationDeterministic(true);
    copy->SerializeToCodedStream(&coded);
  }
  // Requests of two kinds may have the same bytes.
  return StableHash(bytes, StableHash(copy->GetDescriptor()->full_name()));
}

absl::Status ParseOptionalDuration(absl::string_view field, bool is_set,
                                   const google::protobuf::Duration& proto,
                                   absl::Duration& duration) {
  if (!is_set) return absl::OkStatus();
  SLUICE_ASSIGN_OR_RETURN(duration, DurationFromProto(field, proto));
  return absl::OkStatus();
}

absl::Status CheckRequestId(absl::string_view id) {
  return CheckText("request_id", id, kMaxRequestIdBytes);
}

}  // namespace sluice::coordinator
