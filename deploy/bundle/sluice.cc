// All programs of the release bundle in one binary. Which one runs is chosen by
// the name it is called by (links in the bundle's bin/), or by the first word:
//
//   bin/sluice-agent --help        bin/sluice agent --help

#include <cstring>
#include <iostream>
#include <string>

#include "bench/gpu_bench.h"
#include "tests/gpu/gpu_tests.h"

// Defined by SLUICE_PROGRAM (common/program.h).
int AgentMain(int argc, char** argv);
int CoordinatorMain(int argc, char** argv);
int QuickstartMain(int argc, char** argv);
int QuickstartWorkerMain(int argc, char** argv);
int SluicectlMain(int argc, char** argv);
int TransferBenchMain(int argc, char** argv);

namespace {

constexpr int kUsage = 2;

struct Program {
  const char* name;
  int (*main)(int argc, char** argv);
  const char* what;
};

constexpr Program kPrograms[] = {
    {"agent", &AgentMain, "owns the memory of one device"},
    {"coordinator", &CoordinatorMain, "plans and orders every move"},
    {"gpu_bench", &sluice::bench::GpuBenchMain, "measures a GPU"},
    {"gpu_tests", &sluice::gpu_tests::GpuTestsMain, "checks a GPU"},
    {"quickstart", &QuickstartMain, "runs a whole cluster on this machine"},
    {"quickstart-worker", &QuickstartWorkerMain, "a rank of the quickstart"},
    {"sluicectl", &SluicectlMain, "looks at and drives a cluster"},
    {"transfer_bench", &TransferBenchMain, "measures copies and the network"},
};

// The program of a path such as bin/sluice-agent or gpu_tests; null for others.
const Program* Find(const char* path) {
  const char* slash = std::strrchr(path, '/');
  std::string name = slash == nullptr ? path : slash + 1;
  constexpr char kPrefix[] = "sluice-";
  if (name.rfind(kPrefix, 0) == 0) name = name.substr(sizeof(kPrefix) - 1);
  for (const Program& program : kPrograms) {
    if (name == program.name) return &program;
  }
  return nullptr;
}

int PrintUsage(std::ostream& out, int status) {
  out << "sluice PROGRAM [ARGUMENTS]; each has --help:\n";
  for (const Program& program : kPrograms) {
    out << "  " << program.name
        << std::string(20 - std::strlen(program.name), ' ') << program.what
        << "\n";
  }
  return status;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 1) return kUsage;
  if (const Program* program = Find(argv[0])) return program->main(argc, argv);
  if (argc < 2) return PrintUsage(std::cerr, kUsage);
  if (const Program* program = Find(argv[1])) {
    return program->main(argc - 1, argv + 1);
  }
  const std::string word = argv[1];
  if (word == "--help" || word == "help") return PrintUsage(std::cout, 0);
  std::cerr << "sluice: no program \"" << word << "\"\n";
  return PrintUsage(std::cerr, kUsage);
}
