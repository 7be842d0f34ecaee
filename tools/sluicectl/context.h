#ifndef SLUICE_TOOLS_SLUICECTL_CONTEXT_H_
#define SLUICE_TOOLS_SLUICECTL_CONTEXT_H_

// What every command of sluicectl shares: whom to talk to, how to answer.

#include <google/protobuf/message.h>

#include <CLI/CLI.hpp>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "client/cpp/client.h"
#include "proto/sluice/v1/operation.pb.h"

namespace sluice::ctl {

// Options that stand before or after any command.
struct Globals {
  // host:port; empty: that of the cluster in state_dir.
  std::string coordinator;
  // State directory of a cluster of `sluicectl up`.
  std::string state_dir;
  bool json = false;
  bool quiet = false;
  double timeout_seconds = 10;
};

class Context {
 public:
  Globals& globals() { return globals_; }
  bool json() const { return globals_.json; }

  // Errors: INVALID_ARGUMENT - nobody said where the coordinator is; NOT_FOUND
  // - no cluster runs in the state directory.
  absl::StatusOr<std::string> Address() const;
  absl::StatusOr<Client*> client();
  // What a person can do about a failure, a sentence; empty where the message
  // says it all. Asks whether the coordinator answers where that is in doubt.
  std::string Hint(const absl::Status& failure) const;

  // The socket of an agent, by its name (as status shows it), or the path
  // itself where `path` is not empty.
  absl::StatusOr<std::string> AgentSocket(const std::string& agent,
                                          const std::string& path);

  // Prints a message as JSON on stdout.
  static void PrintJson(const google::protobuf::Message& message);
  // Prints text on stdout.
  static void Print(absl::string_view text);

  // Runs a long operation with its progress on stderr and prints its result.
  absl::Status RunOperation(
      absl::string_view name,
      const std::function<
          absl::StatusOr<v1::OperationResult>(const Client::Progress&)>& run);

 private:
  Globals globals_;
  std::unique_ptr<Client> client_;
};

// What the command line asks for; run after parsing.
using Action = std::function<absl::Status(Context&)>;

// Adds a command whose action runs `run` with its options.
template <typename Options>
CLI::App* AddCommand(CLI::App& app, Action& chosen, const std::string& name,
                     const std::string& about,
                     const std::function<void(CLI::App&, Options&)>& define,
                     absl::Status (*run)(Context&, const Options&)) {
  CLI::App* command = app.add_subcommand(name, about);
  auto options = std::make_shared<Options>();
  define(*command, *options);
  command->callback([options, run, &chosen] {
    chosen = [options, run](Context& context) {
      return run(context, *options);
    };
  });
  return command;
}

// The groups of commands, a file each.
void AddClusterCommands(CLI::App& app, Action& chosen);
void AddStatusCommands(CLI::App& app, Action& chosen);
void AddModelCommands(CLI::App& app, Action& chosen);
void AddSampleCommands(CLI::App& app, Action& chosen);
void AddTensorCommands(CLI::App& app, Action& chosen);

// The value of --pattern, in any case; `allowed` are the words of this command.
// Errors: INVALID_ARGUMENT - lists them.
absl::StatusOr<v1::Pattern> ParsePatternFlag(
    absl::string_view text, absl::Span<const absl::string_view> allowed);

// --transport, and its value in any case. Errors: INVALID_ARGUMENT.
void AddTransportFlag(CLI::App& command, std::string& transport);
absl::StatusOr<v1::Transport> ParseTransportFlag(absl::string_view text);

// Words for people.
std::string LinkBytesText(const v1::LinkBytes& bytes);
std::string CertificateText(const v1::Certificate& certificate);
std::string ResultText(const v1::OperationResult& result);
// "OPERATION_PHASE_QUEUED" without its first words: "queued".
std::string Word(const std::string& enum_name, absl::string_view prefix);

}  // namespace sluice::ctl

#endif  // SLUICE_TOOLS_SLUICECTL_CONTEXT_H_
