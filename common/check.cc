#include "common/check.h"

#include <cstdio>
#include <cstdlib>
#include <string>

namespace sluice::check_internal {

Failure::Failure(const char* file, int line, const char* condition) {
  message_ << "check failed: " << condition << " at " << file << ":" << line
           << ": ";
}

Failure::~Failure() {
  message_ << "\n";
  const std::string text = message_.str();
  std::fwrite(text.data(), 1, text.size(), stderr);
  std::fflush(stderr);
  std::abort();
}

}  // namespace sluice::check_internal
