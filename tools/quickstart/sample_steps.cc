#include "tools/quickstart/sample_steps.h"

#include <cstring>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "common/convert_tensor.h"
#include "common/format.h"
#include "common/status_macros.h"
#include "tools/console/progress.h"
#include "tools/quickstart/plan_work.h"
#include "tools/quickstart/sample_batch.h"

namespace sluice::quickstart {
namespace {

constexpr absl::Duration kWorkerDeadline = absl::Minutes(2);

SampleBatch BatchOf(const Session& session) {
  return SampleBatch(session.options.seed, session.options.samples);
}

// Samples [first, last) that one position of the data axis wants, and the
// agents there.
struct Share {
  int64_t first = 0, last = 0;
  std::vector<int> agents;
};

std::vector<Share> SharesOf(const Session& session) {
  const Mesh& mesh = session.rollout.mesh;
  const int64_t parts = mesh.AxisSize("data");
  const int64_t samples = session.options.samples;
  const int64_t block = (samples + parts - 1) / parts;
  std::vector<Share> shares;
  for (int64_t part = 0; part < parts; ++part) {
    Share share;
    share.first = std::min(samples, part * block);
    share.last = std::min(samples, share.first + block);
    for (int64_t i = 0; i < mesh.size(); ++i) {
      if (mesh.Coordinate(i, "data") == part) {
        share.agents.push_back(static_cast<int>(i));
      }
    }
    if (share.first < share.last) shares.push_back(std::move(share));
  }
  return shares;
}

v1::RedistributeRequest RequestOf(const Session& session, v1::Pattern pattern) {
  v1::RedistributeRequest request;
  request.set_pattern(pattern);
  for (const Share& share : SharesOf(session)) {
    v1::Want& want = *request.add_wants();
    for (const int agent : share.agents) {
      want.add_agents(session.AgentName(agent));
    }
    for (int64_t i = share.first; i < share.last; ++i) {
      want.add_sample_ids(SampleBatch::Id(i));
    }
    for (const std::string& key : SampleBatch::Keys()) want.add_keys(key);
  }
  return request;
}

absl::Status CheckView(const SampleView& view, const SampleEntry& expected,
                       const std::vector<std::byte>& bytes) {
  SLUICE_ASSIGN_OR_RETURN(const SampleEntry found, FromProto(view.entry));
  const bool same_entry = found == expected;
  if (same_entry && view.bytes == static_cast<int64_t>(bytes.size()) &&
      std::memcmp(view.data, bytes.data(), bytes.size()) == 0) {
    return absl::OkStatus();
  }
  return absl::DataLossError(absl::StrCat(
      "sample \"", expected.sample_id, "\" key \"", expected.key,
      "\": ", same_entry ? "other bytes" : "other metadata", " than were put"));
}

// Compares everything an agent was to get; returns the bytes.
absl::StatusOr<int64_t> CheckShare(Session& session, const Share& share,
                                   int agent) {
  const SampleBatch batch = BatchOf(session);
  SLUICE_ASSIGN_OR_RETURN(Worker * reader, session.Reader(agent));
  std::vector<std::string> ids;
  for (int64_t i = share.first; i < share.last; ++i) {
    ids.push_back(SampleBatch::Id(i));
  }
  SLUICE_ASSIGN_OR_RETURN(const std::vector<SampleView> views,
                          reader->GetSamples(ids, SampleBatch::Keys()));
  size_t next = 0;
  int64_t compared = 0;
  for (int64_t i = share.first; i < share.last; ++i) {
    for (const SampleEntry& entry : batch.Entries(i)) {
      if (next >= views.size()) {
        return absl::DataLossError(
            absl::StrCat("sample \"", entry.sample_id, "\" is missing"));
      }
      SLUICE_RETURN_IF_ERROR(
          CheckView(views[next++], entry, batch.Bytes(entry)));
      compared += entry.num_bytes();
    }
  }
  return compared;
}

absl::Status CheckBatch(Session& session, OperationReport& report) {
  console::Progress progress(absl::StrCat("check of ", report.name),
                             session.options.quiet);
  for (const Share& share : SharesOf(session)) {
    for (const int agent : share.agents) {
      const absl::StatusOr<int64_t> checked = CheckShare(session, share, agent);
      if (!checked.ok()) {
        return Annotate(checked.status(), session.AgentName(agent));
      }
      report.verified_bytes += *checked;
    }
  }
  report.verified = true;
  progress.Finish(absl::StrCat("all ", HumanBytes(report.verified_bytes),
                               " are as they were put"));
  return absl::OkStatus();
}

int64_t BatchBytes(const Session& session) {
  const SampleBatch batch = BatchOf(session);
  int64_t bytes = 0;
  for (int64_t i = 0; i < batch.size(); ++i) {
    for (const SampleEntry& entry : batch.Entries(i)) {
      bytes += entry.num_bytes();
    }
  }
  return bytes;
}

absl::Status RedistributeBy(Session& session, const std::string& name,
                            v1::Pattern pattern) {
  SLUICE_ASSIGN_OR_RETURN(
      OperationReport * report,
      RunOperation(session, absl::StrCat("redistribute ", name),
                   [&](const Client::Progress& progress) {
                     return session.client->Redistribute(
                         RequestOf(session, pattern), progress);
                   }));
  report->work = SampleWork(report->work.bytes, BatchBytes(session));
  SLUICE_RETURN_IF_ERROR(CheckBatch(session, *report));
  v1::ClearRequest clear;
  for (const std::string& id : BatchOf(session).Ids()) clear.add_sample_ids(id);
  clear.set_keep_owners(true);
  return session.client->Clear(clear).status();
}

}  // namespace

absl::Status PutBatch(Session& session) {
  console::Progress progress("put samples", session.options.quiet);
  for (size_t i = 0; i < session.workers.size(); ++i) {
    SLUICE_RETURN_IF_ERROR(
        session.workers[i]->Send({{"do", "put"},
                                  {"seed", session.options.seed},
                                  {"size", session.options.samples},
                                  {"first", i},
                                  {"step", session.workers.size()}}));
  }
  int64_t tensors = 0, bytes = 0;
  for (const auto& worker : session.workers) {
    SLUICE_ASSIGN_OR_RETURN(const nlohmann::json answer,
                            worker->Answer(kWorkerDeadline));
    tensors += answer.value("tensors", int64_t{0});
    bytes += answer.value("bytes", int64_t{0});
  }
  progress.Finish(
      absl::StrCat(HumanCount(tensors), " tensors, ", HumanBytes(bytes)));
  return absl::OkStatus();
}

absl::Status RedistributeBatch(Session& session) {
  SLUICE_RETURN_IF_ERROR(
      RedistributeBy(session, "gather_scatter", v1::PATTERN_GATHER_SCATTER));
  SLUICE_RETURN_IF_ERROR(
      RedistributeBy(session, "broadcast", v1::PATTERN_BROADCAST));
  return RedistributeBy(session, "direct", v1::PATTERN_DIRECT);
}

}  // namespace sluice::quickstart
