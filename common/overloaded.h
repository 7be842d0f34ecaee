#ifndef SLUICE_COMMON_OVERLOADED_H_
#define SLUICE_COMMON_OVERLOADED_H_

// Lambdas as one visitor: std::visit(Overloaded{[](A) {...}, [](B) {...}}, v).
// A variant's new case without a lambda does not compile.

namespace sluice {

template <typename... Ts>
struct Overloaded : Ts... {
  using Ts::operator()...;
};
template <typename... Ts>
Overloaded(Ts...) -> Overloaded<Ts...>;

}  // namespace sluice

#endif  // SLUICE_COMMON_OVERLOADED_H_
