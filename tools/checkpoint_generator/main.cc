// generate_checkpoint: writes a checkpoint of random values.

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <string>

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

}  // namespace

int main(int argc, char** argv) {
  sluice::GeneratorOptions options;
  std::string out;
  std::string dtype = "bfloat16";
  bool untied = false;
  bool no_biases = false;
  bool replace = false;
  CLI::App app{
      "Writes a Hugging Face style checkpoint of random values: the names and\n"
      "shapes of Qwen2.5-1.5B cut to 8 layers unless said otherwise. Does\n"
      "nothing if it is there already.\n\n"
      "Example: generate_checkpoint --out /tmp/checkpoint --layers 2"};
  app.add_option("--out", out, "Directory to make")->required();
  app.add_option("--seed", options.seed, "Seed of all values")
      ->capture_default_str();
  app.add_option("--layers", options.layers, "Number of layers")
      ->capture_default_str();
  app.add_option("--hidden", options.hidden, "Hidden size")
      ->capture_default_str();
  app.add_option("--heads", options.heads, "Query heads")
      ->capture_default_str();
  app.add_option("--kv-heads", options.kv_heads, "Key and value heads")
      ->capture_default_str();
  app.add_option("--head-dim", options.head_dim, "Width of a head")
      ->capture_default_str();
  app.add_option("--intermediate", options.intermediate, "MLP width")
      ->capture_default_str();
  app.add_option("--vocab", options.vocab, "Vocabulary rows")
      ->capture_default_str();
  app.add_option("--files", options.files, "Number of safetensors files")
      ->capture_default_str();
  app.add_option("--dtype", dtype, "bfloat16, float16 or float32")
      ->capture_default_str();
  app.add_flag("--untied", untied, "With an lm_head.weight of its own");
  app.add_flag("--no-biases", no_biases, "Without biases on q, k and v");
  app.add_flag("--replace", replace,
               "Replace a checkpoint that was made with other options");
  CLI11_PARSE(app, argc, argv);
  options.tied = !untied;
  options.biases = !no_biases;
  const absl::StatusOr<sluice::DType> parsed = sluice::ParseDType(dtype);
  if (!parsed.ok()) {
    std::fprintf(stderr, "generate_checkpoint: %s\n",
                 std::string(parsed.status().message()).c_str());
    return 2;
  }
  options.dtype = *parsed;
  ProgressLine line(out);
  const absl::StatusOr<bool> made = sluice::GenerateCheckpoint(
      options, out, replace,
      [&line](int64_t done, int64_t total) { line.Update(done, total); });
  if (!made.ok()) {
    std::fprintf(stderr, "generate_checkpoint: %s\n",
                 std::string(made.status().message()).c_str());
    return 1;
  }
  std::fprintf(stderr, "%s: %s\n", out.c_str(),
               *made ? "done" : "is there already");
  return 0;
}
