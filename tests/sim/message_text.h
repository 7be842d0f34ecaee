#ifndef SLUICE_TESTS_SIM_MESSAGE_TEXT_H_
#define SLUICE_TESTS_SIM_MESSAGE_TEXT_H_

// What the history of a run prints for the messages of a command stream.

#include <string>

#include "common/command.h"

namespace sluice::sim {

// One line that names the command and the object it is about.
std::string CommandText(const Command& command);

// Empty for events too frequent to print (progress).
std::string EventText(const AgentEvent& event);

}  // namespace sluice::sim

#endif  // SLUICE_TESTS_SIM_MESSAGE_TEXT_H_
