#ifndef SLUICE_AGENT_CHECKPOINT_CHECKPOINT_MODEL_H_
#define SLUICE_AGENT_CHECKPOINT_CHECKPOINT_MODEL_H_

// The model that a checkpoint directory holds.

#include <cstdint>
#include <map>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "agent/checkpoint/checkpoint.h"
#include "common/model.h"

namespace sluice::agent {

struct CheckpointModel {
  // Tensors in the checkpoint's order. Tied weights: lm_head.weight is an alias
  // of model.embed_tokens.weight, whether a copy is in the files or not.
  ModelSpec model;
  // For ResolvePreset: every integer and boolean of config.json;
  // num_key_value_heads (default: num_attention_heads), head_dim (default:
  // hidden_size / num_attention_heads) and tie_word_embeddings always as they
  // hold for this checkpoint.
  std::map<std::string, int64_t> variables;
};

// Tied is what config.json says; where it does not say, a checkpoint without
// lm_head.weight is.
// Errors: INVALID_ARGUMENT - a layer of config.json's num_hidden_layers of
// which no file has a tensor; tied weights whose dtypes or shapes differ; a
// model that ModelSpec::Validate refuses.
absl::StatusOr<CheckpointModel> ModelFromCheckpoint(
    const Checkpoint& checkpoint, absl::string_view model_name);

// Opens the directory first. Errors: also as Checkpoint::Open.
absl::StatusOr<CheckpointModel> ModelFromDirectory(
    const std::string& directory, absl::string_view model_name);

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_CHECKPOINT_CHECKPOINT_MODEL_H_
