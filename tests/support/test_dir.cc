#include "tests/support/test_dir.h"

#include <stdlib.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "common/check.h"

namespace sluice::testing {

TestDir::TestDir() : path_("/tmp/sl.XXXXXX") {
  SLUICE_CHECK(mkdtemp(path_.data()) != nullptr)
      << path_ << ": " << std::strerror(errno);
}

TestDir::~TestDir() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::string TestDir::File(absl::string_view name) const {
  return absl::StrCat(path_, "/", name);
}

std::string TestDir::Write(absl::string_view name,
                           absl::string_view content) const {
  const std::string path = File(name);
  std::ofstream out(path, std::ios::binary);
  out.write(content.data(), static_cast<std::streamsize>(content.size()));
  out.close();
  SLUICE_CHECK(out.good()) << "writing " << path;
  return path;
}

std::string ReadFile(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  SLUICE_CHECK(in.good()) << "reading " << path;
  return std::string(std::istreambuf_iterator<char>(in), {});
}

}  // namespace sluice::testing
