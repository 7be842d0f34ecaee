// libFuzzer's own mutations seldom leave JSON that parses: half of the time one
// value of the document is changed instead.

#include <cstring>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "tests/fuzz/fuzz_numbers.h"
#include "tests/fuzz/fuzz_target.h"

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t max_size);
extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size,
                                          size_t max_size, unsigned int seed);

namespace {

using nlohmann::json;
using sluice::testing::Below;
using sluice::testing::FuzzNumber;
using Rng = sluice::testing::FuzzRng;

void Collect(json& value, std::vector<json*>& out) {
  out.push_back(&value);
  if (!value.is_structured()) return;
  for (json& member : value) Collect(member, out);
}

// Drops, doubles or exchanges a member.
void ChangeMembers(Rng& rng, json& value, const json& other) {
  if (value.empty()) {
    if (value.is_array()) value.push_back(other);
    return;
  }
  const auto at = static_cast<std::ptrdiff_t>(Below(rng, value.size()));
  if (!value.is_array()) {
    if (Below(rng, 2) == 0) {
      value.erase(std::next(value.begin(), at));
    } else {
      *std::next(value.begin(), at) = other;
    }
    return;
  }
  switch (Below(rng, 3)) {
    case 0:
      value.erase(value.begin() + at);
      return;
    case 1:
      value.push_back(json(value[static_cast<size_t>(at)]));
      return;
    default:
      value[static_cast<size_t>(at)] = other;
      return;
  }
}

void Change(Rng& rng, json& root) {
  std::vector<json*> values;
  Collect(root, values);
  json& value = *values[Below(rng, values.size())];
  const json other = *values[Below(rng, values.size())];
  if (value.is_structured()) {
    ChangeMembers(rng, value, other);
  } else if (value.is_number()) {
    value =
        FuzzNumber(rng, value.is_number_integer() ? value.get<int64_t>() : 0);
  } else {
    value = other;
  }
}

}  // namespace

size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size,
                               unsigned int seed) {
  Rng rng(seed + 1);
  json root = json::parse(data, data + size, nullptr, /*exceptions=*/false);
  if (root.is_discarded() || Below(rng, 2) == 0) {
    return LLVMFuzzerMutate(data, size, max_size);
  }
  for (size_t n = Below(rng, 3); n < 3; ++n) Change(rng, root);
  const std::string text =
      root.dump(-1, ' ', false, json::error_handler_t::replace);
  if (text.size() > max_size) return LLVMFuzzerMutate(data, size, max_size);
  std::memcpy(data, text.data(), text.size());
  return text.size();
}
