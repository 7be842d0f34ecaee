// Topic bucketer: what goes when, and by simulating all ranks, that each result
// lands where its request says.

#include <algorithm>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "common/dtype.h"
#include "coordinator/planner/reference/reduce_scatter_buckets.h"
#include "tests/golden/topics.h"

namespace sluice::golden {
namespace {

namespace reference = coordinator::reference;
using reference::ReduceScatterBuckets;
using reference::Reduction;
using reference::ReductionReason;

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

// Long results are recorded by their ends.
Json LikeRecorded(const Json& recorded, Json result) {
  if (recorded.contains("values")) return result;
  const Json values = result["values"];
  result.erase("values");
  result["first8"] = Json::array();
  result["last8"] = Json::array();
  const size_t n = values.size();
  for (size_t i = 0; i < std::min<size_t>(n, 8); ++i) {
    result["first8"].push_back(values[i]);
    result["last8"].push_back(values[n - std::min<size_t>(n, 8) + i]);
  }
  return result;
}

void CompareResults(const Json& expected, const std::vector<Json>& found,
                    CaseCheck& check) {
  check.Equal("ranks", expected.size(), found.size());
  for (size_t rank = 0; rank < std::min(expected.size(), found.size());
       ++rank) {
    Json like = found[rank];
    for (size_t k = 0; k < std::min(like.size(), expected[rank].size()); ++k) {
      like[k] = LikeRecorded(expected[rank][k], like[k]);
    }
    check.Equal(absl::StrCat("results_by_rank[", rank, "]"), expected[rank],
                like);
  }
}

// Where the reference is wrong: every callback that was asked for before the
// last flush has fired, once.
void CheckAllFired(const Simulation& simulation, CaseCheck& check) {
  std::set<int64_t> fired;
  for (const Json& callback : simulation.callback_order()) {
    check.True(
        "a callback fires once",
        fired.insert(callback.at("callback_of_op").get<int64_t>()).second);
  }
  const Json& ops = check.golden().at("ops");
  size_t last_flush = 0;
  for (size_t i = 0; i < ops.size(); ++i) {
    if (ops[i].at("op") == "flush") last_flush = i;
  }
  for (size_t i = 0; i < last_flush; ++i) {
    if (ops[i].value("callback", Json(false)) == true) {
      check.True(absl::StrCat("the callback of operation ", i, " fires"),
                 fired.count(static_cast<int64_t>(i)) == 1);
    }
  }
}

}  // namespace

void CheckBucketer(CaseCheck& check) {
  const Json& golden = check.golden();
  absl::StatusOr<ReduceScatterBuckets> buckets = ReduceScatterBuckets::Create(
      {golden.at("world_size"), golden.at("bucket_cap_mb")});
  if (!check.Ok("buckets", buckets.status())) return;
  Simulation simulation(golden, *std::move(buckets));
  const absl::Status status = simulation.Run();
  if (check.ExpectsRefusal()) return check.Refused(status);
  if (!check.Ok("operations", status)) return;
  if (check.HasBug()) return CheckAllFired(simulation, check);
  const Json& expected = golden.at("expect");
  check.Equal("events", expected.at("events"), simulation.events());
  check.Equal("callback_order", expected.at("callback_order"),
              simulation.callback_order());
  check.Equal("final_buckets", expected.at("final_buckets"),
              simulation.FinalBuckets());
  CompareResults(expected.at("results_by_rank"), simulation.results_by_rank(),
                 check);
}

}  // namespace sluice::golden
