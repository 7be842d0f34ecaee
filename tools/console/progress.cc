#include "tools/console/progress.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/format.h"

namespace sluice::console {
namespace {

constexpr absl::Duration kTerminalInterval = absl::Milliseconds(100);
constexpr int kBarWidth = 24;

std::string Bar(int64_t done, int64_t total) {
  const double part = std::clamp(
      static_cast<double>(done) / static_cast<double>(total), 0.0, 1.0);
  const int filled = static_cast<int>(part * kBarWidth);
  return absl::StrCat("[", std::string(static_cast<size_t>(filled), '#'),
                      std::string(static_cast<size_t>(kBarWidth - filled), '.'),
                      "] ", static_cast<int>(part * 100), "%");
}

}  // namespace

Progress::Progress(absl::string_view step, bool quiet, absl::Duration interval)
    : step_(step),
      quiet_(quiet),
      terminal_(::isatty(STDERR_FILENO) == 1),
      interval_(terminal_ ? kTerminalInterval : interval),
      started_(absl::Now()),
      printed_(started_) {
  if (!quiet_ && terminal_) std::fprintf(stderr, "%s ...", step_.c_str());
}

Progress::~Progress() {
  MutexLock lock(mutex_);
  if (!quiet_ && terminal_ && !finished_) std::fprintf(stderr, "\n");
}

void Progress::Update(int64_t done_bytes, int64_t total_bytes,
                      absl::string_view detail) {
  MutexLock lock(mutex_);
  const absl::Time now = absl::Now();
  if (quiet_ || finished_ || now - printed_ < interval_) return;
  printed_ = now;
  std::string line = absl::StrCat(step_, " ");
  if (total_bytes > 0) {
    absl::StrAppend(&line, terminal_ ? Bar(done_bytes, total_bytes) : "", " ",
                    HumanBytes(done_bytes), " of ", HumanBytes(total_bytes),
                    " ");
  }
  absl::StrAppend(&line, detail);
  // Erases what a longer line left behind.
  std::fprintf(stderr, terminal_ ? "\r%s\033[K" : "%s\n", line.c_str());
}

void Progress::Finish(absl::string_view outcome) {
  MutexLock lock(mutex_);
  if (finished_) return;
  finished_ = true;
  if (quiet_) return;
  std::fprintf(stderr, "%s%s: %s (%s)%s\n", terminal_ ? "\r" : "",
               step_.c_str(), std::string(outcome).c_str(),
               HumanDuration(absl::Now() - started_).c_str(),
               terminal_ ? "\033[K" : "");
}

}  // namespace sluice::console
