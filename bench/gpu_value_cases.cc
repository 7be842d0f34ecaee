// Casts, quantisation, blends and digests.

#include <cmath>
#include <cstddef>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/copy/digest.h"
#include "agent/cuda/box_list.h"
#include "agent/cuda/element_types.h"
#include "agent/cuda/fp8_math.h"
#include "agent/cuda/kernel_math.h"
#include "agent/cuda/quant_list.h"
#include "bench/gpu_rig.h"
#include "common/digest_value.h"
#include "common/dtype.h"
#include "common/status_macros.h"

namespace sluice::bench {
namespace {

using agent::copy_internal::BF16;
using agent::copy_internal::F16;
using agent::copy_internal::F32;
using agent::cuda::BoxBatch;
using agent::cuda::BoxList;
using agent::cuda::DeviceBuffer;
using agent::cuda::DigestSlot;
using agent::cuda::Element;
using agent::cuda::QuantBatch;
using agent::cuda::QuantDescriptor;
using agent::cuda::QuantList;

constexpr float kEta = 0.25f;
// Elements that a verification skips from one to the next; a prime.
constexpr int64_t kSampled = 101;

int64_t Size(Element element) {
  return ByteSize(agent::cuda::DTypeOf(element));
}

template <typename T>
T At(const HostBytes& bytes, int64_t index) {
  T value;
  std::memcpy(&value, bytes.data() + index * int64_t{sizeof(T)}, sizeof(T));
  return value;
}

absl::StatusOr<BoxBatch> WholeBox(GpuRig& rig, Element from, Element to,
                                  int64_t count) {
  BoxList list = BoxList::ForElements();
  SLUICE_RETURN_IF_ERROR(list.Add({.extents = {count},
                                   .src = rig.source().address(),
                                   .src_strides = {Size(from)},
                                   .dst = rig.target().address(),
                                   .dst_strides = {Size(to)},
                                   .logical = 0,
                                   .logical_strides = {}},
                                  Size(from), Size(to)));
  return rig.Keep(list);
}

absl::Status Differs(int64_t element) {
  return absl::DataLossError(absl::StrCat("element ", element, " differs"));
}

// Elements equal what `make` gives for them.
template <typename From, typename To, typename Make>
absl::Status VerifyElements(const GpuRig& rig, int64_t count, To before,
                            const Make& make) {
  SLUICE_ASSIGN_OR_RETURN(const HostBytes found,
                          rig.Download(count * int64_t{sizeof(To)}));
  for (int64_t i = 0; i < count; i += kSampled) {
    const To expected = make(At<From>(rig.source_bytes(), i), before);
    if (At<To>(found, i).bits != expected.bits) return Differs(i);
  }
  return absl::OkStatus();
}

template <typename From, typename To>
absl::Status AddCast(GpuRig& rig, const char* name, Element from, Element to,
                     std::vector<GpuCase>& cases) {
  const int64_t count = rig.options().bytes / 4;
  SLUICE_ASSIGN_OR_RETURN(const BoxBatch batch, WholeBox(rig, from, to, count));
  cases.push_back({.name = name,
                   .beside_read = false,
                   .goal = 0.75,
                   .bytes = count * (Size(from) + Size(to)),
                   .launch =
                       [&rig, batch, from, to] {
                         return rig.runtime().CastBoxes(
                             batch, from, to, rig.max_blocks(), rig.stream());
                       },
                   .verify =
                       [&rig, count] {
                         return VerifyElements<From, To>(
                             rig, count, To{},
                             agent::cuda::CastElement<From, To>{});
                       }});
  return absl::OkStatus();
}

absl::Status AddBlend(GpuRig& rig, std::vector<GpuCase>& cases) {
  const int64_t count = rig.options().bytes / 2;
  SLUICE_ASSIGN_OR_RETURN(const BoxBatch batch,
                          WholeBox(rig, Element::kBF16, Element::kBF16, count));
  cases.push_back(
      {.name = "blend, BF16",
       .beside_read = false,
       .goal = 0,
       .bytes = count * 6,
       .launch =
           [&rig, batch] {
             return rig.runtime().BlendBoxes(batch, Element::kBF16,
                                             Element::kBF16, kEta,
                                             rig.max_blocks(), rig.stream());
           },
       .verify = [&rig, count]() -> absl::Status {
         // Once, into the poison.
         SLUICE_ASSIGN_OR_RETURN(const HostBytes found,
                                 rig.Download(count * 2));
         const agent::cuda::BlendElement<BF16, BF16> blend{kEta, 1.0f - kEta};
         const BF16 poison{0xa5a5};
         for (int64_t i = 0; i < count; i += kSampled) {
           const BF16 source = At<BF16>(rig.source_bytes(), i);
           const BF16 expected = blend(source, poison);
           const uint16_t got = At<BF16>(found, i).bits;
           // Which NaN comes out of a sum is the processor's choice.
           const bool both_nan =
               (got & 0x7fff) > 0x7f80 && (expected.bits & 0x7fff) > 0x7f80;
           if (got != expected.bits && !both_nan) return Differs(i);
         }
         return absl::OkStatus();
       }});
  return absl::OkStatus();
}

absl::Status AddDigest(GpuRig& rig, std::vector<GpuCase>& cases) {
  const int64_t bytes = rig.options().bytes;
  BoxList list = BoxList::ForDigests();
  SLUICE_RETURN_IF_ERROR(list.Add({.extents = {bytes / 2},
                                   .src = rig.source().address(),
                                   .src_strides = {2},
                                   .dst = 0,
                                   .dst_strides = {},
                                   .logical = 0,
                                   .logical_strides = {2}},
                                  2));
  SLUICE_ASSIGN_OR_RETURN(const BoxBatch batch, rig.Keep(list));
  SLUICE_ASSIGN_OR_RETURN(
      DeviceBuffer sums,
      DeviceBuffer::Create(rig.runtime(), rig.options().device,
                           sizeof(DigestSlot)));
  SLUICE_ASSIGN_OR_RETURN(const DeviceBuffer* kept, rig.Keep(std::move(sums)));
  auto* slot = reinterpret_cast<DigestSlot*>(kept->data());
  const auto launch = [&rig, batch, slot] {
    return rig.runtime().DigestBoxes(batch, slot, rig.max_blocks(),
                                     rig.stream());
  };
  cases.push_back(
      {.name = "digest",
       .beside_read = true,
       .goal = 0.8,
       .bytes = bytes,
       .launch = launch,
       .verify = [&rig, kept, launch, bytes]() -> absl::Status {
         DigestSlot found;
         SLUICE_RETURN_IF_ERROR(
             rig.runtime().Fill(kept->data(), 0, kept->size(), rig.stream()));
         SLUICE_RETURN_IF_ERROR(launch());
         SLUICE_RETURN_IF_ERROR(
             kept->Download(&found, sizeof(found), rig.cuda_stream()));
         const Digest expected =
             agent::DigestRun(rig.source_bytes().data(), 0, bytes);
         if (Digest{found.lane0, found.lane1} == expected) {
           return absl::OkStatus();
         }
         return absl::DataLossError("another digest than the host's");
       }});
  return absl::OkStatus();
}

constexpr int64_t kQuantisedCols = 4096;

// Looks at every kSampled-th code and its block's scale.
absl::Status CheckQuantised(GpuRig& rig, int64_t codes, int64_t blocks) {
  constexpr int64_t kCols = kQuantisedCols;
  SLUICE_ASSIGN_OR_RETURN(const HostBytes found,
                          rig.Download(codes + blocks * 4));
  for (int64_t i = 0; i < codes; i += kSampled) {
    const int64_t block = i / kCols / 128 * (kCols / 128) + i % kCols / 128;
    float scale;
    std::memcpy(&scale, found.data() + codes + block * 4, 4);
    const uint32_t bits = uint32_t{At<BF16>(rig.source_bytes(), i).bits} << 16;
    const float value = agent::copy_internal::AsFloat(bits) / scale;
    const uint8_t expected = agent::cuda::EncodeE4m3(
        std::isnan(value) ? bits : agent::copy_internal::Bits(value));
    if (found[static_cast<size_t>(i)] != expected) return Differs(i);
  }
  return absl::OkStatus();
}

// The whole source as a BF16 matrix; codes, then scales, in the target.
absl::Status AddQuantise(GpuRig& rig, std::vector<GpuCase>& cases) {
  constexpr int64_t kCols = kQuantisedCols;
  const int64_t rows = rig.options().bytes / 2 / kCols;
  const int64_t codes = rows * kCols;
  const int64_t blocks = (rows + 127) / 128 * (kCols / 128);
  QuantList list;
  SLUICE_RETURN_IF_ERROR(
      list.Add({.rows = rows,
                .cols = kCols,
                .plain = rig.source().address(),
                .plain_row = kCols * 2,
                .quantised = rig.target().address(),
                .quantised_row = kCols,
                .scales = rig.target().address() + static_cast<uint64_t>(codes),
                .scale_row = kCols / 128 * 4},
               Element::kBF16));
  SLUICE_ASSIGN_OR_RETURN(
      DeviceBuffer matrices,
      agent::cuda::UploadAll(rig.runtime(), rig.options().device,
                             list.matrices(), rig.cuda_stream()));
  SLUICE_ASSIGN_OR_RETURN(const DeviceBuffer* kept,
                          rig.Keep(std::move(matrices)));
  const QuantBatch batch =
      list.Batch(reinterpret_cast<const QuantDescriptor*>(kept->data()));
  cases.push_back(
      {.name = "cast, BF16 to F8_E4M3 with block scales",
       .beside_read = false,
       .goal = 0.75,
       .bytes = codes * 3 + blocks * 4,
       .launch =
           [&rig, batch] {
             return rig.runtime().Quantise(batch, Element::kBF16,
                                           rig.max_blocks(), rig.stream());
           },
       .verify = [&rig, codes,
                  blocks] { return CheckQuantised(rig, codes, blocks); }});
  return absl::OkStatus();
}

}  // namespace

absl::Status AddValueCases(GpuRig& rig, std::vector<GpuCase>& cases) {
  constexpr Element kF32 = Element::kF32;
  constexpr Element kBF16 = Element::kBF16;
  constexpr Element kF16 = Element::kF16;
  SLUICE_RETURN_IF_ERROR(
      (AddCast<F32, BF16>(rig, "cast, F32 to BF16", kF32, kBF16, cases)));
  SLUICE_RETURN_IF_ERROR(
      (AddCast<BF16, F32>(rig, "cast, BF16 to F32", kBF16, kF32, cases)));
  SLUICE_RETURN_IF_ERROR(
      (AddCast<F32, F16>(rig, "cast, F32 to F16", kF32, kF16, cases)));
  SLUICE_RETURN_IF_ERROR(
      (AddCast<BF16, F16>(rig, "cast, BF16 to F16", kBF16, kF16, cases)));
  SLUICE_RETURN_IF_ERROR(AddQuantise(rig, cases));
  SLUICE_RETURN_IF_ERROR(AddBlend(rig, cases));
  return AddDigest(rig, cases);
}

}  // namespace sluice::bench
