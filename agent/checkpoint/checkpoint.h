#ifndef SLUICE_AGENT_CHECKPOINT_CHECKPOINT_H_
#define SLUICE_AGENT_CHECKPOINT_CHECKPOINT_H_

// A Hugging Face style checkpoint directory: config.json, one or several
// safetensors files, and an index where there are several.

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "agent/checkpoint/safetensors.h"
#include "common/model.h"

namespace sluice::agent {

// Which files: those that model.safetensors.index.json names if it exists; else
// model.safetensors if it exists; else all *.safetensors.
//
// Thread rule: immutable after Open; thread-safe.
class Checkpoint {
 public:
  struct Tensor {
    TensorSpec spec;
    size_t file = 0;  // index into files()
    absl::Span<const uint8_t> data;
  };

  // Opens all files and checks them against each other and the index.
  // Errors: NOT_FOUND - the directory, or a file that the index or a file's
  // name ("-00001-of-00002") promises, is missing; INVALID_ARGUMENT - a file
  // that is refused (see SafetensorsFile), a tensor in two files, an index that
  // says otherwise than the files, a config.json that is no JSON. Each names
  // the file, and the tensor.
  static absl::StatusOr<std::unique_ptr<Checkpoint>> Open(
      const std::string& directory, const SafetensorsLimits& limits = {});

  const std::string& directory() const { return directory_; }
  // In natural order of names: layer 2 before layer 10.
  const std::vector<Tensor>& tensors() const { return tensors_; }
  const std::vector<std::unique_ptr<SafetensorsFile>>& files() const {
    return files_;
  }
  // Returns the tensor of that name, or null.
  const Tensor* Find(absl::string_view name) const;
  // The integers and booleans (0 or 1) at the top level of config.json; empty
  // where there is none.
  const std::map<std::string, int64_t>& config() const { return config_; }

 private:
  Checkpoint() = default;

  absl::Status ReadConfig();
  absl::Status ReadIndex();
  absl::Status ListFiles();
  absl::Status OpenFiles(const SafetensorsLimits& limits);
  absl::Status CheckIndex() const;

  std::string directory_;
  std::vector<std::string> file_names_;  // sorted
  std::vector<std::unique_ptr<SafetensorsFile>> files_;
  std::vector<Tensor> tensors_;
  absl::flat_hash_map<std::string, size_t> by_name_;
  std::map<std::string, int64_t> config_;
  // Tensor name -> file name, if there is an index.
  std::map<std::string, std::string> index_;
};

// Whether a sorts before b with runs of digits compared as numbers.
bool NaturalLess(absl::string_view a, absl::string_view b);

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_CHECKPOINT_CHECKPOINT_H_
