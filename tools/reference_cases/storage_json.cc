#include "tools/reference_cases/storage_json.h"

#include <algorithm>
#include <cstdint>
#include <utility>

#include "common/ids.h"
#include "common/status_macros.h"

namespace sluice::reference_cases {
namespace {

using coordinator::reference::CollectiveStep;
using coordinator::reference::ProcessTopology;
using coordinator::reference::RedistributionRequest;
using coordinator::reference::RedistributionSteps;
using coordinator::reference::StorageSnapshot;
using coordinator::reference::StorageState;
using coordinator::reference::StorageTracker;
using coordinator::reference::Workers;

// No id of the vectors starts with a zero byte.
constexpr char kInteger = '\0';
constexpr uint64_t kSign = uint64_t{1} << 63;

Json WriteSamples(const RedistributionSteps& plan,
                  const std::vector<int32_t>& samples) {
  Json ids = Json::array();
  for (const int32_t s : samples) {
    ids.push_back(WriteId(plan.ids[static_cast<size_t>(s)]));
  }
  return ids;
}

Json WriteStep(const RedistributionSteps& plan, const CollectiveStep& step) {
  Json keys = Json::array();
  for (const int32_t k : step.keys) {
    keys.push_back(plan.keys[static_cast<size_t>(k)]);
  }
  if (step.kind == TransferKind::kBroadcast) {
    return {{"comm_type", "bcast"},
            {"root", step.root.value()},
            {"srcs", {step.root.value()}},
            {"dsts", WriteRanks(step.peers)},
            {"ids", WriteSamples(plan, step.samples.at(0))},
            {"keys", std::move(keys)}};
  }
  const bool gather = step.kind == TransferKind::kGather;
  Json ids = Json::array();
  for (const std::vector<int32_t>& samples : step.samples) {
    ids.push_back(WriteSamples(plan, samples));
  }
  return {{"comm_type", gather ? "gather" : "scatter"},
          {"root", step.root.value()},
          {"srcs", gather ? WriteRanks(step.peers) : Json()},
          {"dsts", gather ? Json() : WriteRanks(step.peers)},
          {"ids", std::move(ids)},
          {"keys", std::move(keys)}};
}

}  // namespace

Json WriteRanks(absl::Span<const Rank> ranks) {
  Json written = Json::array();
  for (const Rank rank : ranks) written.push_back(rank.value());
  return written;
}

std::string ReadId(const Json& id) {
  if (id.is_string()) return id.get<std::string>();
  const uint64_t bits = static_cast<uint64_t>(id.get<int64_t>()) ^ kSign;
  std::string text(1, kInteger);
  for (int shift = 56; shift >= 0; shift -= 8) {
    text.push_back(static_cast<char>(bits >> shift & 0xff));
  }
  return text;
}

std::vector<std::string> ReadIds(const Json& ids) {
  std::vector<std::string> read;
  for (const Json& id : ids) read.push_back(ReadId(id));
  return read;
}

Json WriteId(const std::string& id) {
  if (id.size() != 9 || id[0] != kInteger) return id;
  uint64_t bits = 0;
  for (size_t i = 1; i < id.size(); ++i) {
    bits = bits << 8 | static_cast<unsigned char>(id[i]);
  }
  return static_cast<int64_t>(bits ^ kSign);
}

std::string WithReadableIds(const std::string& message) {
  constexpr size_t kLength = 9;
  std::string out;
  for (size_t i = 0; i < message.size();) {
    if (message[i] != kInteger || i + kLength > message.size()) {
      out.push_back(message[i++]);
      continue;
    }
    out += WriteId(message.substr(i, kLength)).dump();
    i += kLength;
  }
  return out;
}

Json WriteIds(absl::Span<const std::string> ids) {
  Json written = Json::array();
  for (const std::string& id : ids) written.push_back(WriteId(id));
  return written;
}

absl::StatusOr<StorageTracker> ReadStorage(const Json& state) {
  const Json& storages = state.at("storages");
  SLUICE_ASSIGN_OR_RETURN(
      StorageTracker storage,
      StorageTracker::Create(static_cast<int32_t>(storages.size())));
  for (size_t rank = 0; rank < storages.size(); ++rank) {
    for (const Json& held : storages[rank]) {
      const std::string ids[] = {ReadId(held.at(0))};
      const std::vector<std::string> keys = held.at(1);
      SLUICE_RETURN_IF_ERROR(storage.Add(Rank(static_cast<int32_t>(rank)), ids,
                                         keys, /*is_owner=*/false));
    }
  }
  for (const Json& owner : state.at("owners")) {
    const std::string ids[] = {ReadId(owner.at(0))};
    const std::string keys[] = {owner.at(1)};
    SLUICE_RETURN_IF_ERROR(storage.Add(Rank(owner.at(2).get<int32_t>()), ids,
                                       keys,
                                       /*is_owner=*/true));
  }
  return storage;
}

Json WriteStorage(const StorageSnapshot& storage) {
  const StorageState state = storage.State();
  Json storages = Json::array();
  for (const auto& held : state.storages) {
    Json& written = storages.emplace_back(Json::array());
    for (const auto& [id, keys] : held) {
      written.push_back({WriteId(id), keys});
    }
  }
  Json owners = Json::array();
  for (const auto& [id, key, rank] : state.owners) {
    owners.push_back({WriteId(id), key, rank.value()});
  }
  return {{"storages", std::move(storages)}, {"owners", std::move(owners)}};
}

Json SortKeys(Json state) {
  for (Json& held : state.at("storages")) {
    for (Json& entry : held) std::sort(entry.at(1).begin(), entry.at(1).end());
  }
  return state;
}

std::vector<Rank> ReadRanks(const Json& ranks) {
  std::vector<Rank> read;
  for (const Json& rank : ranks) read.emplace_back(rank.get<int32_t>());
  return read;
}

absl::StatusOr<Workers> ReadWorkers(const Json& job) {
  SLUICE_ASSIGN_OR_RETURN(
      ProcessTopology topology,
      ProcessTopology::Create(job.at("axes"), job.at("dims")));
  return Workers{std::move(topology), ReadRanks(job.at("rank_to_worker"))};
}

RedistributionRequest ReadRequest(const Json& golden) {
  RedistributionRequest request;
  request.ranks_per_node = golden.at("n_gpus_per_node");
  request.keys = golden.at("keys").get<std::vector<std::string>>();
  for (const Json& dest : golden.at("dests")) {
    request.destinations.push_back(
        {{Rank(dest.at(0).get<int32_t>())}, ReadIds(dest.at(1))});
  }
  return request;
}

Json WriteSteps(const RedistributionSteps& plan) {
  Json steps = Json::array();
  for (const CollectiveStep& step : plan.steps) {
    steps.push_back(WriteStep(plan, step));
  }
  return steps;
}

}  // namespace sluice::reference_cases
