#include "tools/checkpoint_generator/values.h"

#include <algorithm>
#include <cstring>

namespace sluice {
namespace {

constexpr uint64_t kStep = 0x9e3779b97f4a7c15;

// A bijection of 64 bits in which every input bit reaches every output bit.
constexpr uint64_t Mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

// How a block of bits becomes the elements of a type: bits of `keep` stay
// (sign, mantissa), bits of `exponent` (three per element) stay and `base` is
// added, which cannot carry out of the exponent.
struct Form {
  uint64_t keep = ~uint64_t{0};
  uint64_t exponent = 0;
  uint64_t base = 0;
};

Form FormOf(DType dtype) {
  switch (dtype) {
    case DType::kBF16:  // 1-8-7, bias 127: exponents 117 to 124
      return {0x807f807f807f807f, 0x0380038003800380, 0x3a803a803a803a80};
    case DType::kF16:  // 1-5-10, bias 15: exponents 5 to 12
      return {0x83ff83ff83ff83ff, 0x1c001c001c001c00, 0x1400140014001400};
    case DType::kF32:  // 1-8-23, bias 127
      return {0x807fffff807fffff, 0x0380000003800000, 0x3a8000003a800000};
    default:
      return {};
  }
}

uint64_t Block(uint64_t key, int64_t block, const Form& form) {
  const uint64_t x = Mix(key + (static_cast<uint64_t>(block) + 1) * kStep);
  return (x & form.keep) | ((x & form.exponent) + form.base);
}

}  // namespace

uint64_t TensorKey(uint64_t seed, absl::string_view tensor_name) {
  uint64_t key = Mix(seed + kStep);
  for (const char c : tensor_name) {
    key = Mix(key ^ static_cast<unsigned char>(c)) + kStep;
  }
  return key;
}

bool HasValues(DType dtype) {
  switch (dtype) {
    case DType::kBF16:
    case DType::kF16:
    case DType::kF32:
    case DType::kU8:
    case DType::kI8:
    case DType::kI16:
    case DType::kI32:
    case DType::kI64:
      return true;
    default:
      return false;
  }
}

void FillValues(uint64_t key, DType dtype, int64_t first,
                absl::Span<uint8_t> bytes) {
  static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__);
  const Form form = FormOf(dtype);
  // The elements' bytes lie in the blocks' bytes: position = index * size.
  int64_t position = first * ByteSize(dtype);
  uint8_t* out = bytes.data();
  uint8_t* const end = out + bytes.size();
  while (out < end) {
    const int64_t within = position % 8;
    if (within == 0 && end - out >= 8) {
      int64_t block = position / 8;
      const int64_t count = (end - out) / 8;
      for (int64_t i = 0; i < count; ++i, ++block, out += 8) {
        const uint64_t bits = Block(key, block, form);
        std::memcpy(out, &bits, 8);
      }
      position += count * 8;
      continue;
    }
    const uint64_t bits = Block(key, position / 8, form);
    const auto size =
        static_cast<size_t>(std::min<int64_t>(8 - within, end - out));
    std::memcpy(out, reinterpret_cast<const uint8_t*>(&bits) + within, size);
    out += size;
    position += static_cast<int64_t>(size);
  }
}

}  // namespace sluice
