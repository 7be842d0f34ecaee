#ifndef SLUICE_COMMON_CHECK_H_
#define SLUICE_COMMON_CHECK_H_

// Broken invariants of our own end the process; errors of callers and of the
// environment are absl::Status.
//
//   SLUICE_CHECK(it != plans_.end()) << "plan " << id;

#include <ostream>
#include <sstream>

namespace sluice::check_internal {

// Collects the message; the destructor writes it to stderr and aborts.
class Failure {
 public:
  Failure(const char* file, int line, const char* condition);
  [[noreturn]] ~Failure();
  Failure(const Failure&) = delete;
  Failure& operator=(const Failure&) = delete;

  std::ostream& stream() { return message_; }

 private:
  std::ostringstream message_;
};

// Makes both branches of the macro's conditional void; & binds weaker than <<.
struct Voidify {
  void operator&(std::ostream&) const {}
};

}  // namespace sluice::check_internal

// Dies with file, line, condition and the streamed message when it is false.
#define SLUICE_CHECK(condition)                                               \
  (__builtin_expect(static_cast<bool>(condition), 1))                         \
      ? (void)0                                                               \
      : ::sluice::check_internal::Voidify() &                                 \
            ::sluice::check_internal::Failure(__FILE__, __LINE__, #condition) \
                .stream()

// Dies with the status when it is not OK.
#define SLUICE_CHECK_OK(expr)                                        \
  do {                                                               \
    const auto& sluice_check_status_ = (expr);                       \
    SLUICE_CHECK(sluice_check_status_.ok()) << sluice_check_status_; \
  } while (false)

#endif  // SLUICE_COMMON_CHECK_H_
