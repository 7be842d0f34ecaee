// Casts, blends and quantisation, against double precision on the host.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <limits>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "agent/cuda/box_list.h"
#include "agent/cuda/descriptors.h"
#include "agent/cuda/device_buffer.h"
#include "agent/cuda/element_types.h"
#include "agent/cuda/quant_list.h"
#include "common/dtype.h"
#include "common/status_macros.h"
#include "tests/gpu/check_tools.h"
#include "tests/gpu/checks.h"

namespace sluice::gpu_tests {
namespace {

using agent::cuda::BoxList;
using agent::cuda::DeviceBuffer;
using agent::cuda::DTypeOf;
using agent::cuda::Element;
using agent::cuda::QuantDescriptor;
using agent::cuda::QuantList;
using agent::cuda::QuantPlace;

constexpr int64_t kRowElements = 1000;

int64_t Size(Element element) { return ByteSize(DTypeOf(element)); }

// Half the distance of neighbours, relative to a number.
double HalfUlp(Element element) {
  switch (element) {
    case Element::kF64:
      return 0x1p-53;
    case Element::kF32:
      return 0x1p-24;
    case Element::kBF16:
      return 0x1p-8;
    case Element::kF16:
      return 0x1p-11;
  }
  return 0;
}

// A list of one matrix with rows of kRowElements - 8 elements, from the
// source's rows of kRowElements.
absl::StatusOr<BoxList> Rows(const DeviceBuffer& src, Element from,
                             const DeviceBuffer& dst, Element to,
                             int64_t rows) {
  BoxList list = BoxList::ForElements();
  const int64_t in = Size(from);
  const int64_t out = Size(to);
  SLUICE_RETURN_IF_ERROR(list.Add({.extents = {rows, kRowElements - 8},
                                   .src = src.address(),
                                   .src_strides = {kRowElements * in, in},
                                   .dst = dst.address(),
                                   .dst_strides = {kRowElements * out, out},
                                   .logical = 0,
                                   .logical_strides = {}},
                                  in, out));
  return list;
}

absl::Status CastOnce(Bench& bench, Element from, Element to, int64_t rows) {
  const Bytes source = bench.RandomElements(from, rows * kRowElements);
  Bytes expected = bench.RandomBytes(rows * kRowElements * Size(to));
  SLUICE_ASSIGN_OR_RETURN(const DeviceBuffer src, bench.Upload(source));
  SLUICE_ASSIGN_OR_RETURN(const DeviceBuffer dst, bench.Upload(expected));
  SLUICE_ASSIGN_OR_RETURN(const BoxList list, Rows(src, from, dst, to, rows));
  SLUICE_ASSIGN_OR_RETURN(const DeviceBuffer boxes, bench.Upload(list));
  SLUICE_RETURN_IF_ERROR(bench.runtime().CastBoxes(BatchOf(list, boxes), from,
                                                   to, bench.max_blocks(),
                                                   bench.stream().get()));
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t col = 0; col < kRowElements - 8; ++col) {
      const int64_t i = row * kRowElements + col;
      FromDouble(to, ToDouble(from, source.data() + i * Size(from)),
                 expected.data() + i * Size(to));
    }
  }
  SLUICE_ASSIGN_OR_RETURN(const Bytes found, bench.Download(dst));
  return CheckEqual(expected, found,
                    absl::StrCat("cast from ", DTypeName(DTypeOf(from)), " to ",
                                 DTypeName(DTypeOf(to))));
}

absl::Status BlendOnce(Bench& bench, Element from, Element to, int64_t rows,
                       float eta) {
  const Bytes source = bench.RandomElements(from, rows * kRowElements);
  const Bytes old = bench.RandomElements(to, rows * kRowElements);
  SLUICE_ASSIGN_OR_RETURN(const DeviceBuffer src, bench.Upload(source));
  SLUICE_ASSIGN_OR_RETURN(const DeviceBuffer dst, bench.Upload(old));
  SLUICE_ASSIGN_OR_RETURN(const BoxList list, Rows(src, from, dst, to, rows));
  SLUICE_ASSIGN_OR_RETURN(const DeviceBuffer boxes, bench.Upload(list));
  SLUICE_RETURN_IF_ERROR(bench.runtime().BlendBoxes(BatchOf(list, boxes), from,
                                                    to, eta, bench.max_blocks(),
                                                    bench.stream().get()));
  SLUICE_ASSIGN_OR_RETURN(const Bytes found, bench.Download(dst));
  const double most = to == Element::kF16 ? 65504.0 : 3e38;
  for (int64_t i = 0; i < rows * kRowElements; ++i) {
    const uint8_t* got = found.data() + i * Size(to);
    if (i % kRowElements >= kRowElements - 8) {
      if (std::memcmp(got, old.data() + i * Size(to),
                      static_cast<size_t>(Size(to))) != 0) {
        return absl::DataLossError("a blend wrote beside its box");
      }
      continue;
    }
    const double s = ToDouble(from, source.data() + i * Size(from));
    const double d = ToDouble(to, old.data() + i * Size(to));
    const double e = static_cast<double>(eta);
    const double exact = e * s + (1 - e) * d;
    const double terms = std::abs(e * s) + std::abs((1 - e) * d);
    if (!std::isfinite(exact) || terms > most) continue;
    // 1 - eta and a product are rounded to F32, then the sum; numbers below the
    // normal ones lie so far apart.
    const double least = to == Element::kF32    ? 0x1p-146
                         : to == Element::kBF16 ? 0x1p-132
                                                : 0x1p-24;
    const double bound =
        4 * 0x1p-24 * terms + HalfUlp(to) * std::abs(exact) + least;
    const double value = ToDouble(to, got);
    if (!(std::abs(value - exact) <= bound)) {
      return absl::DataLossError(absl::StrCat("blend with eta ", eta, " of ", s,
                                              " into ", d, ": expected ", exact,
                                              ", found ", value));
    }
  }
  return absl::OkStatus();
}

// Whether each block's scale is that of its largest element.
absl::Status CheckScales(Element element, int64_t cols, const Bytes& source,
                         const std::vector<float>& found) {
  const int64_t bytes = Size(element);
  const int64_t across = (cols + 127) / 128;
  const auto elements = static_cast<int64_t>(source.size()) / bytes;
  std::vector<double> amax(found.size(), 0.0);
  for (int64_t i = 0; i < elements; ++i) {
    double& most = amax[size_t(i / cols / 128 * across + i % cols / 128)];
    most =
        std::max(most, std::abs(ToDouble(element, source.data() + i * bytes)));
  }
  for (size_t b = 0; b < amax.size(); ++b) {
    const double scale = static_cast<double>(found[b]);
    if (!(std::abs(scale - amax[b] / 448) <= 0x1p-23 * scale)) {
      return absl::DataLossError(absl::StrCat("scale of block ", b,
                                              ": expected ", amax[b] / 448,
                                              ", found ", scale));
    }
  }
  return absl::OkStatus();
}

// Whether what came back lies near enough to what went.
absl::Status CheckNear(Element element, int64_t cols, const Bytes& source,
                       const Bytes& back, const std::vector<float>& found) {
  const int64_t bytes = Size(element);
  const int64_t across = (cols + 127) / 128;
  const auto elements = static_cast<int64_t>(source.size()) / bytes;
  for (int64_t i = 0; i < elements; ++i) {
    const double x = ToDouble(element, source.data() + i * bytes);
    const double y = ToDouble(element, back.data() + i * bytes);
    const double scale = static_cast<double>(
        found[size_t(i / cols / 128 * across + i % cols / 128)]);
    const double bound = std::max(std::abs(x) / 16, scale * 0x1p-10) * 1.001 +
                         HalfUlp(element) * std::abs(x) + 0x1p-24;
    if (!(std::abs(x - y) <= bound)) {
      return absl::DataLossError(absl::StrCat(
          "element ", i, " with scale ", scale, ": ", x, " came back as ", y));
    }
  }
  return absl::OkStatus();
}

// Quantises and back; what comes must lie as near as 4 bits of exponent and 3
// of mantissa allow under the block's scale.
absl::Status QuantiseOnce(Bench& bench, Element element, int64_t rows,
                          int64_t cols) {
  const int64_t bytes = Size(element);
  Bytes source(static_cast<size_t>(rows * cols * bytes));
  std::normal_distribution<double> weights(0, 0.02);
  for (int64_t i = 0; i < rows * cols; ++i) {
    FromDouble(element, weights(bench.random()), source.data() + i * bytes);
  }
  const int64_t down = (rows + 127) / 128;
  const int64_t across = (cols + 127) / 128;
  SLUICE_ASSIGN_OR_RETURN(const DeviceBuffer plain, bench.Upload(source));
  SLUICE_ASSIGN_OR_RETURN(const DeviceBuffer codes,
                          bench.Upload(bench.RandomBytes(rows * cols)));
  SLUICE_ASSIGN_OR_RETURN(const DeviceBuffer scales,
                          bench.Upload(bench.RandomBytes(down * across * 4)));
  QuantList list;
  SLUICE_RETURN_IF_ERROR(list.Add({.rows = rows,
                                   .cols = cols,
                                   .plain = plain.address(),
                                   .plain_row = cols * bytes,
                                   .quantised = codes.address(),
                                   .quantised_row = cols,
                                   .scales = scales.address(),
                                   .scale_row = across * 4},
                                  element));
  SLUICE_ASSIGN_OR_RETURN(
      const DeviceBuffer matrices,
      agent::cuda::UploadAll(bench.runtime(), bench.device(), list.matrices(),
                             bench.stream()));
  const auto batch =
      list.Batch(reinterpret_cast<const QuantDescriptor*>(matrices.data()));
  const auto stream = bench.stream().get();
  auto& runtime = bench.runtime();
  SLUICE_RETURN_IF_ERROR(
      runtime.Quantise(batch, element, bench.max_blocks(), stream));
  SLUICE_RETURN_IF_ERROR(
      runtime.Fill(plain.data(), 0xff, plain.size(), stream));
  SLUICE_RETURN_IF_ERROR(
      runtime.Dequantise(batch, element, bench.max_blocks(), stream));
  SLUICE_ASSIGN_OR_RETURN(const Bytes back, bench.Download(plain));
  std::vector<float> found(static_cast<size_t>(down * across));
  SLUICE_RETURN_IF_ERROR(
      scales.Download(found.data(), scales.size(), bench.stream()));
  SLUICE_RETURN_IF_ERROR(CheckScales(element, cols, source, found));
  return CheckNear(element, cols, source, back, found);
}

}  // namespace

absl::Status CheckCasts(const Settings& settings) {
  SLUICE_ASSIGN_OR_RETURN(Bench bench, Bench::Create(settings));
  const int64_t rows =
      std::max<int64_t>(settings.elements / kRowElements / 8, 3);
  constexpr Element kAll[] = {Element::kF64, Element::kF32, Element::kBF16,
                              Element::kF16};
  for (const Element from : kAll) {
    for (const Element to : kAll) {
      if (from == to) continue;
      SLUICE_RETURN_IF_ERROR(CastOnce(bench, from, to, rows));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckBlends(const Settings& settings) {
  SLUICE_ASSIGN_OR_RETURN(Bench bench, Bench::Create(settings));
  const int64_t rows =
      std::max<int64_t>(settings.elements / kRowElements / 8, 3);
  for (const Element from : kNarrowElements) {
    for (const Element to : kNarrowElements) {
      for (const float eta : {0.0f, 0.005f, 0.3f, 1.0f}) {
        SLUICE_RETURN_IF_ERROR(BlendOnce(bench, from, to, rows, eta));
      }
    }
  }
  return absl::OkStatus();
}

absl::Status CheckQuantised(const Settings& settings) {
  SLUICE_ASSIGN_OR_RETURN(Bench bench, Bench::Create(settings));
  const int64_t rows = std::max<int64_t>(settings.elements / 1000 / 8, 130);
  for (const Element element : kNarrowElements) {
    SLUICE_RETURN_IF_ERROR(QuantiseOnce(bench, element, rows, 512));
    SLUICE_RETURN_IF_ERROR(QuantiseOnce(bench, element, rows, 301));
  }
  return absl::OkStatus();
}

}  // namespace sluice::gpu_tests
