// Casts, quantisation, blends and digests.

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <memory>
#include <random>
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
absl::StatusOr<GpuCase> MakeCast(GpuRig& rig, Element from, Element to) {
  const int64_t count = rig.options().bytes / 4;
  SLUICE_ASSIGN_OR_RETURN(const BoxBatch batch, WholeBox(rig, from, to, count));
  return GpuCase{.goal = 0.75,
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
                     }};
}

absl::StatusOr<GpuCase> MakeBlend(GpuRig& rig) {
  const int64_t count = rig.options().bytes / 2;
  SLUICE_ASSIGN_OR_RETURN(const BoxBatch batch,
                          WholeBox(rig, Element::kBF16, Element::kBF16, count));
  return GpuCase{
      .bytes = count * 6,
      .launch =
          [&rig, batch] {
            return rig.runtime().BlendBoxes(batch, Element::kBF16,
                                            Element::kBF16, kEta,
                                            rig.max_blocks(), rig.stream());
          },
      .verify = [&rig, count]() -> absl::Status {
        // Once, into the poison.
        SLUICE_ASSIGN_OR_RETURN(const HostBytes found, rig.Download(count * 2));
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
      }};
}

absl::StatusOr<GpuCase> MakeDigest(GpuRig& rig) {
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
  return GpuCase{.beside_read = true,
                 .goal = 0.8,
                 .bytes = bytes,
                 .launch = launch,
                 .verify = [&rig, kept, launch, bytes]() -> absl::Status {
                   DigestSlot found;
                   SLUICE_RETURN_IF_ERROR(rig.runtime().Fill(
                       kept->data(), 0, kept->size(), rig.stream()));
                   SLUICE_RETURN_IF_ERROR(launch());
                   SLUICE_RETURN_IF_ERROR(kept->Download(&found, sizeof(found),
                                                         rig.cuda_stream()));
                   const Digest expected =
                       agent::DigestRun(rig.source_bytes().data(), 0, bytes);
                   if (Digest{found.lane0, found.lane1} == expected) {
                     return absl::OkStatus();
                   }
                   return absl::DataLossError("another digest than the host's");
                 }};
}

constexpr int64_t kQuantisedCols = 4096;
constexpr int64_t kBlock = 128;

// BF16 elements as weights are: normal, sigma 0.02. Drawn from a table.
HostBytes Weights(int64_t count) {
  std::mt19937_64 random(2);
  std::normal_distribution<float> normal(0, 0.02f);
  std::vector<BF16> table(1 << 16);
  for (BF16& weight : table) {
    agent::copy_internal::Cast(F32{agent::copy_internal::Bits(normal(random))},
                               weight);
  }
  HostBytes bytes(static_cast<size_t>(count) * sizeof(BF16));
  uint64_t word = 0;
  for (int64_t i = 0; i < count; ++i) {
    word = i % 4 == 0 ? random() : word >> 16;
    std::memcpy(bytes.data() + i * int64_t{sizeof(BF16)}, &table[word & 0xffff],
                sizeof(BF16));
  }
  return bytes;
}

// A BF16 matrix; in the target its codes, then the scales of its blocks.
struct Quantised {
  float ScaleOf(const HostBytes& found, int64_t block) const {
    return At<float>(found, codes() / int64_t{sizeof(float)} + block);
  }
  uint32_t BitsAt(int64_t element) const {
    return uint32_t{At<BF16>(plain, element).bits} << 16;
  }
  int64_t codes() const { return rows * kQuantisedCols; }
  int64_t blocks() const {
    return (rows + kBlock - 1) / kBlock * (kQuantisedCols / kBlock);
  }
  int64_t rows = 0;
  HostBytes plain;
};

// Computes the scale of a block anew.
absl::Status CheckScale(const Quantised& matrix, const HostBytes& found,
                        int64_t block) {
  const int64_t in_row = kQuantisedCols / kBlock;
  const int64_t first = block / in_row * kBlock;
  uint32_t amax = 0;
  for (int64_t row = first; row < std::min(first + kBlock, matrix.rows);
       ++row) {
    const int64_t start = row * kQuantisedCols + block % in_row * kBlock;
    for (int64_t at = start; at < start + kBlock; ++at) {
      amax = std::max(amax, agent::cuda::AmaxBits(matrix.BitsAt(at)));
    }
  }
  if (matrix.ScaleOf(found, block) == agent::cuda::ScaleInv(amax)) {
    return absl::OkStatus();
  }
  return absl::DataLossError(
      absl::StrCat("the scale of block ", block, " differs"));
}

// Looks at every kSampled-th block's scale and every kSampled-th code.
absl::Status CheckQuantised(const GpuRig& rig, const Quantised& matrix) {
  SLUICE_ASSIGN_OR_RETURN(const HostBytes found,
                          rig.Download(matrix.codes() + matrix.blocks() * 4));
  for (int64_t block = 0; block < matrix.blocks(); block += kSampled) {
    SLUICE_RETURN_IF_ERROR(CheckScale(matrix, found, block));
  }
  for (int64_t i = 0; i < matrix.codes(); i += kSampled) {
    const int64_t block =
        i / kQuantisedCols / kBlock * (kQuantisedCols / kBlock) +
        i % kQuantisedCols / kBlock;
    const uint8_t expected =
        agent::cuda::DivideE4m3(matrix.BitsAt(i), matrix.ScaleOf(found, block));
    if (found[static_cast<size_t>(i)] != expected) return Differs(i);
  }
  return absl::OkStatus();
}

absl::StatusOr<GpuCase> MakeQuantise(GpuRig& rig) {
  constexpr int64_t kCols = kQuantisedCols;
  const auto matrix = std::make_shared<Quantised>();
  matrix->rows = rig.options().bytes / 2 / kCols;
  matrix->plain = Weights(matrix->codes());
  SLUICE_ASSIGN_OR_RETURN(
      DeviceBuffer uploaded,
      agent::cuda::UploadAll(rig.runtime(), rig.options().device, matrix->plain,
                             rig.cuda_stream()));
  const auto plain = std::make_shared<DeviceBuffer>(std::move(uploaded));
  QuantList list;
  SLUICE_RETURN_IF_ERROR(list.Add(
      {.rows = matrix->rows,
       .cols = kCols,
       .plain = plain->address(),
       .plain_row = kCols * 2,
       .quantised = rig.target().address(),
       .quantised_row = kCols,
       .scales =
           rig.target().address() + static_cast<uint64_t>(matrix->codes()),
       .scale_row = kCols / kBlock * 4},
      Element::kBF16));
  SLUICE_ASSIGN_OR_RETURN(
      DeviceBuffer matrices,
      agent::cuda::UploadAll(rig.runtime(), rig.options().device,
                             list.matrices(), rig.cuda_stream()));
  SLUICE_ASSIGN_OR_RETURN(const DeviceBuffer* kept,
                          rig.Keep(std::move(matrices)));
  const QuantBatch batch =
      list.Batch(reinterpret_cast<const QuantDescriptor*>(kept->data()));
  return GpuCase{
      .goal = 0.75,
      .bytes = matrix->codes() * 3 + matrix->blocks() * 4,
      .launch =
          [&rig, batch, plain] {
            return rig.runtime().Quantise(batch, Element::kBF16,
                                          rig.max_blocks(), rig.stream());
          },
      .verify = [&rig, matrix] { return CheckQuantised(rig, *matrix); }};
}

}  // namespace

void AddValueCases(GpuRig& rig, std::vector<GpuCaseMaker>& cases) {
  constexpr Element kF32 = Element::kF32;
  constexpr Element kBF16 = Element::kBF16;
  constexpr Element kF16 = Element::kF16;
  const auto add = [&](const char* name, auto make) {
    cases.push_back({.name = name, .make = std::move(make)});
  };
  add("cast, F32 to BF16",
      [&rig] { return MakeCast<F32, BF16>(rig, kF32, kBF16); });
  add("cast, BF16 to F32",
      [&rig] { return MakeCast<BF16, F32>(rig, kBF16, kF32); });
  add("cast, F32 to F16",
      [&rig] { return MakeCast<F32, F16>(rig, kF32, kF16); });
  add("cast, BF16 to F16",
      [&rig] { return MakeCast<BF16, F16>(rig, kBF16, kF16); });
  add("cast, BF16 to F8_E4M3 with block scales",
      [&rig] { return MakeQuantise(rig); });
  add("blend, BF16", [&rig] { return MakeBlend(rig); });
  add("digest", [&rig] { return MakeDigest(rig); });
}

}  // namespace sluice::bench
