#include "tools/sluicectl/sample_values.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <nlohmann/json.hpp>
#include <type_traits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/convert_tensor.h"
#include "common/dtype.h"
#include "common/status_macros.h"

namespace sluice::ctl {
namespace {

using Json = nlohmann::json;

template <typename T>
absl::Status Append(double value, std::vector<std::byte>& out) {
  if constexpr (std::is_integral_v<T>) {
    // The upper limit of 64-bit types rounds up to a power of two, itself out
    // of range: hence "<" there.
    const auto least = static_cast<double>(std::numeric_limits<T>::min());
    const double beyond = std::ldexp(1.0, std::numeric_limits<T>::digits);
    if (!(value >= least && value < beyond) || std::floor(value) != value) {
      return absl::InvalidArgumentError(
          absl::StrCat("value ", value, " is no whole number of that type"));
    }
  }
  const T element = static_cast<T>(value);
  const auto* bytes = reinterpret_cast<const std::byte*>(&element);
  out.insert(out.end(), bytes, bytes + sizeof element);
  return absl::OkStatus();
}

absl::Status AppendBf16(double value, std::vector<std::byte>& out) {
  const auto narrow = static_cast<float>(value);
  auto bits = std::bit_cast<uint32_t>(narrow);
  if (!std::isnan(narrow)) bits += 0x7fff + (bits >> 16 & 1);
  const auto half = static_cast<uint16_t>(bits >> 16);
  out.push_back(static_cast<std::byte>(half & 0xff));
  out.push_back(static_cast<std::byte>(half >> 8));
  return absl::OkStatus();
}

absl::Status AppendValue(v1::DType dtype, double value,
                         std::vector<std::byte>& out) {
  switch (dtype) {
    case v1::DTYPE_BOOL:
      return Append<bool>(value, out);
    case v1::DTYPE_U8:
      return Append<uint8_t>(value, out);
    case v1::DTYPE_I8:
      return Append<int8_t>(value, out);
    case v1::DTYPE_I16:
      return Append<int16_t>(value, out);
    case v1::DTYPE_I32:
      return Append<int32_t>(value, out);
    case v1::DTYPE_I64:
      return Append<int64_t>(value, out);
    case v1::DTYPE_F32:
      return Append<float>(value, out);
    case v1::DTYPE_F64:
      return Append<double>(value, out);
    case v1::DTYPE_BF16:
      return AppendBf16(value, out);
    default:
      return absl::InvalidArgumentError(absl::StrCat(
          v1::DType_Name(dtype), " cannot be written as numbers: use a file"));
  }
}

template <typename T>
std::string Print(const std::byte* at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  if constexpr (std::is_integral_v<T>) {
    return absl::StrCat(static_cast<int64_t>(value));
  } else {
    return absl::StrCat(value);
  }
}

std::string PrintValue(v1::DType dtype, const std::byte* at) {
  switch (dtype) {
    case v1::DTYPE_BOOL:
    case v1::DTYPE_U8:
      return Print<uint8_t>(at);
    case v1::DTYPE_I8:
      return Print<int8_t>(at);
    case v1::DTYPE_I16:
      return Print<int16_t>(at);
    case v1::DTYPE_I32:
      return Print<int32_t>(at);
    case v1::DTYPE_I64:
      return Print<int64_t>(at);
    case v1::DTYPE_F32:
      return Print<float>(at);
    case v1::DTYPE_F64:
      return Print<double>(at);
    case v1::DTYPE_BF16: {
      const uint32_t bits = static_cast<uint32_t>(at[0]) << 16 |
                            static_cast<uint32_t>(at[1]) << 24;
      return absl::StrCat(std::bit_cast<float>(bits));
    }
    default:
      return "?";
  }
}

// One element of the JSON list. Throws what nlohmann-json throws.
absl::StatusOr<OwnedSample> ParseSample(const Json& json,
                                        const std::string& folder) {
  OwnedSample sample;
  sample.entry.set_sample_id(json.at("sample").get<std::string>());
  sample.entry.set_key(json.at("key").get<std::string>());
  SLUICE_ASSIGN_OR_RETURN(const DType dtype,
                          ParseDType(json.at("dtype").get<std::string>()));
  sample.entry.set_dtype(ToProto(dtype));
  for (const int64_t length : json.at("lengths").get<std::vector<int64_t>>()) {
    sample.entry.add_sequence_lengths(length);
  }
  for (const int64_t size :
       json.value("row", Json::array()).get<std::vector<int64_t>>()) {
    sample.entry.add_trailing_shape(size);
  }
  if (json.contains("file")) {
    SLUICE_ASSIGN_OR_RETURN(sample.bytes,
                            ReadBytes(std::filesystem::path(folder) /
                                      json.at("file").get<std::string>()));
  } else {
    SLUICE_ASSIGN_OR_RETURN(
        sample.bytes,
        EncodeValues(sample.entry.dtype(),
                     json.at("values").get<std::vector<double>>()));
  }
  return sample;
}

}  // namespace

absl::StatusOr<std::vector<std::byte>> EncodeValues(
    v1::DType dtype, const std::vector<double>& values) {
  std::vector<std::byte> out;
  for (const double value : values) {
    SLUICE_RETURN_IF_ERROR(AppendValue(dtype, value, out));
  }
  return out;
}

std::string PrintValues(v1::DType dtype, const std::byte* data, int64_t bytes,
                        int64_t most) {
  const absl::StatusOr<DType> known = FromProto(dtype);
  if (!known.ok()) return "?";
  const int64_t size = ByteSize(*known);
  const int64_t count = bytes / size;
  std::string out;
  for (int64_t i = 0; i < std::min(count, most); ++i) {
    absl::StrAppend(&out, i > 0 ? ", " : "",
                    PrintValue(dtype, data + i * size));
  }
  if (count > most) absl::StrAppend(&out, ", ...");
  return out;
}

absl::StatusOr<int64_t> EntryBytes(const v1::SampleEntry& entry) {
  SLUICE_ASSIGN_OR_RETURN(const SampleEntry checked, FromProto(entry));
  return checked.num_bytes();
}

absl::StatusOr<std::vector<std::byte>> ReadBytes(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return absl::NotFoundError(absl::StrCat("cannot read ", path));
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  const auto* bytes = reinterpret_cast<const std::byte*>(text.data());
  return std::vector<std::byte>(bytes, bytes + text.size());
}

absl::StatusOr<std::vector<OwnedSample>> ParseSamples(
    const std::string& text, const std::string& folder) {
  std::vector<OwnedSample> samples;
  try {
    const Json json = Json::parse(text);
    if (!json.is_array()) {
      return absl::InvalidArgumentError("expected a JSON list of samples");
    }
    for (const Json& entry : json) {
      absl::StatusOr<OwnedSample> sample = ParseSample(entry, folder);
      if (!sample.ok()) {
        return Annotate(sample.status(),
                        absl::StrCat("sample ", samples.size()));
      }
      samples.push_back(*std::move(sample));
    }
  } catch (const Json::exception& bad) {
    return absl::InvalidArgumentError(
        absl::StrCat("sample ", samples.size(), ": ", bad.what()));
  }
  return samples;
}

}  // namespace sluice::ctl
