// Whatever a client or a file says wrongly is refused with its code and its
// name, and nothing is changed by it.

#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tests/integration/patterned_model.h"
#include "tests/integration/sample_set.h"
#include "tests/integration/test_cluster.h"
#include "tests/support/status_matchers.h"

namespace sluice::testing {
namespace {

using absl::StatusCode;
constexpr StatusCode kNotFound = StatusCode::kNotFound;

// One thing done wrongly, and how it must be refused.
struct Mistake {
  std::string description;
  std::function<absl::Status()> act;
  StatusCode code;
  std::vector<std::string> named;  // words the message must have
};

// Two agents; model "m" of tensors "a" and "b" [8,4] int32, placed by rows in
// arenas as "rows" and "other"; samples s0 to s3 on agent-0.
struct Bench {
  std::unique_ptr<TestCluster> cluster;
  std::unique_ptr<Worker> producer;
  SampleSet samples{"s", 4};

  static v1::ModelSpec Model(const std::string& name) {
    v1::ModelSpec model;
    model.set_name(name);
    for (const char* tensor : {"a", "b"}) {
      v1::TensorSpec& spec = *model.add_tensors();
      spec.set_name(tensor);
      spec.set_dtype(v1::DTYPE_I32);
      spec.add_shape(8);
      spec.add_shape(4);
    }
    return model;
  }
  static v1::Layout Rows() {
    v1::Layout layout;
    layout.set_name("rows");
    v1::LayoutRule& rule = *layout.add_rules();
    rule.set_pattern("*");
    rule.add_splits()->set_dim(0);
    rule.mutable_splits(0)->add_axes("tensor");
    return layout;
  }
  v1::RegisterPlacementRequest Placement(const std::string& name) const {
    v1::RegisterPlacementRequest request;
    request.set_model("m");
    request.set_placement(name);
    *request.mutable_mesh() =
        MeshOf({{"tensor", 2}}, cluster->AgentNames({0, 1}));
    *request.mutable_layout() = Rows();
    request.set_storage(v1::STORAGE_ARENA);
    return request;
  }
  absl::Status Start() {
    auto started = TestCluster::Start({.nodes = 1, .agents_per_node = 2});
    if (!started.ok()) return started.status();
    cluster = *std::move(started);
    Client& client = cluster->client();
    v1::RegisterModelRequest model;
    *model.mutable_model() = Model("m");
    absl::Status status = client.RegisterModel(model).status();
    status.Update(client.RegisterPlacement(Placement("rows")).status());
    status.Update(client.RegisterPlacement(Placement("other")).status());
    auto worker = cluster->Attach(0, "producer");
    if (!worker.ok()) return worker.status();
    producer = *std::move(worker);
    status.Update(samples.Put(*producer, 0, samples.size()));
    return status;
  }

  // Each mistake is refused as it says, and the state stays what it was.
  void Check(const std::vector<Mistake>& mistakes) {
    REQUIRE_OK_AND_ASSIGN(const v1::GetStatusResponse before,
                          cluster->client().GetStatus());
    for (const Mistake& mistake : mistakes) {
      CAPTURE(mistake.description);
      const absl::Status status = mistake.act();
      CHECK_THAT(status, StatusIs(mistake.code));
      for (const std::string& word : mistake.named) {
        CHECK_THAT(status, StatusIs(status.code(), word));
      }
      REQUIRE_OK_AND_ASSIGN(const v1::GetStatusResponse after,
                            cluster->client().GetStatus());
      CHECK(StateInWords(after) == StateInWords(before));
    }
  }
};

// --- Checkpoints ------------------------------------------------------------

std::string TensorJson(const std::string& name, const std::string& dtype,
                       const std::string& shape, int64_t begin, int64_t end) {
  return absl::StrCat("\"", name, "\":{\"dtype\":\"", dtype, "\",\"shape\":[",
                      shape, "],\"data_offsets\":[", begin, ",", end, "]}");
}

// Writes DIR/NAME/model.safetensors: a header and `data_bytes` of data.
std::string WriteCheckpoint(const TestDir& dir, const std::string& name,
                            const std::string& a, const std::string& b,
                            int64_t data_bytes) {
  const std::string header = absl::StrCat("{", a, ",", b, "}");
  std::string file(8, '\0');
  for (int i = 0; i < 8; ++i) {
    file[static_cast<size_t>(i)] =
        static_cast<char>(header.size() >> (8 * i) & 0xff);
  }
  absl::StrAppend(&file, header,
                  std::string(static_cast<size_t>(data_bytes), 'x'));
  std::filesystem::create_directories(dir.File(name));
  dir.Write(absl::StrCat(name, "/config.json"), "{}");
  dir.Write(absl::StrCat(name, "/model.safetensors"), file);
  return dir.File(name);
}

TEST_CASE("a bad checkpoint is refused, file and tensor named",
          "[integration][bad_input]") {
  Bench bench;
  REQUIRE_OK(bench.Start());
  const TestDir dir;
  const std::string a = TensorJson("a", "I32", "8,4", 0, 128);
  const std::string b = TensorJson("b", "I32", "8,4", 128, 256);
  const auto load = [&](const std::string& directory) {
    return [&bench, directory] {
      v1::LoadRequest request;
      request.set_model("m");
      request.set_placement("rows");
      request.set_directory(directory);
      return bench.cluster->client().Load(request).status();
    };
  };
  const std::string good = WriteCheckpoint(dir, "good", a, b, 256);
  const std::string missing = WriteCheckpoint(dir, "missing", a, b, 256);
  dir.Write(
      "missing/model.safetensors.index.json",
      R"({"weight_map":{"a":"model.safetensors","b":"gone.safetensors"}})");
  const std::string kFile = "model.safetensors";
  bench.Check({
      {"no directory", load(dir.File("nowhere")), kNotFound, {"nowhere"}},
      {"relative directory", load("here"), StatusCode::kInvalidArgument, {}},
      {"missing file", load(missing), kNotFound, {"gone.safetensors"}},
      {"truncated file",
       load(WriteCheckpoint(dir, "cut", a, b, 200)),
       StatusCode::kInvalidArgument,
       {kFile}},
      {"overlap",
       load(WriteCheckpoint(dir, "overlap", a,
                            TensorJson("b", "I32", "8,4", 64, 192), 192)),
       StatusCode::kInvalidArgument,
       {kFile}},
      {"out of range",
       load(WriteCheckpoint(dir, "range", a,
                            TensorJson("b", "I32", "8,4", 1024, 1152), 256)),
       StatusCode::kInvalidArgument,
       {kFile, "b"}},
      {"overflow",
       load(WriteCheckpoint(
           dir, "overflow", a,
           TensorJson("b", "I32", "4611686018427387904,4", 128, 256), 256)),
       StatusCode::kInvalidArgument,
       {kFile, "b"}},
      {"another dtype",
       load(WriteCheckpoint(dir, "dtype", a,
                            TensorJson("b", "F32", "8,4", 128, 256), 256)),
       StatusCode::kInvalidArgument,
       {"b"}},
      {"another shape",
       load(WriteCheckpoint(dir, "shape", a,
                            TensorJson("b", "I32", "4,8", 128, 256), 256)),
       StatusCode::kInvalidArgument,
       {"b"}},
      {"a tensor less",
       load(WriteCheckpoint(dir, "less", a,
                            TensorJson("c", "I32", "8,4", 128, 256), 256)),
       kNotFound,
       {"b"}},
  });
  CHECK_OK(load(good)());
}

// --- Models and placements --------------------------------------------------

// Explicit views of rows [lo, hi) of both tensors on each rank.
v1::Layout ExplicitRows(const std::vector<std::pair<int, int>>& rows) {
  v1::Layout layout;
  layout.set_name("explicit");
  for (const auto& [lo, hi] : rows) {
    v1::RankLayout& rank = *layout.add_explicit_ranks();
    for (int tensor = 0; tensor < 2; ++tensor) {
      v1::LocalParam& param = *rank.add_params();
      param.set_name(tensor == 0 ? "a" : "b");
      param.set_dtype(v1::DTYPE_I32);
      param.add_shape(hi - lo);
      param.add_shape(4);
      v1::View& view = *rank.add_views();
      view.set_tensor(tensor);
      view.mutable_box()->add_lo(lo);
      view.mutable_box()->add_lo(0);
      view.mutable_box()->add_hi(hi);
      view.mutable_box()->add_hi(4);
      view.set_param(tensor);
      view.add_strides(4);
      view.add_strides(1);
    }
  }
  return layout;
}

TEST_CASE("a bad model or placement is refused, the culprit named",
          "[integration][bad_input]") {
  Bench bench;
  REQUIRE_OK(bench.Start());
  Client& client = bench.cluster->client();
  const auto model = [&](const std::function<void(v1::ModelSpec&)>& spoil) {
    return [&client, spoil] {
      v1::RegisterModelRequest request;
      *request.mutable_model() = Bench::Model("m");
      spoil(*request.mutable_model());
      return client.RegisterModel(request).status();
    };
  };
  using Request = v1::RegisterPlacementRequest;
  const auto place = [&](const std::function<void(Request&)>& spoil) {
    return [&client, &bench, spoil] {
      Request request = bench.Placement("bad");
      spoil(request);
      return client.RegisterPlacement(request).status();
    };
  };
  const auto place_explicit = [&](std::vector<std::pair<int, int>> rows) {
    return place([rows](Request& request) {
      *request.mutable_layout() = ExplicitRows(rows);
    });
  };
  v1::Layout twice = ExplicitRows({{0, 4}, {4, 8}});
  twice.mutable_explicit_ranks(1)->mutable_views(1)->set_param(0);
  bench.Check({
      {"a model's name taken",
       model([](v1::ModelSpec& m) { m.mutable_tensors(1)->set_shape(0, 9); }),
       StatusCode::kAlreadyExists,
       {"m"}},
      {"a tensor twice",
       model([](v1::ModelSpec& m) {
         m.set_name("n");
         m.mutable_tensors(1)->set_name("a");
       }),
       StatusCode::kInvalidArgument,
       {"a"}},
      {"no dtype",
       model([](v1::ModelSpec& m) {
         m.set_name("n");
         m.mutable_tensors(1)->set_dtype(v1::DTYPE_UNSPECIFIED);
       }),
       StatusCode::kInvalidArgument,
       {"b"}},
      {"a negative size",
       model([](v1::ModelSpec& m) {
         m.set_name("n");
         m.mutable_tensors(1)->set_shape(0, -1);
       }),
       StatusCode::kInvalidArgument,
       {"b"}},
      {"an unknown model",
       place([](Request& r) { r.set_model("nobody"); }),
       kNotFound,
       {"nobody"}},
      {"an unknown agent",
       place([](Request& r) { r.mutable_mesh()->set_agents(1, "agent-9"); }),
       kNotFound,
       {"agent-9"}},
      {"a placement's name taken",
       place([](Request& r) {
         r.set_placement("rows");
         r.mutable_layout()->mutable_rules(0)->clear_splits();
       }),
       StatusCode::kAlreadyExists,
       {"rows"}},
      {"an unknown axis",
       place([](Request& r) { r.mutable_layout()->add_replica_axes("dta"); }),
       StatusCode::kInvalidArgument,
       {"dta"}},
      {"an unknown stage axis",
       place([](Request& r) { r.mutable_layout()->set_stage_axis("pip"); }),
       StatusCode::kInvalidArgument,
       {"pip"}},
      {"an axis product unlike the agents",
       place(
           [](Request& r) { r.mutable_mesh()->mutable_axes(0)->set_size(3); }),
       StatusCode::kInvalidArgument,
       {"3", "2"}},
      {"an agent twice",
       place([](Request& r) { r.mutable_mesh()->set_agents(1, "agent-0"); }),
       StatusCode::kInvalidArgument,
       {"agent-0"}},
      {"a rule that matches nothing",
       place([](Request& r) {
         r.mutable_layout()->mutable_rules(0)->set_pattern("zzz");
       }),
       StatusCode::kInvalidArgument,
       {}},
      {"a hole",
       place_explicit({{0, 4}, {5, 8}}),
       StatusCode::kInvalidArgument,
       {"a"}},
      {"a rank out of range",
       place_explicit({{0, 4}, {4, 8}, {0, 8}}),
       StatusCode::kInvalidArgument,
       {"3", "2"}},
      {"a view outside its tensor",
       place_explicit({{0, 4}, {4, 9}}),
       StatusCode::kInvalidArgument,
       {"a"}},
      {"two tensors in one place",
       place([twice](Request& r) { *r.mutable_layout() = twice; }),
       StatusCode::kInvalidArgument,
       {}},
  });
}

TEST_CASE("what does not fit is refused before anything is allocated",
          "[integration][bad_input]") {
  Bench bench;
  REQUIRE_OK(bench.Start());
  Client& client = bench.cluster->client();
  v1::RegisterModelRequest large;
  *large.mutable_model() = Bench::Model("large");
  large.mutable_model()->mutable_tensors(0)->set_shape(0, int64_t{1} << 30);
  REQUIRE_OK(client.RegisterModel(large));  // 16 GiB, on paper
  bench.Check({
      {"too little memory",
       [&] {
         v1::RegisterPlacementRequest request = bench.Placement("rows");
         request.set_model("large");
         return client.RegisterPlacement(request).status();
       },
       // Half of it, in two copies; and what there is.
       StatusCode::kResourceExhausted,
       {"agent-0", "needs 17179869696 bytes", "536870912 are free"}},
      {"an oversized message",
       [&] {
         v1::RegisterModelRequest request;
         *request.mutable_model() = Bench::Model("n");
         request.mutable_model()->mutable_tensors(0)->set_name(
             std::string(size_t{100} << 20, 'x'));
         return client.RegisterModel(request).status();
       },
       StatusCode::kResourceExhausted,
       {}},
      {"too many ids",
       [&] {
         v1::LocateRequest request;
         for (int i = 0; i < 65'537; ++i) request.add_sample_ids("s0");
         return client.Locate(request).status();
       },
       StatusCode::kInvalidArgument,
       {"65537"}},
      {"a sample larger than the arena",
       [&] {
         v1::SampleEntry entry;
         entry.set_sample_id("huge");
         entry.set_key("tokens");
         entry.set_dtype(v1::DTYPE_I32);
         entry.add_sequence_lengths(int64_t{1} << 40);
         const SampleValue value{entry, nullptr};
         return bench.producer->PutSamples({value});
       },
       StatusCode::kResourceExhausted,
       {}},
  });
}

// --- Syncs and samples ------------------------------------------------------

TEST_CASE("a bad sync or redistribution is refused, the culprit named",
          "[integration][bad_input]") {
  Bench bench;
  REQUIRE_OK(bench.Start());
  Client& client = bench.cluster->client();
  const auto sync = [&](const std::string& model, const std::string& source,
                        const std::string& destination) {
    return [&client, model, source, destination] {
      v1::SyncRequest request;
      request.set_model(model);
      request.set_source(source);
      if (!destination.empty()) request.add_destinations(destination);
      return client.Sync(request).status();
    };
  };
  const auto move =
      [&](const std::function<void(v1::RedistributeRequest&)>& spoil) {
        return [&client, &bench, spoil] {
          v1::RedistributeRequest request;
          request.set_pattern(v1::PATTERN_DIRECT);
          *request.add_wants() = bench.samples.WantOf({"agent-1"}, 0, 4);
          spoil(request);
          return client.Redistribute(request).status();
        };
      };
  const auto locate = [&](const std::string& id, const std::string& key) {
    return [&client, id, key] {
      v1::LocateRequest request;
      request.add_sample_ids("s0");
      request.add_sample_ids(id);
      if (!key.empty()) request.add_keys(key);
      return client.Locate(request).status();
    };
  };
  const auto clear = [&] {
    v1::ClearRequest request;
    request.add_sample_ids("s1");
    request.add_sample_ids("s9");
    return client.Clear(request).status();
  };
  const auto put_again = [&] {
    return bench.samples.Put(*bench.producer, 2, 3);
  };
  using Move = v1::RedistributeRequest;
  bench.Check({
      {"an unknown model",
       sync("nobody", "rows", "other"),
       kNotFound,
       {"nobody"}},
      {"an unknown source",
       sync("m", "nowhere", "other"),
       kNotFound,
       {"nowhere"}},
      {"an unknown destination",
       sync("m", "rows", "nowhere"),
       kNotFound,
       {"nowhere"}},
      {"no destination",
       sync("m", "rows", ""),
       StatusCode::kInvalidArgument,
       {"destination"}},
      {"onto itself",
       sync("m", "rows", "rows"),
       StatusCode::kInvalidArgument,
       {"rows"}},
      {"a source without a version",
       sync("m", "rows", "other"),
       StatusCode::kFailedPrecondition,
       {"rows"}},
      {"an unspecified pattern",
       move([](Move& m) { m.set_pattern(v1::PATTERN_UNSPECIFIED); }),
       StatusCode::kInvalidArgument,
       {"pattern"}},
      {"an unknown pattern",
       move([](Move& m) { m.set_pattern(static_cast<v1::Pattern>(77)); }),
       StatusCode::kInvalidArgument,
       {"77"}},
      {"no want",
       move([](Move& m) { m.clear_wants(); }),
       StatusCode::kInvalidArgument,
       {"want"}},
      {"an unknown agent",
       move([](Move& m) { m.mutable_wants(0)->set_agents(0, "agent-7"); }),
       StatusCode::kInvalidArgument,
       {"agent-7"}},
      {"an unknown sample",
       move([](Move& m) { m.mutable_wants(0)->add_sample_ids("s77"); }),
       kNotFound,
       {"s77"}},
      {"a key that nobody has",
       move([](Move& m) { m.mutable_wants(0)->add_keys("values"); }),
       kNotFound,
       {"values", "s0"}},
      {"locating an unknown sample", locate("s8", ""), kNotFound, {"s8"}},
      {"locating an unknown key",
       locate("s1", "values"),
       kNotFound,
       {"values"}},
      {"clearing an unknown sample", clear, kNotFound, {"s9"}},
      {"putting a sample again", put_again, StatusCode::kAlreadyExists, {"s2"}},
  });
  CHECK_OK(bench.samples.Check(*bench.producer, 0, bench.samples.size()));
}

}  // namespace
}  // namespace sluice::testing
