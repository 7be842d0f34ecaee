#include "agent/collective/reduce_log.h"

#include <bit>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace sluice::agent {
namespace {

// Runs of equal requests remembered in words; the digest has all.
constexpr size_t kMaxRuns = 64;

}  // namespace

ReduceLog::ReduceLog(ReduceOp operation, double bucket_mib, int members)
    : operation_(operation),
      bucket_mib_(bucket_mib),
      digest_(0xcbf29ce484222325) {
  Mix(static_cast<uint64_t>(operation));
  Mix(std::bit_cast<uint64_t>(bucket_mib));
  Mix(static_cast<uint64_t>(members));
}

void ReduceLog::Mix(uint64_t value) {
  // FNV-1a, whose answer is the same in every build.
  for (int i = 0; i < 8; ++i) {
    digest_ = (digest_ ^ (value >> (8 * i) & 0xff)) * 0x100000001b3;
  }
}

void ReduceLog::Add(DType dtype, const std::vector<int64_t>& shape) {
  ++num_requests_;
  Mix(static_cast<uint64_t>(dtype));
  Mix(shape.size());
  for (const int64_t size : shape) Mix(static_cast<uint64_t>(size));
  std::string words =
      absl::StrCat(DTypeName(dtype), "[", absl::StrJoin(shape, ","), "]");
  if (!recent_.empty() && recent_.back().words == words) {
    ++recent_.back().count;
  } else if (recent_.size() < kMaxRuns) {
    recent_.push_back({std::move(words), 1});
  } else {
    recent_.back() = {"...", 1};
  }
}

std::string ReduceLog::Settings() const {
  return absl::StrCat(operation_ == ReduceOp::kAverage ? "average" : "sum",
                      ", buckets of ", bucket_mib_, " MiB");
}

std::string ReduceLog::TakeRecent(size_t max_bytes) {
  if (recent_.empty()) {
    return absl::StrCat("after request ", num_requests_);
  }
  std::string words = first_recent_ == num_requests_
                          ? absl::StrCat("request ", num_requests_, ": ")
                          : absl::StrCat("requests ", first_recent_, " to ",
                                         num_requests_, ": ");
  absl::string_view separator = "";
  for (const Run& run : recent_) {
    absl::StrAppend(&words, separator);
    if (run.count > 1) absl::StrAppend(&words, run.count, " x ");
    absl::StrAppend(&words, run.words);
    separator = ", ";
  }
  if (words.size() > max_bytes) {
    words.resize(max_bytes - 3);
    words += "...";
  }
  recent_.clear();
  first_recent_ = num_requests_ + 1;
  return words;
}

}  // namespace sluice::agent
