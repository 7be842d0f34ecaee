#include "tests/sim/contents.h"

#include "absl/strings/str_cat.h"

namespace sluice::sim {
namespace {

uint64_t Mix(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
  return z ^ (z >> 31);
}

}  // namespace

ContentId Contents::Intern(const std::string& name) {
  return names_.try_emplace(name, names_.size() + 1).first->second;
}

ContentId Contents::OfDirectory(const std::string& directory) {
  return Intern(absl::StrCat("directory ", directory));
}

ContentId Contents::OfStep(const std::string& placement, int64_t step) {
  return Intern(absl::StrCat("step ", placement, " ", step));
}

uint8_t Contents::ParameterByte(ContentId content, TensorIndex tensor,
                                int64_t index, DType dtype, int64_t b) {
  // The upper half of an F32 is a BF16; neither infinite nor no number.
  const uint64_t bits =
      Mix(content * 1000003 + static_cast<uint64_t>(tensor.value()) * 10007 +
          static_cast<uint64_t>(index) * 8) &
      0xbfff;
  const int64_t low = dtype == DType::kF32 ? 2 : 0;
  return b < low ? 0 : static_cast<uint8_t>(bits >> (8 * (b - low)));
}

uint8_t Contents::SampleByte(const SampleEntry& entry, int64_t offset) {
  uint64_t h = 0;
  for (const char c : entry.sample_id) h = h * 131 + static_cast<uint8_t>(c);
  for (const char c : entry.key) h = h * 137 + static_cast<uint8_t>(c);
  return static_cast<uint8_t>(Mix(h * 1009 + static_cast<uint64_t>(offset)));
}

void Contents::Assign(Version version, ContentId content,
                      const std::string& by) {
  const auto [it, inserted] = versions_.emplace(version, content);
  if (inserted) {
    history_.Note("version ", version.value(), " is content ", content, " (",
                  by, ")");
  } else if (it->second != content) {
    history_.Violation("version ", version.value(), " is content ", it->second,
                       " and content ", content, " (", by, ")");
  }
}

ContentId Contents::Of(Version version) const {
  const auto it = versions_.find(version);
  return it == versions_.end() ? 0 : it->second;
}

}  // namespace sluice::sim
