#include "common/overloaded.h"

#include <catch2/catch.hpp>
#include <string>
#include <variant>

namespace sluice {
namespace {

TEST_CASE("each alternative goes to its lambda", "[common]") {
  const auto describe = [](const std::variant<int, std::string>& value) {
    return std::visit(Overloaded{[](int number) { return number + 1; },
                                 [](const std::string& text) {
                                   return static_cast<int>(text.size());
                                 }},
                      value);
  };
  CHECK(describe(4) == 5);
  CHECK(describe(std::string("abc")) == 3);
}

}  // namespace
}  // namespace sluice
