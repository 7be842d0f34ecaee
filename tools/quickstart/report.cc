#include "tools/quickstart/report.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/time.h"
#include "common/format.h"
#include "tools/console/table.h"

namespace sluice::quickstart {
namespace {

using Json = nlohmann::ordered_json;

double Seconds(int64_t bytes, double gb_per_s) {
  return gb_per_s > 0 ? static_cast<double>(bytes) / gb_per_s / 1e9 : 0;
}

double GbPerSecond(const OperationReport& operation) {
  return operation.seconds > 0
             ? static_cast<double>(operation.bytes()) / operation.seconds / 1e9
             : 0;
}

double Ratio(const OperationReport& operation, const Bound& bound) {
  return bound.total() > 0 ? operation.seconds / bound.total() : 0;
}

std::string Time(double seconds) {
  return HumanDuration(absl::Seconds(seconds));
}

Json ToJson(const OperationReport& operation, const MachineRates& rates) {
  const Bound bound = LowerBound(operation.work, rates);
  Json phases = Json::object();
  for (const auto& [phase, seconds] : operation.phases) {
    phases[phase] = seconds;
  }
  return {{"name", operation.name},
          {"verified", operation.verified},
          {"verified_bytes", operation.verified_bytes},
          {"version", operation.version},
          {"bytes",
           {{"same_device", operation.work.bytes[0]},
            {"same_node", operation.work.bytes[1]},
            {"between_nodes", operation.work.bytes[2]}}},
          {"seconds", operation.seconds},
          {"gb_per_s", GbPerSecond(operation)},
          {"bound_seconds",
           {{"total", bound.total()},
            {"same_device", bound.same_device},
            {"same_node", bound.same_node},
            {"between_nodes", bound.between_nodes},
            {"digests", bound.digests},
            {"pack", bound.pack},
            {"unpack", bound.unpack}}},
          {"bound_bytes",
           {{"digest_source", operation.work.digest_source_bytes},
            {"digest_destination", operation.work.digest_destination_bytes},
            {"pack", operation.work.pack_bytes},
            {"unpack", operation.work.unpack_bytes}}},
          {"bound_ratio", Ratio(operation, bound)},
          {"phase_seconds", phases}};
}

}  // namespace

Bound LowerBound(const Work& work, const MachineRates& rates) {
  Bound bound;
  bound.same_device = Seconds(work.bytes[0], rates.copy_gb_per_s);
  bound.same_node = Seconds(work.bytes[1], rates.copy_gb_per_s);
  bound.between_nodes = Seconds(work.bytes[2], rates.loopback_gb_per_s);
  bound.digests =
      Seconds(work.digest_source_bytes + work.digest_destination_bytes,
              rates.read_gb_per_s);
  bound.pack = Seconds(work.pack_bytes, rates.copy_gb_per_s);
  bound.unpack = Seconds(work.unpack_bytes, rates.copy_gb_per_s);
  return bound;
}

int64_t OperationReport::bytes() const {
  return std::accumulate(work.bytes.begin(), work.bytes.end(), int64_t{0});
}

bool Report::verified() const {
  return !operations.empty() &&
         std::all_of(operations.begin(), operations.end(),
                     [](const OperationReport& o) { return o.verified; });
}

std::string PrintTable(const Report& report) {
  using console::Align;
  console::Table table({{"operation"},
                        {"same device", Align::kRight},
                        {"same node", Align::kRight},
                        {"between nodes", Align::kRight},
                        {"time", Align::kRight},
                        {"GB/s", Align::kRight},
                        {"bound", Align::kRight},
                        {"ratio", Align::kRight},
                        {"verified"}});
  for (const OperationReport& operation : report.operations) {
    const Bound bound = LowerBound(operation.work, report.rates);
    table.Add({operation.name, HumanBytes(operation.work.bytes[0]),
               HumanBytes(operation.work.bytes[1]),
               HumanBytes(operation.work.bytes[2]), Time(operation.seconds),
               absl::StrFormat("%.2f", GbPerSecond(operation)),
               report.has_bounds() ? Time(bound.total()) : "-",
               report.has_bounds()
                   ? absl::StrFormat("%.2f", Ratio(operation, bound))
                   : "-",
               operation.verified
                   ? absl::StrCat("all ", HumanBytes(operation.verified_bytes))
                   : "NO"});
  }
  std::string out;
  for (const auto& [name, value] : report.setting) {
    absl::StrAppend(&out, name, ": ", value, "\n");
  }
  absl::StrAppend(&out, "\n", table.Print(), "\n");
  if (!report.has_bounds()) {
    absl::StrAppend(&out,
                    "No bounds: what a GPU could do at best, gpu_bench "
                    "measures.\n");
    return out;
  }
  absl::StrAppendFormat(
      &out,
      "This machine, all cores busy: copy %.2f GB/s, digest read %.2f GB/s, "
      "TCP over loopback %.2f GB/s.\n",
      report.rates.copy_gb_per_s, report.rates.read_gb_per_s,
      report.rates.loopback_gb_per_s);
  absl::StrAppend(&out,
                  "bound: the bytes at these rates, one digest read of source "
                  "and destination, one pack and unpack of what is not "
                  "contiguous. ratio: time over bound.\n");
  return out;
}

std::string PrintJson(const Report& report) {
  Json setting = Json::object();
  for (const auto& [name, value] : report.setting) setting[name] = value;
  Json operations = Json::array();
  for (const OperationReport& operation : report.operations) {
    operations.push_back(ToJson(operation, report.rates));
  }
  const Json json = {{"verified", report.verified()},
                     {"setting", setting},
                     {"copy_gb_per_s", report.rates.copy_gb_per_s},
                     {"read_gb_per_s", report.rates.read_gb_per_s},
                     {"loopback_gb_per_s", report.rates.loopback_gb_per_s},
                     {"coordinator_rss_bytes", report.coordinator_rss_bytes},
                     {"operations", operations}};
  return json.dump(2) + "\n";
}

}  // namespace sluice::quickstart
