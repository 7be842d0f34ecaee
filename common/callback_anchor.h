#ifndef SLUICE_COMMON_CALLBACK_ANCHOR_H_
#define SLUICE_COMMON_CALLBACK_ANCHOR_H_

// Keeps the threads alive that run gRPC's callbacks.
//
// gRPC 1.51 ends these threads when the last channel or server that used the
// callback API is destroyed, and joins them there. Where that happens inside a
// callback, a thread joins itself and the process dies. Whoever destroys
// channels in callbacks holds one of these, made before them and destroyed
// after them outside of any callback.

#include <memory>

namespace grpc {
class Channel;
}  // namespace grpc

namespace sluice {

class CallbackAnchor {
 public:
  CallbackAnchor();
  // Not inside a gRPC callback.
  ~CallbackAnchor();
  CallbackAnchor(const CallbackAnchor&) = delete;
  CallbackAnchor& operator=(const CallbackAnchor&) = delete;

 private:
  struct Call;

  std::shared_ptr<grpc::Channel> channel_;
  std::shared_ptr<Call> call_;
};

}  // namespace sluice

#endif  // SLUICE_COMMON_CALLBACK_ANCHOR_H_
