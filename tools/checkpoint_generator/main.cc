// generate_checkpoint: writes a checkpoint of random values.

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/dtype.h"
#include "common/format.h"
#include "tools/checkpoint_generator/generator.h"

namespace {

// A line that is written over on a terminal; every quarter in a log.
class ProgressLine {
 public:
  explicit ProgressLine(std::string what) : what_(std::move(what)) {}

  void Update(int64_t done, int64_t total) {
    const int64_t percent = total == 0 ? 100 : done * 100 / total;
    if (percent / step_ == shown_ / step_ && done != total) return;
    if (percent == shown_) return;
    shown_ = percent;
    std::fprintf(stderr, "%s%s: %3ld%% of %s%s", terminal_ ? "\r" : "",
                 what_.c_str(), static_cast<long>(percent),
                 sluice::HumanBytes(total).c_str(),
                 terminal_ && done != total ? "" : "\n");
  }

 private:
  const std::string what_;
  const bool terminal_ = isatty(STDERR_FILENO) == 1;
  const int64_t step_ = terminal_ ? 1 : 25;
  int64_t shown_ = 0;
};

struct Flags {
  sluice::GeneratorOptions options;
  std::string out;
  std::string dtype = "bfloat16";
  bool untied = false;
  bool no_biases = false;
  bool replace = false;
};

void AddFlags(CLI::App& app, Flags& flags) {
  app.add_option("--out", flags.out, "Directory to make")->required();
  app.add_option("--seed", flags.options.seed, "Seed of all values")
      ->capture_default_str();
  const struct {
    const char* name;
    int64_t* value;
    const char* what;
  } numbers[] = {
      {"--layers", &flags.options.layers, "Number of layers"},
      {"--hidden", &flags.options.hidden, "Hidden size"},
      {"--heads", &flags.options.heads, "Query heads"},
      {"--kv-heads", &flags.options.kv_heads, "Key and value heads"},
      {"--head-dim", &flags.options.head_dim, "Width of a head"},
      {"--intermediate", &flags.options.intermediate, "MLP width"},
      {"--vocab", &flags.options.vocab, "Vocabulary rows"},
      {"--files", &flags.options.files, "Number of safetensors files"},
  };
  for (const auto& number : numbers) {
    app.add_option(number.name, *number.value, number.what)
        ->capture_default_str();
  }
  app.add_option("--dtype", flags.dtype, "bfloat16, float16 or float32")
      ->capture_default_str();
  app.add_flag("--untied", flags.untied, "With an lm_head.weight of its own");
  app.add_flag("--no-biases", flags.no_biases, "Without biases on q, k and v");
  app.add_flag("--replace", flags.replace,
               "Replace a checkpoint that was made with other options");
}

int Fail(const absl::Status& status, int code) {
  std::fprintf(stderr, "generate_checkpoint: %s\n",
               std::string(status.message()).c_str());
  return code;
}

}  // namespace

int main(int argc, char** argv) {
  Flags flags;
  CLI::App app{
      "Writes a Hugging Face style checkpoint of random values: the names and\n"
      "shapes of Qwen2.5-1.5B cut to 8 layers unless said otherwise. Does\n"
      "nothing if it is there already.\n\n"
      "Example: generate_checkpoint --out /tmp/checkpoint --layers 2"};
  AddFlags(app, flags);
  CLI11_PARSE(app, argc, argv);
  flags.options.tied = !flags.untied;
  flags.options.biases = !flags.no_biases;
  const absl::StatusOr<sluice::DType> dtype = sluice::ParseDType(flags.dtype);
  if (!dtype.ok()) return Fail(dtype.status(), 2);
  flags.options.dtype = *dtype;
  ProgressLine line(flags.out);
  const absl::StatusOr<bool> made = sluice::GenerateCheckpoint(
      flags.options, flags.out, flags.replace,
      [&line](int64_t done, int64_t total) { line.Update(done, total); });
  if (!made.ok()) return Fail(made.status(), 1);
  std::fprintf(stderr, "%s: %s\n", flags.out.c_str(),
               *made ? "done" : "is there already");
  return 0;
}
