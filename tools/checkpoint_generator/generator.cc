#include "tools/checkpoint_generator/generator.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <system_error>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "agent/checkpoint/safetensors_writer.h"
#include "common/json_strict.h"
#include "common/mutex.h"
#include "common/status_macros.h"
#include "tools/checkpoint_generator/values.h"

namespace sluice {
namespace {

namespace fs = std::filesystem;
using agent::SafetensorsWriter;
using nlohmann::ordered_json;

constexpr char kMarker[] = ".sluice_generated.json";
constexpr int64_t kChunkBytes = 4 << 20;

ordered_json ParametersOf(const GeneratorOptions& o) {
  return {{"seed", o.seed},
          {"layers", o.layers},
          {"hidden", o.hidden},
          {"heads", o.heads},
          {"kv_heads", o.kv_heads},
          {"head_dim", o.head_dim},
          {"intermediate", o.intermediate},
          {"vocab", o.vocab},
          {"tied", o.tied},
          {"biases", o.biases},
          {"dtype", std::string(DTypeName(o.dtype))},
          {"files", o.files}};
}

ordered_json ConfigOf(const GeneratorOptions& o) {
  const char* const torch_dtype = o.dtype == DType::kF32   ? "float32"
                                  : o.dtype == DType::kF16 ? "float16"
                                                           : "bfloat16";
  return {{"architectures", {"Qwen2ForCausalLM"}},
          {"model_type", "qwen2"},
          {"hidden_act", "silu"},
          {"hidden_size", o.hidden},
          {"intermediate_size", o.intermediate},
          {"num_hidden_layers", o.layers},
          {"num_attention_heads", o.heads},
          {"num_key_value_heads", o.kv_heads},
          {"head_dim", o.head_dim},
          {"vocab_size", o.vocab},
          {"max_position_embeddings", 32768},
          {"rms_norm_eps", 1e-6},
          {"rope_theta", 1000000.0},
          {"tie_word_embeddings", o.tied},
          {"torch_dtype", torch_dtype}};
}

absl::Status WriteText(const std::string& path, const std::string& text) {
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out << text;
  out.close();
  if (out.fail()) {
    return absl::UnavailableError(absl::StrCat("writing ", path, " failed"));
  }
  return absl::OkStatus();
}

// What is at `directory`: nothing, this checkpoint, or something else.
enum class Found { kNothing, kSame, kOtherOptions };

absl::StatusOr<Found> Inspect(const GeneratorOptions& options,
                              const std::string& directory,
                              std::string& difference) {
  std::error_code error;
  if (!fs::exists(directory, error)) return Found::kNothing;
  const auto foreign = [&directory](absl::string_view why) {
    return absl::AlreadyExistsError(absl::StrCat(directory, ": ", why));
  };
  if (!fs::is_directory(directory, error)) return foreign("is no directory");
  if (fs::is_empty(directory, error)) return Found::kNothing;
  std::ifstream in(absl::StrCat(directory, "/", kMarker));
  if (!in) return foreign("exists and was not made by this generator");
  const std::string text((std::istreambuf_iterator<char>(in)),
                         std::istreambuf_iterator<char>());
  const absl::StatusOr<nlohmann::json> marker = ParseJson(text);
  if (!marker.ok() || !marker->is_object() || !marker->contains("parameters") ||
      !(*marker)["parameters"].is_object() || !marker->contains("files") ||
      !(*marker)["files"].is_object()) {
    return foreign(absl::StrCat(kMarker, " is not this generator's"));
  }
  const nlohmann::json expected = ParametersOf(options);
  for (const auto& [key, value] : expected.items()) {
    const nlohmann::json& parameters = (*marker)["parameters"];
    const nlohmann::json made = parameters.value(key, nlohmann::json());
    if (made == value) continue;
    difference = absl::StrCat("was made with ", key, " = ", made.dump(),
                              " instead of ", value.dump());
    return Found::kOtherOptions;
  }
  for (const auto& [name, size] : (*marker)["files"].items()) {
    const auto bytes = fs::file_size(absl::StrCat(directory, "/", name), error);
    if (error || size != bytes) {
      difference = absl::StrCat("file ", name, " is missing or damaged");
      return Found::kOtherOptions;
    }
  }
  return Found::kSame;
}

// The folder in which a checkpoint grows, next to the place where it will be.
// Held by a lock on itself, which ends with the process.
class PartialDirectory {
 public:
  static absl::StatusOr<std::unique_ptr<PartialDirectory>> Lock(
      const std::string& path) {
    while (true) {
      if (mkdir(path.c_str(), 0755) != 0 && errno != EEXIST) {
        return absl::ErrnoToStatus(errno, path);
      }
      const int fd = open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
      if (fd < 0 && errno == ENOENT) continue;  // was renamed just now
      if (fd < 0) return absl::ErrnoToStatus(errno, path);
      std::unique_ptr<PartialDirectory> out(new PartialDirectory(path, fd));
      if (flock(fd, LOCK_EX) != 0) return absl::ErrnoToStatus(errno, path);
      struct stat held;
      struct stat now;
      if (fstat(fd, &held) == 0 && stat(path.c_str(), &now) == 0 &&
          held.st_ino == now.st_ino) {
        SLUICE_RETURN_IF_ERROR(out->Clear());
        return out;
      }
      out->path_.clear();  // another process finished it: not ours to remove
    }
  }

  ~PartialDirectory() {
    std::error_code error;
    if (!path_.empty()) fs::remove_all(path_, error);
    close(fd_);
  }

  absl::Status MoveTo(const std::string& directory) {
    if (rename(path_.c_str(), directory.c_str()) != 0) {
      return absl::ErrnoToStatus(
          errno, absl::StrCat("renaming ", path_, " to ", directory));
    }
    path_.clear();
    return absl::OkStatus();
  }

 private:
  PartialDirectory(std::string path, int fd)
      : path_(std::move(path)), fd_(fd) {}

  // What a killed process left.
  absl::Status Clear() {
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(path_, error)) {
      fs::remove_all(entry.path(), error);
      if (error) break;
    }
    return error ? absl::UnavailableError(
                       absl::StrCat(path_, ": ", error.message()))
                 : absl::OkStatus();
  }

  std::string path_;
  int fd_;
};

// One piece of one tensor.
struct Chunk {
  SafetensorsWriter* writer;
  size_t tensor;
  int64_t offset;
  int64_t size;
};

// Writes all chunks on all cores.
class ChunkWriters {
 public:
  ChunkWriters(uint64_t seed, std::vector<Chunk> chunks,
               const GeneratorProgress& progress)
      : seed_(seed), chunks_(std::move(chunks)), progress_(progress) {
    for (const Chunk& chunk : chunks_) total_ += chunk.size;
  }

  absl::Status Run() {
    const unsigned count =
        std::clamp(std::thread::hardware_concurrency(), 1u, 8u);
    std::vector<std::thread> threads;
    for (unsigned i = 0; i < count; ++i) {
      threads.emplace_back([this] { Work(); });
    }
    for (std::thread& thread : threads) thread.join();
    MutexLock lock(mutex_);
    return status_;
  }

 private:
  void Work() {
    std::vector<uint8_t> buffer(static_cast<size_t>(kChunkBytes));
    while (true) {
      const size_t next = next_.fetch_add(1);
      if (next >= chunks_.size()) return;
      const Chunk& chunk = chunks_[next];
      const TensorSpec& tensor = chunk.writer->tensors()[chunk.tensor];
      const absl::Span<uint8_t> bytes(buffer.data(),
                                      static_cast<size_t>(chunk.size));
      FillValues(TensorKey(seed_, tensor.name), tensor.dtype,
                 chunk.offset / ByteSize(tensor.dtype), bytes);
      const absl::Status status =
          chunk.writer->Write(chunk.tensor, chunk.offset, bytes);
      MutexLock lock(mutex_);
      if (!status.ok()) {
        status_.Update(status);
        next_ = chunks_.size();
        return;
      }
      done_ += chunk.size;
      if (progress_) progress_(done_, total_);
    }
  }

  const uint64_t seed_;
  const std::vector<Chunk> chunks_;
  const GeneratorProgress& progress_;
  int64_t total_ = 0;
  std::atomic<size_t> next_{0};
  Mutex mutex_;
  int64_t done_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
};

// The tensors of each file: in order, cut where a file has its share of bytes.
std::vector<std::vector<TensorSpec>> CutIntoFiles(
    std::vector<TensorSpec> tensors, int64_t files) {
  int64_t total = 0;
  for (const TensorSpec& tensor : tensors) total += tensor.num_bytes();
  std::vector<std::vector<TensorSpec>> out(static_cast<size_t>(files));
  int64_t before = 0;
  for (size_t t = 0; t < tensors.size(); ++t) {
    // No file stays empty: the last files keep one tensor each.
    const auto left = static_cast<int64_t>(tensors.size() - t);
    const int64_t share = before / (total / files + 1);
    const int64_t file = std::max(share, files - left);
    before += tensors[t].num_bytes();
    out[static_cast<size_t>(std::min(file, files - 1))].push_back(
        std::move(tensors[t]));
  }
  return out;
}

absl::Status CheckRoom(const std::string& path, int64_t needed) {
  std::error_code error;
  const fs::space_info space = fs::space(path, error);
  if (error || space.available >= static_cast<uintmax_t>(needed)) {
    return absl::OkStatus();
  }
  return absl::ResourceExhaustedError(
      absl::StrCat(path, ": the checkpoint needs ", needed,
                   " bytes, the disk has ", space.available, " free"));
}

// Writes everything into `path`, the marker last.
absl::Status WriteAll(const GeneratorOptions& options, const std::string& path,
                      const GeneratorProgress& progress) {
  const auto files = CutIntoFiles(GeneratedTensors(options), options.files);
  std::vector<std::unique_ptr<SafetensorsWriter>> writers;
  std::vector<Chunk> chunks;
  ordered_json weight_map = ordered_json::object();
  ordered_json sizes = ordered_json::object();
  int64_t total = 0;
  for (size_t f = 0; f < files.size(); ++f) {
    const std::string name =
        files.size() == 1 ? "model.safetensors"
                          : absl::StrFormat("model-%05d-of-%05d.safetensors",
                                            f + 1, files.size());
    SLUICE_ASSIGN_OR_RETURN(
        std::unique_ptr<SafetensorsWriter> writer,
        SafetensorsWriter::Create(absl::StrCat(path, "/", name), files[f],
                                  {{"format", "pt"}}));
    for (size_t t = 0; t < files[f].size(); ++t) {
      const int64_t bytes = files[f][t].num_bytes();
      weight_map[files[f][t].name] = name;
      total += bytes;
      for (int64_t at = 0; at < bytes; at += kChunkBytes) {
        chunks.push_back(
            {writer.get(), t, at, std::min(kChunkBytes, bytes - at)});
      }
    }
    sizes[name] = writer->file_bytes();
    writers.push_back(std::move(writer));
  }
  SLUICE_RETURN_IF_ERROR(
      ChunkWriters(options.seed, std::move(chunks), progress).Run());
  for (const auto& writer : writers) SLUICE_RETURN_IF_ERROR(writer->Finish());
  SLUICE_RETURN_IF_ERROR(
      WriteText(path + "/config.json", ConfigOf(options).dump(2) + "\n"));
  if (files.size() > 1) {
    const ordered_json index = {{"metadata", {{"total_size", total}}},
                                {"weight_map", weight_map}};
    SLUICE_RETURN_IF_ERROR(WriteText(path + "/model.safetensors.index.json",
                                     index.dump(2) + "\n"));
  }
  const ordered_json marker = {{"parameters", ParametersOf(options)},
                               {"files", sizes}};
  return WriteText(absl::StrCat(path, "/", kMarker), marker.dump(2) + "\n");
}

}  // namespace

absl::Status GeneratorOptions::Validate() const {
  const struct {
    const char* name;
    int64_t value, lowest, highest;
  } numbers[] = {
      {"layers", layers, 1, 10'000},
      {"hidden", hidden, 1, 1 << 20},
      {"heads", heads, 1, 1 << 16},
      {"kv_heads", kv_heads, 1, heads},
      {"head_dim", head_dim, 1, 1 << 16},
      {"intermediate", intermediate, 1, 1 << 24},
      {"vocab", vocab, 1, 1 << 28},
      {"files", files, 1, 2 + layers},
  };
  for (const auto& n : numbers) {
    if (n.value >= n.lowest && n.value <= n.highest) continue;
    return absl::InvalidArgumentError(absl::StrCat(
        n.name, " = ", n.value, ": expected ", n.lowest, " to ", n.highest));
  }
  if (dtype != DType::kBF16 && dtype != DType::kF16 && dtype != DType::kF32) {
    return absl::InvalidArgumentError(absl::StrCat(
        "dtype ", DTypeName(dtype), ": expected BF16, F16 or F32"));
  }
  ModelSpec model;
  model.name = "generated";
  model.tensors = GeneratedTensors(*this);
  return model.Validate();
}

std::vector<TensorSpec> GeneratedTensors(const GeneratorOptions& o) {
  std::vector<TensorSpec> out;
  const auto add = [&](std::string name, Shape shape) {
    out.push_back({std::move(name), o.dtype, std::move(shape)});
  };
  const int64_t q = o.heads * o.head_dim;
  const int64_t kv = o.kv_heads * o.head_dim;
  add("model.embed_tokens.weight", {o.vocab, o.hidden});
  for (int64_t l = 0; l < o.layers; ++l) {
    const std::string p = absl::StrCat("model.layers.", l, ".");
    add(p + "input_layernorm.weight", {o.hidden});
    add(p + "mlp.down_proj.weight", {o.hidden, o.intermediate});
    add(p + "mlp.gate_proj.weight", {o.intermediate, o.hidden});
    add(p + "mlp.up_proj.weight", {o.intermediate, o.hidden});
    add(p + "post_attention_layernorm.weight", {o.hidden});
    if (o.biases) add(p + "self_attn.k_proj.bias", {kv});
    add(p + "self_attn.k_proj.weight", {kv, o.hidden});
    add(p + "self_attn.o_proj.weight", {o.hidden, q});
    if (o.biases) add(p + "self_attn.q_proj.bias", {q});
    add(p + "self_attn.q_proj.weight", {q, o.hidden});
    if (o.biases) add(p + "self_attn.v_proj.bias", {kv});
    add(p + "self_attn.v_proj.weight", {kv, o.hidden});
  }
  add("model.norm.weight", {o.hidden});
  if (!o.tied) add("lm_head.weight", {o.vocab, o.hidden});
  return out;
}

absl::StatusOr<bool> GenerateCheckpoint(const GeneratorOptions& options,
                                        const std::string& given, bool replace,
                                        const GeneratorProgress& progress) {
  SLUICE_RETURN_IF_ERROR(options.Validate());
  std::string directory = given;
  while (directory.size() > 1 && directory.back() == '/') directory.pop_back();
  if (directory.empty()) {
    return absl::InvalidArgumentError("the checkpoint's directory is empty");
  }
  // 1. Nothing to do? Looked at again under the lock.
  std::string difference;
  SLUICE_ASSIGN_OR_RETURN(Found found, Inspect(options, directory, difference));
  if (found == Found::kSame) return false;
  std::error_code error;
  const fs::path parent = fs::path(directory).parent_path();
  if (!parent.empty()) fs::create_directories(parent, error);
  if (error) {
    return absl::UnavailableError(
        absl::StrCat(parent.string(), ": ", error.message()));
  }
  SLUICE_ASSIGN_OR_RETURN(std::unique_ptr<PartialDirectory> partial,
                          PartialDirectory::Lock(directory + ".partial"));
  SLUICE_ASSIGN_OR_RETURN(found, Inspect(options, directory, difference));
  if (found == Found::kSame) return false;
  if (found == Found::kOtherOptions && !replace) {
    return absl::AlreadyExistsError(
        absl::StrCat(directory, " ", difference,
                     ": choose another directory or replace it"));
  }
  // 2. Written aside, then put in place by one rename.
  int64_t total = 0;
  for (const TensorSpec& tensor : GeneratedTensors(options)) {
    total += tensor.num_bytes();
  }
  const std::string aside = directory + ".partial";
  SLUICE_RETURN_IF_ERROR(CheckRoom(aside, total));
  SLUICE_RETURN_IF_ERROR(WriteAll(options, aside, progress));
  if (found == Found::kOtherOptions) {
    fs::remove_all(directory, error);
    if (error) {
      return absl::UnavailableError(
          absl::StrCat(directory, ": ", error.message()));
    }
  }
  SLUICE_RETURN_IF_ERROR(partial->MoveTo(directory));
  return true;
}

}  // namespace sluice
