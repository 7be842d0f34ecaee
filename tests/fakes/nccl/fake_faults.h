#ifndef SLUICE_TESTS_FAKES_NCCL_FAKE_FAULTS_H_
#define SLUICE_TESTS_FAKES_NCCL_FAKE_FAULTS_H_

// What the fake library was told to do wrong. Faults are words separated by
// spaces or commas, in SLUICE_FAKE_NCCL_FAULTS or in the file named by
// SLUICE_FAKE_NCCL_CONTROL, which is read again each time:
//
//   what[@rank][:number]     on that rank of a communicator (any), at its
//                            number-th group call (any), counted from 1
//
//   init_hang       creation never ends      init_fail      it fails
//   init_duplicate  refused: two ranks on one device
//   init_hold       creation waits while the file says so
//   op_hang         the call never ends      op_fail        it is refused
//   op_hold         the call waits while the file says so
//   op_error        the communicator gets an asynchronous error; the call hangs
//   late_connect    a call hangs that needs connections which the first one did
//                   not: those of a kind of collective, or with a peer
//   gone_internal   that a rank is gone shows as an internal error, as where a
//                   thread of NCCL's own met it
//   finalize_hang   never becomes quiescent
//   abort_hang      an abort never returns
//   abort_waits     an abort returns when no call of the process is left
//                   running on a communicator that was not aborted, as freeing
//                   device memory does

#include <string>

namespace sluice::fake_nccl {

// `number` 0: what is asked about has none.
bool FaultSet(const std::string& what, int rank, int number);

}  // namespace sluice::fake_nccl

#endif  // SLUICE_TESTS_FAKES_NCCL_FAKE_FAULTS_H_
