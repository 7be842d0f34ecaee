#ifndef SLUICE_COMMON_FLAGS_H_
#define SLUICE_COMMON_FLAGS_H_

// The options of a daemon: flags on the command line and the same names in a
// TOML file.
//
//   Flags flags("sluice-agent", "Serves one device's memory.");
//   flags.Add("listen", &options.listen, "HOST:PORT to serve on");
//   flags.Add("lease", &options.lease, "...");
//   SLUICE_ASSIGN_OR_RETURN(const Flags::Action action, flags.Parse(argc,
//   argv)); if (action == Flags::Action::kExit) return 0;  // --help was
//   printed
//
// --config FILE is always there. A flag wins over the file, the file over the
// default, which is what the variable holds when it is added. In the file "_"
// and "-" are the same and a table's name is a prefix: [log] level = "info" is
// --log-level.

#include <cstdint>
#include <deque>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace sluice {

// Not thread-safe. The variables must outlive Parse.
class Flags {
 public:
  enum class Action { kRun, kExit };

  Flags(absl::string_view program, absl::string_view description);

  void Add(absl::string_view name, std::string* value, absl::string_view help);
  // --name, --name=false.
  void Add(absl::string_view name, bool* value, absl::string_view help);
  // Refused outside [min, max].
  void Add(absl::string_view name, int64_t* value, absl::string_view help,
           int64_t min = std::numeric_limits<int64_t>::min(),
           int64_t max = std::numeric_limits<int64_t>::max());
  // "10s", "1m30s", "250ms"; refused outside [min, max].
  void Add(absl::string_view name, absl::Duration* value,
           absl::string_view help, absl::Duration min = absl::ZeroDuration(),
           absl::Duration max = absl::InfiniteDuration());
  // May be given several times; an array in the file.
  void Add(absl::string_view name, std::vector<std::string>* value,
           absl::string_view help);
  // A number of bytes: "64MiB", "1.5 GB", "4096"; not negative.
  void AddBytes(absl::string_view name, int64_t* value, absl::string_view help);
  // A text that `set` accepts or refuses, such as an enumeration.
  void AddParsed(absl::string_view name, absl::string_view default_text,
                 std::function<absl::Status(absl::string_view)> set,
                 absl::string_view help);

  // Reads flags and file and sets the variables; prints the help for --help.
  // Errors: INVALID_ARGUMENT - an unknown flag or key (the nearest name is
  // said), a value that does not parse or is out of range, a malformed file
  // (with its line); NOT_FOUND - the file cannot be read.
  absl::StatusOr<Action> Parse(int argc, const char* const* argv);

 private:
  struct Flag {
    std::string name;
    std::string type;  // for the help
    std::string help;
    std::string default_text;
    bool is_list = false;
    bool is_switch = false;
    // Sets the variable from all values given in one place.
    std::function<absl::Status(const std::vector<std::string>&)> set;
    std::vector<std::string> given;  // on the command line
  };
  class ConfigReader;

  Flag& AddFlag(absl::string_view name, absl::string_view type,
                absl::string_view help);
  // As above, for a flag of one value.
  void AddOne(absl::string_view name, absl::string_view type,
              absl::string_view default_text, absl::string_view help,
              std::function<absl::Status(absl::string_view)> set);
  Flag* Find(absl::string_view name);
  // " (did you mean ...?)", or nothing where no name is near.
  std::string Suggestion(absl::string_view name) const;
  absl::Status ReadConfig(const std::string& path);

  const std::string program_;
  const std::string description_;
  std::string config_;
  std::deque<Flag> flags_;  // stable addresses
};

// Parses "64MiB", "1.5 GB", "4096": IEC and decimal units.
// Errors: INVALID_ARGUMENT - malformed, negative, or 2^63 and more.
absl::StatusOr<int64_t> ParseBytes(absl::string_view text);

}  // namespace sluice

#endif  // SLUICE_COMMON_FLAGS_H_
