#ifndef SLUICE_COMMON_PROGRAM_H_
#define SLUICE_COMMON_PROGRAM_H_

// The entry of a program that is also a part of the release bundle's one binary
// (deploy/bundle). Outside of all namespaces:
//
//   SLUICE_PROGRAM(Agent) {    // argc and argv as main's
//     ...
//     return 0;
//   }
//
// is main() in the program's own binary, and AgentMain() in a library that is
// compiled with SLUICE_BUNDLED.

#if defined(SLUICE_BUNDLED)
#define SLUICE_PROGRAM(name)             \
  int name##Main(int argc, char** argv); \
  int name##Main([[maybe_unused]] int argc, [[maybe_unused]] char** argv)
#else
#define SLUICE_PROGRAM(name) \
  int main([[maybe_unused]] int argc, [[maybe_unused]] char** argv)
#endif

#endif  // SLUICE_COMMON_PROGRAM_H_
