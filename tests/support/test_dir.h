#ifndef SLUICE_TESTS_SUPPORT_TEST_DIR_H_
#define SLUICE_TESTS_SUPPORT_TEST_DIR_H_

// A short-named folder for a test. Bazel's TEST_TMPDIR is longer than the 107
// bytes that the path of a Unix socket may have.

#include <string>

#include "absl/strings/string_view.h"

namespace sluice::testing {

// Made under /tmp by the constructor, removed with all it holds by the
// destructor. Failing to make it ends the process.
class TestDir {
 public:
  TestDir();
  ~TestDir();
  TestDir(const TestDir&) = delete;
  TestDir& operator=(const TestDir&) = delete;

  // "/tmp/sl.XXXXXX".
  const std::string& path() const { return path_; }

  // The path of `name` in it; nothing is created.
  std::string File(absl::string_view name) const;

  // Writes a file in it, whole, and returns its path.
  std::string Write(absl::string_view name, absl::string_view content) const;

 private:
  std::string path_;
};

// The bytes of a file. Failing to read it ends the process.
std::string ReadFile(const std::string& path);

}  // namespace sluice::testing

#endif  // SLUICE_TESTS_SUPPORT_TEST_DIR_H_
