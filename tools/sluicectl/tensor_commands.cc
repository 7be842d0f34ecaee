// put, get: sample tensors through an agent of this machine, as a worker does.

#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <fstream>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/cpp/worker.h"
#include "common/convert_tensor.h"
#include "common/dtype.h"
#include "common/format.h"
#include "common/status_macros.h"
#include "tools/console/table.h"
#include "tools/sluicectl/context.h"
#include "tools/sluicectl/sample_values.h"

namespace sluice::ctl {
namespace {

// How many values `get` shows of a tensor.
constexpr int64_t kShownValues = 6;

struct AgentOptions {
  std::string agent, socket;
};

void DefineAgent(CLI::App& command, AgentOptions& options) {
  command.add_option("--agent", options.agent, "Name of an agent here");
  command.add_option("--agent-socket", options.socket,
                     "Its Unix socket, instead of its name");
}

absl::StatusOr<std::unique_ptr<Worker>> Attach(Context& context,
                                               const AgentOptions& options) {
  WorkerOptions worker;
  SLUICE_ASSIGN_OR_RETURN(worker.agent_socket,
                          context.AgentSocket(options.agent, options.socket));
  worker.name = absl::StrCat("sluicectl-", ::getpid());
  worker.reconnect_for = absl::Seconds(context.globals().timeout_seconds) / 5;
  return Worker::Attach(worker);
}

struct PutOptions {
  AgentOptions agent;
  std::string id, key, dtype = "float32", file, json_file;
  std::vector<int64_t> lengths, row;
  std::vector<double> values;
};

absl::StatusOr<std::vector<OwnedSample>> SamplesOf(const PutOptions& options) {
  if (!options.json_file.empty()) {
    SLUICE_ASSIGN_OR_RETURN(const std::vector<std::byte> bytes,
                            ReadBytes(options.json_file));
    return ParseSamples(
        std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()),
        std::filesystem::path(options.json_file).parent_path().string());
  }
  if (options.id.empty() || options.key.empty() || options.lengths.empty() ||
      options.file.empty() == options.values.empty()) {
    return absl::InvalidArgumentError(
        "expected --from FILE.json, or --sample, --key, --lengths and one of "
        "--file and --values");
  }
  OwnedSample sample;
  sample.entry.set_sample_id(options.id);
  sample.entry.set_key(options.key);
  SLUICE_ASSIGN_OR_RETURN(const DType dtype, ParseDType(options.dtype));
  sample.entry.set_dtype(ToProto(dtype));
  for (const int64_t length : options.lengths) {
    sample.entry.add_sequence_lengths(length);
  }
  for (const int64_t size : options.row) sample.entry.add_trailing_shape(size);
  if (options.file.empty()) {
    SLUICE_ASSIGN_OR_RETURN(sample.bytes,
                            EncodeValues(sample.entry.dtype(), options.values));
  } else {
    SLUICE_ASSIGN_OR_RETURN(sample.bytes, ReadBytes(options.file));
  }
  std::vector<OwnedSample> samples;
  samples.push_back(std::move(sample));
  return samples;
}

absl::Status Put(Context& context, const PutOptions& options) {
  SLUICE_ASSIGN_OR_RETURN(const std::vector<OwnedSample> samples,
                          SamplesOf(options));
  std::vector<SampleValue> values;
  int64_t bytes = 0;
  for (const OwnedSample& sample : samples) {
    SLUICE_ASSIGN_OR_RETURN(const int64_t expected, EntryBytes(sample.entry));
    const auto found = static_cast<int64_t>(sample.bytes.size());
    if (expected != found) {
      return absl::InvalidArgumentError(
          absl::StrCat("sample \"", sample.entry.sample_id(), "\" key \"",
                       sample.entry.key(), "\": lengths and row make ",
                       expected, " bytes, found ", found));
    }
    bytes += found;
    values.push_back({sample.entry, sample.bytes.data()});
  }
  SLUICE_ASSIGN_OR_RETURN(const std::unique_ptr<Worker> worker,
                          Attach(context, options.agent));
  SLUICE_RETURN_IF_ERROR(worker->PutSamples(values));
  if (context.json()) {
    Context::Print(absl::StrCat("{\"tensors\": ", values.size(),
                                ", \"bytes\": ", bytes, "}\n"));
  } else {
    Context::Print(absl::StrCat("put ", values.size(), " tensors, ",
                                HumanBytes(bytes), "\n"));
  }
  return absl::OkStatus();
}

struct GetOptions {
  AgentOptions agent;
  std::vector<std::string> ids, keys;
  std::string out;
};

// A name any file system takes: ids may hold anything.
std::string FileName(size_t index, const v1::SampleEntry& entry) {
  std::string name =
      absl::StrCat(index, ".", entry.sample_id(), ".", entry.key());
  std::replace_if(
      name.begin(), name.end(),
      [](unsigned char c) {
        return std::isalnum(c) == 0 && c != '.' && c != '-';
      },
      '_');
  return name.substr(0, 200) + ".bin";
}

absl::Status WriteViews(const std::vector<SampleView>& views,
                        const std::string& folder) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  for (size_t i = 0; i < views.size(); ++i) {
    const std::string path =
        absl::StrCat(folder, "/", FileName(i, views[i].entry));
    std::ofstream file(path, std::ios::binary | std::ios::trunc);
    file.write(reinterpret_cast<const char*>(views[i].data), views[i].bytes);
    file.close();
    if (!file) {
      return absl::PermissionDeniedError(absl::StrCat("cannot write ", path));
    }
  }
  return absl::OkStatus();
}

absl::Status Get(Context& context, const GetOptions& options) {
  SLUICE_ASSIGN_OR_RETURN(const std::unique_ptr<Worker> worker,
                          Attach(context, options.agent));
  SLUICE_ASSIGN_OR_RETURN(const std::vector<SampleView> views,
                          worker->GetSamples(options.ids, options.keys));
  if (!options.out.empty()) {
    SLUICE_RETURN_IF_ERROR(WriteViews(views, options.out));
  }
  if (context.json()) {
    v1::GetSamplesResponse answer;
    for (const SampleView& view : views) {
      *answer.add_places()->mutable_entry() = view.entry;
    }
    Context::PrintJson(answer);
    return absl::OkStatus();
  }
  using console::Align;
  console::Table table({{"sample"},
                        {"key"},
                        {"type"},
                        {"lengths"},
                        {"bytes", Align::kRight},
                        {options.out.empty() ? "values" : "file"}});
  for (size_t i = 0; i < views.size(); ++i) {
    const SampleView& view = views[i];
    table.Add({view.entry.sample_id(), view.entry.key(),
               Word(v1::DType_Name(view.entry.dtype()), "DTYPE_"),
               absl::StrJoin(view.entry.sequence_lengths(), ","),
               HumanBytes(view.bytes),
               options.out.empty() ? PrintValues(view.entry.dtype(), view.data,
                                                 view.bytes, kShownValues)
                                   : FileName(i, view.entry)});
  }
  Context::Print(table.Print());
  return absl::OkStatus();
}

void DefinePut(CLI::App& command, PutOptions& options) {
  DefineAgent(command, options.agent);
  command.add_option("--from", options.json_file,
                     "JSON list of {sample, key, dtype, lengths, row, values "
                     "or file}");
  command.add_option("--sample", options.id, "Sample id");
  command.add_option("--key", options.key, "Key");
  command.add_option("--dtype", options.dtype, "Type, such as float32")
      ->capture_default_str();
  command.add_option("--lengths", options.lengths, "Lengths of its sequences")
      ->delimiter(',');
  command.add_option("--row", options.row, "Shape of one row (default: none)")
      ->delimiter(',');
  command.add_option("--values", options.values, "Numbers")->delimiter(',');
  command.add_option("--file", options.file, "Raw little-endian bytes");
}

}  // namespace

void AddTensorCommands(CLI::App& app, Action& chosen) {
  AddCommand<PutOptions>(
      app, chosen, "put",
      "Puts samples into an agent of this machine.\n"
      "Example: sluicectl put --agent agent-0 --sample s1 --key rewards "
      "--lengths 2 --values 0.5,1",
      DefinePut, Put);
  AddCommand<GetOptions>(
      app, chosen, "get",
      "Shows or saves samples that an agent of this machine holds.\n"
      "Example: sluicectl get --agent agent-0 s1 --key rewards --out DIR",
      [](CLI::App& command, GetOptions& options) {
        DefineAgent(command, options.agent);
        command.add_option("samples", options.ids, "Sample ids")->required();
        command.add_option("--key", options.keys,
                           "Keys (default: all held); repeatable");
        command.add_option("--out", options.out,
                           "Folder for raw files, one a tensor");
      },
      Get);
}

}  // namespace sluice::ctl
