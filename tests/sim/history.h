#ifndef SLUICE_TESTS_SIM_HISTORY_H_
#define SLUICE_TESTS_SIM_HISTORY_H_

// What happened, for people who look into a failed seed, and the first broken
// invariant.

#include <cstddef>
#include <deque>
#include <iostream>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "tests/sim/scheduler.h"

namespace sluice::sim {

class History {
 public:
  History(const Scheduler& scheduler, bool verbose)
      : scheduler_(scheduler), verbose_(verbose), start_(scheduler.now()) {}

  template <typename... Args>
  void Note(const Args&... args) {
    std::string line = absl::StrCat(
        absl::FormatDuration(scheduler_.now() - start_), "  ", args...);
    if (verbose_) std::cerr << line << "\n";
    lines_.push_back(std::move(line));
    if (lines_.size() > kKept) lines_.pop_front();
  }
  // An invariant is broken; the first one counts.
  template <typename... Args>
  void Violation(const Args&... args) {
    const std::string text = absl::StrCat(args...);
    Note("VIOLATION: ", text);
    if (violation_.empty()) violation_ = text;
  }
  bool failed() const { return !violation_.empty(); }
  const std::string& violation() const { return violation_; }

  std::string Tail() const {
    std::string tail;
    for (const std::string& line : lines_) absl::StrAppend(&tail, line, "\n");
    return tail;
  }

 private:
  static constexpr size_t kKept = 250;

  const Scheduler& scheduler_;
  const bool verbose_;
  const absl::Time start_;
  std::deque<std::string> lines_;
  std::string violation_;
};

}  // namespace sluice::sim

#endif  // SLUICE_TESTS_SIM_HISTORY_H_
