#include "tests/fakes/nccl/fake_faults.h"

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <sstream>

namespace sluice::fake_nccl {
namespace {

std::string Faults() {
  if (const char* file = std::getenv("SLUICE_FAKE_NCCL_CONTROL")) {
    std::ifstream in(file);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  const char* faults = std::getenv("SLUICE_FAKE_NCCL_FAULTS");
  return faults != nullptr ? faults : "";
}

// Takes what follows the last `mark` off `word`; -1 if there is none.
int TakeNumber(char mark, std::string& word) {
  const size_t at = word.rfind(mark);
  if (at == std::string::npos) return -1;
  const int number = std::atoi(word.c_str() + at + 1);
  word.resize(at);
  return number;
}

}  // namespace

bool FaultSet(const std::string& what, int rank, int number) {
  std::string text = Faults();
  for (char& c : text) {
    if (c == ',') c = ' ';
  }
  std::istringstream words(text);
  std::string word;
  while (words >> word) {
    const int at_number = TakeNumber(':', word);
    const int at_rank = TakeNumber('@', word);
    if (word == what && (at_rank < 0 || at_rank == rank) &&
        (at_number < 0 || at_number == number)) {
      return true;
    }
  }
  return false;
}

}  // namespace sluice::fake_nccl
