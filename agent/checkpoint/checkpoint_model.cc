#include "agent/checkpoint/checkpoint_model.h"

#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/status_macros.h"

namespace sluice::agent {
namespace {

constexpr char kHead[] = "lm_head.weight";
constexpr char kEmbedding[] = "model.embed_tokens.weight";
constexpr char kLayerPrefix[] = "model.layers.";
constexpr int64_t kMaxLayers = 1'000'000;

void AddDefaults(std::map<std::string, int64_t>& variables) {
  const auto heads = variables.find("num_attention_heads");
  if (heads == variables.end() || heads->second <= 0) return;
  variables.try_emplace("num_key_value_heads", heads->second);
  const auto hidden = variables.find("hidden_size");
  if (hidden != variables.end()) {
    variables.try_emplace("head_dim", hidden->second / heads->second);
  }
}

bool IsTied(const Checkpoint& checkpoint) {
  if (checkpoint.Find(kEmbedding) == nullptr) return false;
  const auto said = checkpoint.config().find("tie_word_embeddings");
  if (said != checkpoint.config().end()) return said->second != 0;
  return checkpoint.Find(kHead) == nullptr;
}

// A file that is missing without an index to name it shows as missing layers.
absl::Status CheckLayers(const Checkpoint& checkpoint) {
  const auto said = checkpoint.config().find("num_hidden_layers");
  if (said == checkpoint.config().end() || said->second < 0 ||
      said->second > kMaxLayers) {
    return absl::OkStatus();
  }
  std::vector<bool> seen(static_cast<size_t>(said->second), false);
  bool any = false;
  for (const Checkpoint::Tensor& tensor : checkpoint.tensors()) {
    absl::string_view name = tensor.spec.name;
    if (!absl::StartsWith(name, kLayerPrefix)) continue;
    any = true;
    name.remove_prefix(sizeof(kLayerPrefix) - 1);
    int64_t layer = 0;
    if (absl::SimpleAtoi(name.substr(0, name.find('.')), &layer) &&
        layer >= 0 && layer < said->second) {
      seen[static_cast<size_t>(layer)] = true;
    }
  }
  for (size_t layer = 0; any && layer < seen.size(); ++layer) {
    if (seen[layer]) continue;
    return absl::InvalidArgumentError(
        absl::StrCat(checkpoint.directory(), ": config.json says ", seen.size(),
                     " layers, but no file has a tensor of layer ", layer));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<CheckpointModel> ModelFromCheckpoint(
    const Checkpoint& checkpoint, absl::string_view model_name) {
  SLUICE_RETURN_IF_ERROR(CheckLayers(checkpoint));
  CheckpointModel out;
  out.model.name = std::string(model_name);
  out.variables = checkpoint.config();
  AddDefaults(out.variables);
  const bool tied = IsTied(checkpoint);
  out.variables["tie_word_embeddings"] = tied ? 1 : 0;
  for (const Checkpoint::Tensor& tensor : checkpoint.tensors()) {
    if (tied && tensor.spec.name == kHead) continue;
    out.model.tensors.push_back(tensor.spec);
  }
  if (tied) {
    const Checkpoint::Tensor* head = checkpoint.Find(kHead);
    const TensorSpec& embedding = checkpoint.Find(kEmbedding)->spec;
    if (head != nullptr && (head->spec.dtype != embedding.dtype ||
                            head->spec.shape != embedding.shape)) {
      return absl::InvalidArgumentError(absl::StrCat(
          checkpoint.directory(), ": tied tensors \"", kHead, "\" [",
          absl::StrJoin(head->spec.shape, ","), "] and \"", kEmbedding, "\" [",
          absl::StrJoin(embedding.shape, ","), "] differ"));
    }
    out.model.aliases.emplace_back(kHead, kEmbedding);
  }
  const absl::Status valid = out.model.Validate();
  if (!valid.ok()) return Annotate(valid, checkpoint.directory());
  return out;
}

absl::StatusOr<CheckpointModel> ModelFromDirectory(
    const std::string& directory, absl::string_view model_name) {
  SLUICE_ASSIGN_OR_RETURN(const std::unique_ptr<Checkpoint> checkpoint,
                          Checkpoint::Open(directory));
  return ModelFromCheckpoint(*checkpoint, model_name);
}

}  // namespace sluice::agent
