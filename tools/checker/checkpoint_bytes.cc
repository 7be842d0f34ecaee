#include "tools/checker/checkpoint_bytes.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <system_error>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace sluice::checker {

using Json = nlohmann::json;

struct CheckpointBytes::Mapping {
  void* data = MAP_FAILED;
  size_t size = 0;
  Mapping() = default;
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  ~Mapping() {
    if (data != MAP_FAILED) ::munmap(data, size);
  }
};

namespace {

int64_t ElementBytes(const std::string& dtype) {
  if (dtype == "BF16" || dtype == "F16" || dtype == "I16") return 2;
  if (dtype == "F32" || dtype == "I32") return 4;
  if (dtype == "F64" || dtype == "I64") return 8;
  return 1;
}

// Adds every tensor of one mapped file. Throws what nlohmann-json throws.
void AddTensors(const std::byte* file, std::map<std::string, Matrix>& out) {
  uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, file, sizeof header_bytes);
  const char* text = reinterpret_cast<const char*>(file) + 8;
  const Json header = Json::parse(text, text + header_bytes);
  const std::byte* body = file + 8 + header_bytes;
  for (const auto& [name, entry] : header.items()) {
    if (name == "__metadata__") continue;
    Matrix matrix;
    const auto shape = entry.at("shape").get<std::vector<int64_t>>();
    matrix.rows = shape.empty() ? 1 : shape[0];
    for (size_t d = 1; d < shape.size(); ++d) matrix.columns *= shape[d];
    matrix.element_bytes = ElementBytes(entry.at("dtype").get<std::string>());
    matrix.data = body + entry.at("data_offsets").at(0).get<int64_t>();
    out[name] = matrix;
  }
}

ModelNumbers ReadNumbers(const std::string& path) {
  std::ifstream file(path);
  const Json config = Json::parse(file);
  ModelNumbers numbers;
  numbers.layers = config.at("num_hidden_layers").get<int64_t>();
  numbers.query_heads = config.at("num_attention_heads").get<int64_t>();
  numbers.kv_heads = config.value("num_key_value_heads", numbers.query_heads);
  numbers.head_dim =
      config.contains("head_dim")
          ? config.at("head_dim").get<int64_t>()
          : config.at("hidden_size").get<int64_t>() / numbers.query_heads;
  numbers.tied = config.value("tie_word_embeddings", false);
  return numbers;
}

}  // namespace

absl::StatusOr<CheckpointBytes> CheckpointBytes::Open(
    const std::string& directory) {
  CheckpointBytes checkpoint;
  std::error_code error;
  try {
    checkpoint.numbers_ = ReadNumbers(directory + "/config.json");
    for (const auto& entry :
         std::filesystem::directory_iterator(directory, error)) {
      if (entry.path().extension() != ".safetensors") continue;
      const int fd = ::open(entry.path().c_str(), O_RDONLY | O_CLOEXEC);
      struct stat info {};
      auto mapping = std::make_shared<Mapping>();
      if (fd >= 0 && ::fstat(fd, &info) == 0) {
        mapping->size = static_cast<size_t>(info.st_size);
        mapping->data =
            ::mmap(nullptr, mapping->size, PROT_READ, MAP_SHARED, fd, 0);
      }
      if (fd >= 0) ::close(fd);
      if (mapping->data == MAP_FAILED) {
        return absl::NotFoundError(
            absl::StrCat("cannot map ", entry.path().string()));
      }
      AddTensors(static_cast<const std::byte*>(mapping->data),
                 checkpoint.tensors_);
      checkpoint.mappings_.push_back(std::move(mapping));
    }
  } catch (const Json::exception& bad) {
    return absl::InvalidArgumentError(
        absl::StrCat("checkpoint ", directory, ": ", bad.what()));
  }
  if (checkpoint.tensors_.empty()) {
    return absl::NotFoundError(
        absl::StrCat("no tensor in ", directory, "/*.safetensors"));
  }
  return checkpoint;
}

const Matrix* CheckpointBytes::Find(const std::string& name) const {
  const auto it = tensors_.find(name);
  return it == tensors_.end() ? nullptr : &it->second;
}

}  // namespace sluice::checker
