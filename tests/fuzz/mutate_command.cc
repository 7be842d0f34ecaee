#include "proto/sluice/v1/command.pb.h"
#include "tests/fuzz/mutate_proto.h"

SLUICE_MUTATE_PROTO(sluice::v1::Command)
