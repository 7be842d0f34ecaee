#include "common/callback_anchor.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>

#include "absl/base/thread_annotations.h"
#include "common/mutex.h"

namespace sluice {

// A call to nobody: a channel takes part in the callback threads' life from its
// first call on.
struct CallbackAnchor::Call {
  grpc::ClientContext context;
  const grpc::Slice no_bytes;
  const grpc::ByteBuffer request{&no_bytes, 1};
  grpc::ByteBuffer response;
  Mutex mutex;
  CondVar changed;
  bool done ABSL_GUARDED_BY(mutex) = false;
};

CallbackAnchor::CallbackAnchor()
    : channel_(grpc::CreateChannel("unix:/dev/null/nobody",
                                   grpc::InsecureChannelCredentials())),
      call_(std::make_shared<Call>()) {
  grpc::GenericStub stub(channel_);
  stub.UnaryCall(&call_->context, "/sluice.v1.Nobody/Call", grpc::StubOptions(),
                 &call_->request, &call_->response,
                 [call = call_](const grpc::Status&) {
                   MutexLock lock(call->mutex);
                   call->done = true;
                   call->changed.SignalAll();
                 });
}

CallbackAnchor::~CallbackAnchor() {
  call_->context.TryCancel();
  MutexLock lock(call_->mutex);
  while (!call_->done) call_->changed.Wait(call_->mutex);
}

}  // namespace sluice
