#include "tools/reference_cases/bucket_answers.h"

#include <cstdint>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/dtype.h"
#include "common/reduce_scatter_buckets.h"
#include "common/status_macros.h"

namespace sluice::reference_cases {
namespace {

using Json = nlohmann::json;

DType ReadDType(const std::string& name) {
  if (name == "f32") return DType::kF32;
  if (name == "f16") return DType::kF16;
  if (name == "f64") return DType::kF64;
  if (name == "i32") return DType::kI32;
  return name == "i64" ? DType::kI64 : DType::kUnspecified;
}

const char* WriteDType(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return "float32";
    case DType::kF16:
      return "float16";
    case DType::kF64:
      return "float64";
    case DType::kI32:
      return "int32";
    case DType::kI64:
      return "int64";
    default:
      return "?";
  }
}

const char* WriteReason(ReductionReason reason) {
  switch (reason) {
    case ReductionReason::kImmediate:
      return "immediate";
    case ReductionReason::kBucketFull:
      return "bucket_full";
    case ReductionReason::kFlush:
      return "flush";
  }
  return "?";
}

int64_t Numel(const Json& shape) {
  int64_t numel = 1;
  for (const Json& size : shape) numel *= size.get<int64_t>();
  return numel;
}

// Keeps what a question makes the simulation hold to what a process has.
absl::Status CheckSizes(const Json& question) {
  constexpr int64_t kMaxValues = int64_t{1} << 24;
  const int64_t ranks = question.at("world_size");
  int64_t values = ranks;
  for (const Json& op : question.at("ops")) {
    int64_t numel = ranks;
    for (const Json& size : op.value("shape", Json::array())) {
      if (__builtin_mul_overflow(numel, size.get<int64_t>(), &numel)) {
        numel = kMaxValues + 1;
        break;
      }
    }
    if (__builtin_add_overflow(values, numel, &values) || numel > kMaxValues ||
        values > kMaxValues) {
      return absl::InvalidArgumentError(
          absl::StrCat("ops: expected at most ", kMaxValues,
                       " values of all ranks together, found more"));
    }
  }
  return absl::OkStatus();
}

// What rank `rank` gives for shard `shard` of operation `op`.
int64_t InputAt(int64_t rank, int64_t op, int64_t shard, int64_t element) {
  return (31 * rank + 17 * op + 7 * shard + 3 * element) % 41 - 20;
}

// The ranks of a world that run the same operations.
class Simulation {
 public:
  Simulation(const Json& golden, ReduceScatterBuckets buckets)
      : golden_(golden),
        world_size_(golden.at("world_size")),
        buckets_(std::move(buckets)),
        results_by_rank_(static_cast<size_t>(world_size_), Json::array()) {}

  absl::Status Run() {
    const Json& ops = golden_.at("ops");
    for (size_t i = 0; i < ops.size(); ++i) {
      op_ = static_cast<int64_t>(i);
      events_.push_back({{"op", i},
                         {"callbacks_fired", Json::array()},
                         {"collectives", Json::array()}});
      const std::string what = ops[i].at("op");
      if (what == "flush") {
        for (const Reduction& reduction : buckets_.Flush()) Reduce(reduction);
      } else if (what == "teardown") {
        if (absl::Status status = buckets_.Teardown(); !status.ok()) {
          return status;
        }
      } else {
        const absl::StatusOr<std::vector<Reduction>> now = buckets_.Add(
            {i,
             {ReadDType(ops[i].at("dtype")), /*device=*/0, ops[i].at("group")},
             Numel(ops[i].at("shape"))});
        if (!now.ok()) return now.status();
        for (const Reduction& reduction : *now) Reduce(reduction);
      }
    }
    return absl::OkStatus();
  }

  const Json& events() const { return events_; }
  const Json& callback_order() const { return callback_order_; }
  const std::vector<Json>& results_by_rank() const { return results_by_rank_; }

  Json FinalBuckets() const {
    Json buckets = Json::array();
    for (const ReduceScatterBuckets::BucketView& bucket : buckets_.buckets()) {
      int64_t pending = 0;
      for (size_t i = 0; i < golden_.at("ops").size(); ++i) {
        const Json& op = golden_["ops"][i];
        pending += op.value("callback", false) && fired_.count(i) == 0 &&
                   ReadDType(op.at("dtype")) == bucket.key.dtype &&
                   op.at("group") == bucket.key.group;
      }
      buckets.push_back({{"dtype", WriteDType(bucket.key.dtype)},
                         {"group", absl::StrCat("g", bucket.key.group)},
                         {"shard_size", bucket.shard_capacity},
                         {"offset", bucket.shard_size},
                         {"pending_callbacks", pending}});
    }
    return buckets;
  }

 private:
  // Carries a collective out: shards are filled at the members' offsets, added
  // over ranks, and read at the same offsets.
  void Reduce(const Reduction& reduction) {
    if (reduction.numel_per_shard > 0) {
      events_.back()["collectives"].push_back(
          {{"group", absl::StrCat("g", reduction.key.group)},
           {"numel_per_shard", reduction.numel_per_shard},
           {"dtype", WriteDType(reduction.key.dtype)}});
    }
    std::vector<std::vector<int64_t>> shards(
        static_cast<size_t>(world_size_),
        std::vector<int64_t>(static_cast<size_t>(reduction.numel_per_shard)));
    for (const Reduction::Member& member : reduction.members) {
      for (int64_t shard = 0; shard < world_size_; ++shard) {
        for (int64_t e = 0; e < member.numel; ++e) {
          int64_t& sum = shards[static_cast<size_t>(shard)]
                               [static_cast<size_t>(member.offset + e)];
          for (int64_t rank = 0; rank < world_size_; ++rank) {
            sum += InputAt(rank, static_cast<int64_t>(member.id), shard, e);
          }
        }
      }
    }
    for (const Reduction::Member& member : reduction.members) {
      if (golden_["ops"][member.id].value("callback", false)) {
        Fire(reduction, member, shards);
      }
    }
  }

  void Fire(const Reduction& reduction, const Reduction::Member& member,
            const std::vector<std::vector<int64_t>>& shards) {
    fired_.insert(member.id);
    events_.back()["callbacks_fired"].push_back(member.id);
    callback_order_.push_back({{"callback_of_op", member.id},
                               {"fired_during_op", op_},
                               {"reason", WriteReason(reduction.reason)}});
    for (size_t rank = 0; rank < shards.size(); ++rank) {
      const auto first = shards[rank].begin() + member.offset;
      results_by_rank_[rank].push_back(
          Result(member, std::vector<int64_t>(first, first + member.numel)));
    }
  }

  Json Result(const Reduction::Member& member,
              const std::vector<int64_t>& values) const {
    int64_t sum = 0, weighted = 0;
    for (size_t i = 0; i < values.size(); ++i) {
      sum += values[i];
      weighted += static_cast<int64_t>(i % 97 + 1) * values[i];
    }
    Json result = {{"op", member.id},
                   {"shape", golden_["ops"][member.id].at("shape")},
                   {"numel", member.numel},
                   {"sum", sum},
                   {"wsum", weighted},
                   {"values", values}};
    return result;
  }

  const Json& golden_;
  const int64_t world_size_;
  ReduceScatterBuckets buckets_;
  int64_t op_ = 0;
  std::set<uint64_t> fired_;
  Json events_ = Json::array();
  Json callback_order_ = Json::array();
  std::vector<Json> results_by_rank_;
};

}  // namespace

absl::StatusOr<Json> AnswerBucketer(const Json& question) {
  SLUICE_RETURN_IF_ERROR(CheckSizes(question));
  SLUICE_ASSIGN_OR_RETURN(
      ReduceScatterBuckets buckets,
      ReduceScatterBuckets::Create(
          {question.at("world_size"), question.at("bucket_cap_mb")}));
  Simulation simulation(question, std::move(buckets));
  SLUICE_RETURN_IF_ERROR(simulation.Run());
  return Json{{"events", simulation.events()},
              {"callback_order", simulation.callback_order()},
              {"final_buckets", simulation.FinalBuckets()},
              {"results_by_rank", simulation.results_by_rank()}};
}

}  // namespace sluice::reference_cases
