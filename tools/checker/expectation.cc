#include "tools/checker/expectation.h"

#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"

namespace sluice::checker {
namespace {

struct Range {
  int64_t lo = 0, hi = 0;
};

// Part `i` of `n` things dealt to `p` in equal blocks, the last ones shorter.
Range Deal(int64_t n, int64_t p, int64_t i) {
  const int64_t block = n / p + (n % p != 0 ? 1 : 0);
  return {std::min(n, i * block), std::min(n, i * block + block)};
}

// Builds the parameters of one agent; `at` and the checkpoint are common.
class Builder {
 public:
  Builder(const CheckpointBytes& checkpoint, const Position& at)
      : checkpoint_(checkpoint),
        numbers_(checkpoint.numbers()),
        at_(at),
        heads_(Deal(numbers_.query_heads, at.tensors, at.tensor)) {}

  // Appends rows of a tensor, all columns.
  void Rows(const std::string& param, const std::string& tensor, Range rows) {
    const Matrix* matrix = checkpoint_.Find(tensor);
    if (matrix == nullptr || rows.lo >= rows.hi) return;
    out_[param].push_back({tensor, rows.lo, rows.hi, 0, matrix->columns});
  }
  void Whole(const std::string& param, const std::string& tensor) {
    const Matrix* matrix = checkpoint_.Find(tensor);
    if (matrix != nullptr) Rows(param, tensor, {0, matrix->rows});
  }
  // This agent's block of rows (column parallel, vocabulary).
  void DealtRows(const std::string& param, const std::string& tensor) {
    const Matrix* matrix = checkpoint_.Find(tensor);
    if (matrix == nullptr) return;
    Rows(param, tensor, Deal(matrix->rows, at_.tensors, at_.tensor));
  }
  // All rows, a range of columns (row parallel).
  void Columns(const std::string& param, const std::string& tensor,
               Range columns) {
    const Matrix* matrix = checkpoint_.Find(tensor);
    if (matrix == nullptr || columns.lo >= columns.hi) return;
    out_[param].push_back({tensor, 0, matrix->rows, columns.lo, columns.hi});
  }
  void DealtColumns(const std::string& param, const std::string& tensor) {
    const Matrix* matrix = checkpoint_.Find(tensor);
    if (matrix == nullptr) return;
    Columns(param, tensor, Deal(matrix->columns, at_.tensors, at_.tensor));
  }

  // Columns of o_proj that belong to this agent's query heads.
  Range HeadColumns() const {
    return {heads_.lo * numbers_.head_dim, heads_.hi * numbers_.head_dim};
  }

  // q rows, then k rows, then v rows of this agent's heads.
  void StackedQkv(const std::string& param, const std::string& prefix,
                  const std::string& suffix) {
    const Range kv = KvHeads();
    Rows(param, absl::StrCat(prefix, "q_proj.", suffix), HeadRows(heads_));
    Rows(param, absl::StrCat(prefix, "k_proj.", suffix), HeadRows(kv));
    Rows(param, absl::StrCat(prefix, "v_proj.", suffix), HeadRows(kv));
  }

  // Group by group: its query heads that are this agent's, its k, its v.
  void InterleavedQkv(const std::string& param, const std::string& prefix,
                      const std::string& suffix) {
    const int64_t per_group = numbers_.query_heads / numbers_.kv_heads;
    const Range kv = KvHeads();
    for (int64_t group = kv.lo; group < kv.hi; ++group) {
      const Range queries{std::max(heads_.lo, group * per_group),
                          std::min(heads_.hi, (group + 1) * per_group)};
      const Range one{group, group + 1};
      Rows(param, absl::StrCat(prefix, "q_proj.", suffix), HeadRows(queries));
      Rows(param, absl::StrCat(prefix, "k_proj.", suffix), HeadRows(one));
      Rows(param, absl::StrCat(prefix, "v_proj.", suffix), HeadRows(one));
    }
  }

  Expectation Take() { return std::move(out_); }

 private:
  Range HeadRows(Range heads) const {
    return {heads.lo * numbers_.head_dim, heads.hi * numbers_.head_dim};
  }
  // Every KV head that one of this agent's query heads uses.
  Range KvHeads() const {
    if (heads_.lo >= heads_.hi) return {};
    const int64_t queries = numbers_.query_heads;
    const int64_t first = heads_.lo * numbers_.kv_heads / queries;
    const int64_t last = (heads_.hi - 1) * numbers_.kv_heads / queries;
    return {first, last + 1};
  }

  const CheckpointBytes& checkpoint_;
  const ModelNumbers& numbers_;
  const Position at_;
  const Range heads_;
  Expectation out_;
};

}  // namespace

Expectation ExpectMegatron(const CheckpointBytes& checkpoint,
                           const Position& at) {
  Builder builder(checkpoint, at);
  const ModelNumbers& numbers = checkpoint.numbers();
  const bool first = at.stage == 0;
  const bool last = at.stage == at.stages - 1;
  if (first) {
    builder.DealtRows("embedding.word_embeddings.weight",
                      "model.embed_tokens.weight");
  }
  if (last) {
    builder.Whole("decoder.final_layernorm.weight", "model.norm.weight");
    // A single stage has one copy of a tied embedding, under its first name.
    if (!numbers.tied) {
      builder.DealtRows("output_layer.weight", "lm_head.weight");
    } else if (!first) {
      builder.DealtRows("output_layer.weight", "model.embed_tokens.weight");
    }
  }
  const Range layers = Deal(numbers.layers, at.stages, at.stage);
  for (int64_t layer = layers.lo; layer < layers.hi; ++layer) {
    const std::string hf = absl::StrCat("model.layers.", layer, ".");
    const std::string own =
        absl::StrCat("decoder.layers.", layer - layers.lo, ".");
    builder.Whole(own + "input_layernorm.weight",
                  hf + "input_layernorm.weight");
    builder.Whole(own + "pre_mlp_layernorm.weight",
                  hf + "post_attention_layernorm.weight");
    builder.Whole(own + "self_attention.q_layernorm.weight",
                  hf + "self_attn.q_norm.weight");
    builder.Whole(own + "self_attention.k_layernorm.weight",
                  hf + "self_attn.k_norm.weight");
    for (const char* suffix : {"weight", "bias"}) {
      builder.InterleavedQkv(
          absl::StrCat(own, "self_attention.linear_qkv.", suffix),
          hf + "self_attn.", suffix);
      for (const char* part : {"gate_proj.", "up_proj."}) {
        builder.DealtRows(absl::StrCat(own, "mlp.linear_fc1.", suffix),
                          absl::StrCat(hf, "mlp.", part, suffix));
      }
    }
    builder.Columns(own + "self_attention.linear_proj.weight",
                    hf + "self_attn.o_proj.weight", builder.HeadColumns());
    builder.Whole(own + "self_attention.linear_proj.bias",
                  hf + "self_attn.o_proj.bias");
    builder.DealtColumns(own + "mlp.linear_fc2.weight",
                         hf + "mlp.down_proj.weight");
    builder.Whole(own + "mlp.linear_fc2.bias", hf + "mlp.down_proj.bias");
  }
  return builder.Take();
}

Expectation ExpectVllm(const CheckpointBytes& checkpoint, const Position& at) {
  Builder builder(checkpoint, at);
  builder.DealtRows("model.embed_tokens.weight", "model.embed_tokens.weight");
  builder.DealtRows("lm_head.weight", "lm_head.weight");
  builder.Whole("model.norm.weight", "model.norm.weight");
  for (int64_t layer = 0; layer < checkpoint.numbers().layers; ++layer) {
    const std::string own = absl::StrCat("model.layers.", layer, ".");
    for (const char* norm :
         {"input_layernorm.weight", "post_attention_layernorm.weight",
          "self_attn.q_norm.weight", "self_attn.k_norm.weight",
          "self_attn.o_proj.bias", "mlp.down_proj.bias"}) {
      builder.Whole(own + norm, own + norm);
    }
    for (const char* suffix : {"weight", "bias"}) {
      builder.StackedQkv(absl::StrCat(own, "self_attn.qkv_proj.", suffix),
                         own + "self_attn.", suffix);
      for (const char* part : {"gate_proj.", "up_proj."}) {
        builder.DealtRows(absl::StrCat(own, "mlp.gate_up_proj.", suffix),
                          absl::StrCat(own, "mlp.", part, suffix));
      }
    }
    builder.Columns(own + "self_attn.o_proj.weight",
                    own + "self_attn.o_proj.weight", builder.HeadColumns());
    builder.DealtColumns(own + "mlp.down_proj.weight",
                         own + "mlp.down_proj.weight");
  }
  return builder.Take();
}

}  // namespace sluice::checker
