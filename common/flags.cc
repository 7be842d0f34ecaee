#include "common/flags.h"

// Errors are returned, not thrown.
#define TOML_EXCEPTIONS 0
#include <toml++/toml.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <iostream>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"
#include "common/status_macros.h"

namespace sluice {
namespace {

// The number of single-character changes from one text to the other.
size_t EditDistance(absl::string_view a, absl::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = std::exchange(row[0], i);
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t changed = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({changed, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row[b.size()];
}

absl::Status Unlike(absl::string_view expected, absl::string_view found) {
  return absl::InvalidArgumentError(
      absl::StrCat("expected ", expected, ", found \"", found, "\""));
}

absl::Status SetBool(absl::string_view text, bool* value) {
  if (absl::SimpleAtob(text, value)) return absl::OkStatus();
  return Unlike("true or false", text);
}

absl::Status SetInt(absl::string_view text, int64_t min, int64_t max,
                    int64_t* value) {
  int64_t parsed = 0;
  if (!absl::SimpleAtoi(text, &parsed) || parsed < min || parsed > max) {
    return Unlike(absl::StrCat("a number from ", min, " to ", max), text);
  }
  *value = parsed;
  return absl::OkStatus();
}

absl::Status SetDuration(absl::string_view text, absl::Duration min,
                         absl::Duration max, absl::Duration* value) {
  absl::Duration parsed;
  if (!absl::ParseDuration(text, &parsed)) {
    return Unlike("a duration such as 10s or 250ms", text);
  }
  if (parsed < min || parsed > max) {
    return Unlike(absl::StrCat("a duration from ", absl::FormatDuration(min),
                               " to ", absl::FormatDuration(max)),
                  text);
  }
  *value = parsed;
  return absl::OkStatus();
}

std::string WithDashes(absl::string_view name) {
  return absl::StrReplaceAll(name, {{"_", "-"}});
}

}  // namespace

absl::StatusOr<int64_t> ParseBytes(absl::string_view text) {
  struct Unit {
    absl::string_view name;
    double bytes;
  };
  constexpr double kKi = 1024;
  constexpr double kK = 1000;
  static constexpr Unit kUnits[] = {{"KiB", kKi},
                                    {"MiB", kKi * kKi},
                                    {"GiB", kKi * kKi * kKi},
                                    {"kB", kK},
                                    {"KB", kK},
                                    {"MB", kK * kK},
                                    {"GB", kK * kK * kK},
                                    {"TiB", kKi * kKi * kKi * kKi},
                                    {"TB", kK * kK * kK * kK},
                                    {"B", 1}};
  absl::string_view number = absl::StripAsciiWhitespace(text);
  double factor = 1;
  for (const Unit& unit : kUnits) {
    if (absl::ConsumeSuffix(&number, unit.name)) {
      factor = unit.bytes;
      break;
    }
  }
  number = absl::StripAsciiWhitespace(number);
  int64_t whole = 0;
  if (factor == 1 && absl::SimpleAtoi(number, &whole) && whole >= 0) {
    return whole;
  }
  double value = 0;
  constexpr double kLimit = 9.2e18;
  // NaN fails every comparison.
  if (!absl::SimpleAtod(number, &value) ||
      !(value >= 0 && value * factor < kLimit)) {
    return Unlike("a number of bytes such as 64MiB", text);
  }
  return static_cast<int64_t>(value * factor);
}

// Applies one parsed file.
class Flags::ConfigReader {
 public:
  ConfigReader(Flags& flags, absl::string_view path)
      : flags_(flags), path_(path) {}

  absl::Status Read(const toml::table& table, const std::string& prefix) {
    for (const auto& [key, node] : table) {
      const std::string name =
          absl::StrCat(prefix, prefix.empty() ? "" : "-",
                       WithDashes({key.str().data(), key.str().size()}));
      if (const toml::table* nested = node.as_table()) {
        SLUICE_RETURN_IF_ERROR(Read(*nested, name));
      } else {
        SLUICE_RETURN_IF_ERROR(Set(name, node));
      }
    }
    return absl::OkStatus();
  }

 private:
  absl::Status Set(const std::string& name, const toml::node& node) {
    const std::string where =
        absl::StrCat(path_, ":", node.source().begin.line, ": ", name);
    Flag* flag = flags_.Find(name);
    if (flag == nullptr) {
      return absl::InvalidArgumentError(
          absl::StrCat(where, ": unknown key", flags_.Suggestion(name)));
    }
    std::vector<std::string> texts;
    if (const toml::array* array = node.as_array(); array && flag->is_list) {
      for (const toml::node& element : *array) {
        texts.push_back(TextOf(element));
      }
    } else {
      texts.push_back(TextOf(node));
    }
    return Annotate(flag->set(texts), where);
  }

  // A value as it would be written on the command line.
  static std::string TextOf(const toml::node& node) {
    if (const auto* text = node.as_string()) return text->get();
    std::ostringstream out;
    node.visit([&out](const auto& value) { out << value; });
    return out.str();
  }

  Flags& flags_;
  const absl::string_view path_;
};

Flags::Flags(absl::string_view program, absl::string_view description)
    : program_(program), description_(description) {}

Flags::Flag& Flags::AddFlag(absl::string_view name, absl::string_view type,
                            absl::string_view help) {
  Flag& flag = flags_.emplace_back();
  flag.name = std::string(name);
  flag.type = std::string(type);
  flag.help = std::string(help);
  return flag;
}

void Flags::AddOne(absl::string_view name, absl::string_view type,
                   absl::string_view default_text, absl::string_view help,
                   std::function<absl::Status(absl::string_view)> set) {
  Flag& flag = AddFlag(name, type, help);
  flag.default_text = std::string(default_text);
  flag.set = [set = std::move(set)](const std::vector<std::string>& texts) {
    return set(texts.back());
  };
}

void Flags::Add(absl::string_view name, std::string* value,
                absl::string_view help) {
  AddOne(name, "TEXT", *value, help, [value](absl::string_view text) {
    *value = std::string(text);
    return absl::OkStatus();
  });
}

void Flags::Add(absl::string_view name, bool* value, absl::string_view help) {
  AddOne(name, "", "", help,
         [value](absl::string_view text) { return SetBool(text, value); });
  flags_.back().is_switch = true;
}

void Flags::Add(absl::string_view name, int64_t* value, absl::string_view help,
                int64_t min, int64_t max) {
  AddOne(name, "NUMBER", absl::StrCat(*value), help,
         [=](absl::string_view text) { return SetInt(text, min, max, value); });
}

void Flags::Add(absl::string_view name, absl::Duration* value,
                absl::string_view help, absl::Duration min,
                absl::Duration max) {
  AddOne(name, "DURATION", absl::FormatDuration(*value), help,
         [=](absl::string_view text) {
           return SetDuration(text, min, max, value);
         });
}

void Flags::Add(absl::string_view name, std::vector<std::string>* value,
                absl::string_view help) {
  Flag& flag = AddFlag(name, "TEXT", help);
  flag.default_text = absl::StrJoin(*value, " ");
  flag.is_list = true;
  flag.set = [value](const std::vector<std::string>& texts) {
    *value = texts;
    return absl::OkStatus();
  };
}

void Flags::AddBytes(absl::string_view name, int64_t* value,
                     absl::string_view help) {
  AddOne(name, "BYTES", absl::StrCat(*value), help,
         [value](absl::string_view text) -> absl::Status {
           SLUICE_ASSIGN_OR_RETURN(*value, ParseBytes(text));
           return absl::OkStatus();
         });
}

void Flags::AddParsed(absl::string_view name, absl::string_view default_text,
                      std::function<absl::Status(absl::string_view)> set,
                      absl::string_view help) {
  AddOne(name, "TEXT", default_text, help, std::move(set));
}

Flags::Flag* Flags::Find(absl::string_view name) {
  for (Flag& flag : flags_) {
    if (flag.name == name) return &flag;
  }
  return nullptr;
}

std::string Flags::Suggestion(absl::string_view name) const {
  const Flag* nearest = nullptr;
  size_t best = 0;
  for (const Flag& flag : flags_) {
    const size_t distance = EditDistance(name, flag.name);
    if (nearest == nullptr || distance < best) {
      nearest = &flag;
      best = distance;
    }
  }
  // Farther than half of the name is no typing error.
  if (nearest == nullptr || 2 * best > std::max<size_t>(name.size(), 2)) {
    return "";
  }
  return absl::StrCat(" (did you mean \"", nearest->name, "\"?)");
}

absl::Status Flags::ReadConfig(const std::string& path) {
  const toml::parse_result parsed = toml::parse_file(path);
  if (parsed) return ConfigReader(*this, path).Read(parsed.table(), "");
  const toml::parse_error& error = parsed.error();
  const std::string message(error.description());
  if (error.source().begin.line == 0) {
    return absl::NotFoundError(
        absl::StrCat("config file ", path, ": ", message));
  }
  return absl::InvalidArgumentError(
      absl::StrCat(path, ":", error.source().begin.line, ": ", message));
}

absl::StatusOr<Flags::Action> Flags::Parse(int argc, const char* const* argv) {
  CLI::App app(description_, program_);
  app.allow_extras();
  app.add_option("--config", config_,
                 "TOML file with the options below, without their dashes")
      ->type_name("FILE");
  for (Flag& flag : flags_) {
    const std::string name = "--" + flag.name;
    CLI::Option* option = flag.is_switch
                              ? app.add_flag(name, flag.given, flag.help)
                              : app.add_option(name, flag.given, flag.help);
    if (flag.is_switch) continue;
    // One value each time; a later one wins or is added.
    option->type_name(flag.type)->default_str(flag.default_text);
    option->expected(1)->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    std::cout << app.help() << std::flush;
    return Action::kExit;
  } catch (const CLI::ParseError& error) {
    return absl::InvalidArgumentError(error.what());
  }
  if (const std::vector<std::string> rest = app.remaining(); !rest.empty()) {
    const absl::string_view name = rest.front();
    const size_t dashes = std::min(name.find_first_not_of('-'), name.size());
    return absl::InvalidArgumentError(absl::StrCat(
        "unknown ", dashes == 0 ? "argument" : "flag", " \"", name, "\"",
        Suggestion(WithDashes(name.substr(dashes, name.find('=') - dashes)))));
  }
  if (!config_.empty()) SLUICE_RETURN_IF_ERROR(ReadConfig(config_));
  for (Flag& flag : flags_) {
    if (flag.given.empty()) continue;
    SLUICE_RETURN_IF_ERROR(
        Annotate(flag.set(flag.given), absl::StrCat("--", flag.name)));
  }
  return Action::kRun;
}

}  // namespace sluice
