#ifndef SLUICE_TESTS_FUZZ_MUTATE_PROTO_H_
#define SLUICE_TESTS_FUZZ_MUTATE_PROTO_H_

// For targets that take a message: half of the time libFuzzer changes bytes,
// half of the time one field of the message is changed. In its own file per
// target, as the message's type is the target's:
//
//   SLUICE_MUTATE_PROTO(sluice::v1::PlanPart)

#include <cstddef>
#include <cstdint>

#include "google/protobuf/message.h"

namespace sluice::testing {

// Returns the new size.
size_t MutateProto(google::protobuf::Message& message, uint8_t* data,
                   size_t size, size_t max_size, unsigned int seed);

}  // namespace sluice::testing

#define SLUICE_MUTATE_PROTO(Type)                                        \
  extern "C" size_t LLVMFuzzerCustomMutator(                             \
      uint8_t* data, size_t size, size_t max_size, unsigned int seed) {  \
    Type message;                                                        \
    return ::sluice::testing::MutateProto(message, data, size, max_size, \
                                          seed);                         \
  }

#endif  // SLUICE_TESTS_FUZZ_MUTATE_PROTO_H_
