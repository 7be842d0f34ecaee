#include "agent/checkpoint/checkpoint.h"

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>
#include <system_error>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/json_strict.h"
#include "common/status_macros.h"

namespace sluice::agent {
namespace {

namespace fs = std::filesystem;

constexpr char kIndexName[] = "model.safetensors.index.json";
constexpr char kSingleName[] = "model.safetensors";
constexpr char kSuffix[] = ".safetensors";
constexpr int64_t kMaxJsonBytes = 256 << 20;

std::string PathIn(const std::string& directory, absl::string_view name) {
  return absl::StrCat(directory, "/", name);
}

// Reads and parses a JSON file; null if it does not exist.
absl::StatusOr<nlohmann::json> ReadJson(const std::string& path) {
  std::error_code error;
  if (!fs::exists(path, error)) return nlohmann::json();
  const auto size = fs::file_size(path, error);
  if (error) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": ", error.message()));
  }
  if (size > static_cast<uintmax_t>(kMaxJsonBytes)) {
    return absl::InvalidArgumentError(absl::StrCat(
        path, " has ", size, " bytes: expected at most ", kMaxJsonBytes));
  }
  std::ifstream in(path, std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(in)),
                         std::istreambuf_iterator<char>());
  if (!in.good() && !in.eof()) {
    return absl::UnavailableError(absl::StrCat(path, ": cannot be read"));
  }
  absl::StatusOr<nlohmann::json> value = ParseJson(text);
  if (!value.ok()) return Annotate(value.status(), path);
  if (!value->is_object()) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": expected a JSON object"));
  }
  return value;
}

// "model-00001-of-00003.safetensors" promises the names of all three.
absl::Status CheckSeries(const std::string& directory,
                         const std::vector<std::string>& names) {
  const std::set<std::string> have(names.begin(), names.end());
  for (const std::string& name : names) {
    const size_t of = name.rfind("-of-");
    const size_t end = name.size() - (sizeof(kSuffix) - 1);
    int64_t count = 0;
    if (of == std::string::npos || of < 6 || of + 4 >= end ||
        name[of - 6] != '-' ||
        !absl::SimpleAtoi(name.substr(of + 4, end - of - 4), &count) ||
        count > 99999) {
      continue;
    }
    for (int64_t i = 1; i <= count; ++i) {
      const std::string other = absl::StrCat(
          name.substr(0, of - 5), absl::StrFormat("%05d", i), name.substr(of));
      if (!have.contains(other)) {
        return absl::NotFoundError(
            absl::StrCat(PathIn(directory, other), " is missing: \"", name,
                         "\" belongs to a series of ", count));
      }
    }
  }
  return absl::OkStatus();
}

// A name in the index must be a file of this directory.
bool IsPlainFileName(absl::string_view name) {
  return !name.empty() && name != "." && name != ".." &&
         !absl::StrContains(name, '/') && !absl::StrContains(name, '\0');
}

}  // namespace

bool NaturalLess(absl::string_view a, absl::string_view b) {
  size_t i = 0;
  size_t j = 0;
  while (i < a.size() && j < b.size()) {
    if (!absl::ascii_isdigit(a[i]) || !absl::ascii_isdigit(b[j])) {
      if (a[i] != b[j]) return a[i] < b[j];
      ++i;
      ++j;
      continue;
    }
    const auto take = [](absl::string_view s, size_t& at) {
      while (at < s.size() && s[at] == '0') ++at;
      const size_t begin = at;
      while (at < s.size() && absl::ascii_isdigit(s[at])) ++at;
      return s.substr(begin, at - begin);
    };
    const absl::string_view x = take(a, i);
    const absl::string_view y = take(b, j);
    if (x.size() != y.size()) return x.size() < y.size();
    if (x != y) return x < y;
  }
  if (a.size() - i != b.size() - j) return a.size() - i < b.size() - j;
  return a < b;  // "01" and "1": some order, but always the same
}

absl::StatusOr<std::unique_ptr<Checkpoint>> Checkpoint::Open(
    const std::string& directory, const SafetensorsLimits& limits) {
  std::unique_ptr<Checkpoint> out(new Checkpoint());
  out->directory_ = directory;
  std::error_code error;
  if (!fs::is_directory(directory, error)) {
    return absl::NotFoundError(absl::StrCat(
        directory, ": ", error ? error.message() : "is no directory"));
  }
  SLUICE_RETURN_IF_ERROR(out->ReadConfig());
  SLUICE_RETURN_IF_ERROR(out->ReadIndex());
  SLUICE_RETURN_IF_ERROR(out->ListFiles());
  SLUICE_RETURN_IF_ERROR(out->OpenFiles(limits));
  SLUICE_RETURN_IF_ERROR(out->CheckIndex());
  return out;
}

absl::Status Checkpoint::ReadConfig() {
  SLUICE_ASSIGN_OR_RETURN(const nlohmann::json value,
                          ReadJson(PathIn(directory_, "config.json")));
  if (!value.is_object()) return absl::OkStatus();
  for (const auto& [key, member] : value.items()) {
    int64_t number = 0;
    if (member.is_boolean()) {
      config_[key] = member.get<bool>() ? 1 : 0;
    } else if (GetInt64(member, number)) {
      config_[key] = number;
    }
  }
  return absl::OkStatus();
}

absl::Status Checkpoint::ReadIndex() {
  const std::string path = PathIn(directory_, kIndexName);
  SLUICE_ASSIGN_OR_RETURN(const nlohmann::json value, ReadJson(path));
  if (value.is_null()) return absl::OkStatus();
  const auto map = value.find("weight_map");
  if (map == value.end() || !map->is_object() || map->empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        path, ": expected an object \"weight_map\" with at least one tensor"));
  }
  for (const auto& [tensor, file] : map->items()) {
    if (!file.is_string() || !IsPlainFileName(file.get<std::string>())) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, ": tensor \"", tensor,
                       "\": expected the name of a file in the directory"));
    }
    index_[tensor] = file.get<std::string>();
  }
  return absl::OkStatus();
}

absl::Status Checkpoint::ListFiles() {
  std::set<std::string> names;
  std::error_code error;
  if (!index_.empty()) {
    for (const auto& [tensor, file] : index_) names.insert(file);
  } else if (fs::exists(PathIn(directory_, kSingleName), error)) {
    names.insert(kSingleName);
  } else {
    for (fs::directory_iterator it(directory_, error), end; !error && it != end;
         it.increment(error)) {
      std::string name = it->path().filename().string();
      if (absl::EndsWith(name, kSuffix)) names.insert(std::move(name));
    }
    if (error) {
      return absl::UnavailableError(
          absl::StrCat(directory_, ": ", error.message()));
    }
  }
  if (names.empty()) {
    return absl::NotFoundError(
        absl::StrCat(directory_, ": there is no *.safetensors file"));
  }
  file_names_.assign(names.begin(), names.end());
  return CheckSeries(directory_, file_names_);
}

absl::Status Checkpoint::OpenFiles(const SafetensorsLimits& limits) {
  for (const std::string& name : file_names_) {
    SLUICE_ASSIGN_OR_RETURN(
        std::unique_ptr<SafetensorsFile> file,
        SafetensorsFile::Open(PathIn(directory_, name), limits));
    for (const SafetensorsEntry& entry : file->entries()) {
      tensors_.push_back({{entry.name, entry.dtype, entry.shape},
                          files_.size(),
                          file->Data(entry)});
    }
    files_.push_back(std::move(file));
  }
  std::sort(tensors_.begin(), tensors_.end(),
            [](const Tensor& a, const Tensor& b) {
              return NaturalLess(a.spec.name, b.spec.name);
            });
  for (size_t t = 0; t < tensors_.size(); ++t) {
    const auto [it, inserted] = by_name_.try_emplace(tensors_[t].spec.name, t);
    if (inserted) continue;
    return absl::InvalidArgumentError(
        absl::StrCat(directory_, ": tensor \"", tensors_[t].spec.name,
                     "\" is in ", file_names_[tensors_[it->second].file],
                     " and in ", file_names_[tensors_[t].file]));
  }
  if (tensors_.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(directory_, ": the files hold no tensor"));
  }
  return absl::OkStatus();
}

absl::Status Checkpoint::CheckIndex() const {
  if (index_.empty()) return absl::OkStatus();
  const std::string path = PathIn(directory_, kIndexName);
  for (const auto& [tensor, file] : index_) {
    const Tensor* found = Find(tensor);
    if (found != nullptr && file_names_[found->file] == file) continue;
    return absl::InvalidArgumentError(absl::StrCat(
        path, ": tensor \"", tensor, "\" should be in ", file, ", but is ",
        found == nullptr ? "in no file"
                         : absl::StrCat("in ", file_names_[found->file])));
  }
  for (const Tensor& tensor : tensors_) {
    if (index_.contains(tensor.spec.name)) continue;
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": tensor \"", tensor.spec.name, "\" of ",
                     file_names_[tensor.file], " is not in the index"));
  }
  return absl::OkStatus();
}

const Checkpoint::Tensor* Checkpoint::Find(absl::string_view name) const {
  const auto it = by_name_.find(name);
  return it == by_name_.end() ? nullptr : &tensors_[it->second];
}

}  // namespace sluice::agent
