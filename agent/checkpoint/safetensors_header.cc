#include "agent/checkpoint/safetensors_header.h"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <tuple>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/status_macros.h"

namespace sluice::agent {
namespace {

using nlohmann::json;

constexpr char kMetadata[] = "__metadata__";

// A name from a file, short enough for a message.
std::string Quoted(absl::string_view name) {
  return name.size() <= 200 ? absl::StrCat("\"", name, "\"")
                            : absl::StrCat("\"", name.substr(0, 200), "...\"");
}

// Takes exactly the form of a header, without building a document:
//   {"name": {"dtype": "BF16", "shape": [..], "data_offsets": [lo, hi]}, ...,
//    "__metadata__": {"key": "value", ...}}
class HeaderHandler : public nlohmann::json_sax<json> {
 public:
  explicit HeaderHandler(const SafetensorsLimits& limits) : limits_(limits) {}

  absl::Status status() const { return status_; }
  SafetensorsHeader TakeHeader() { return std::move(header_); }

  bool null() override { return Unexpected("null"); }
  bool boolean(bool) override { return Unexpected("a boolean"); }
  bool number_float(number_float_t, const string_t&) override {
    return Unexpected("a number that is no integer");
  }
  bool number_integer(number_integer_t value) override {
    return Fail(absl::StrCat("found the negative number ", value));
  }
  bool number_unsigned(number_unsigned_t value) override {
    if (state_ != State::kShape && state_ != State::kOffsets) {
      return Unexpected("a number");
    }
    if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
      return Fail(absl::StrCat("number ", value, " is out of range"));
    }
    std::vector<int64_t>& list =
        state_ == State::kShape ? entry_.shape : offsets_;
    if (static_cast<int64_t>(list.size()) >= limits_.max_dims) {
      return Fail(
          absl::StrCat("more than ", limits_.max_dims, " numbers in a list"));
    }
    list.push_back(static_cast<int64_t>(value));
    return true;
  }
  bool binary(binary_t&) override { return Unexpected("binary data"); }

  bool string(string_t& value) override {
    if (state_ == State::kMetadata) {
      header_.metadata[key_] = std::move(value);
      return true;
    }
    if (state_ != State::kEntry || key_ != "dtype") {
      return Unexpected("a string");
    }
    const absl::StatusOr<DType> dtype = ParseDType(value);
    if (!dtype.ok() || DTypeName(*dtype) != value) {
      return Fail(absl::StrCat("dtype ", Quoted(value), " is unknown"));
    }
    entry_.dtype = *dtype;
    return true;
  }

  bool start_object(size_t) override {
    switch (state_) {
      case State::kStart:
        state_ = State::kTop;
        return true;
      case State::kTop:
        if (key_ == kMetadata) {
          state_ = State::kMetadata;
          return true;
        }
        state_ = State::kEntry;
        entry_ = SafetensorsEntry();
        entry_.name = std::move(key_);
        offsets_.clear();
        fields_.clear();
        return true;
      default:
        return Unexpected("an object");
    }
  }

  bool end_object() override {
    if (state_ == State::kTop) {
      state_ = State::kEnd;
      return true;
    }
    const bool was_entry = state_ == State::kEntry;
    state_ = State::kTop;
    return !was_entry || FinishEntry();
  }

  bool start_array(size_t) override {
    if (state_ == State::kEntry && key_ == "shape") {
      state_ = State::kShape;
    } else if (state_ == State::kEntry && key_ == "data_offsets") {
      state_ = State::kOffsets;
    } else {
      return Unexpected("a list");
    }
    return true;
  }
  bool end_array() override {
    state_ = State::kEntry;
    return true;
  }

  bool key(string_t& key) override {
    key_ = std::move(key);
    switch (state_) {
      case State::kTop:
        return CheckName();
      case State::kMetadata:
        if (!header_.metadata.contains(key_)) return true;
        return Fail(
            absl::StrCat("metadata key ", Quoted(key_), " is given twice"));
      default:
        if (key_ != "dtype" && key_ != "shape" && key_ != "data_offsets") {
          return Fail(absl::StrCat("unknown key ", Quoted(key_)));
        }
        if (fields_.insert(key_).second) return true;
        return Fail(absl::StrCat("key ", Quoted(key_), " is given twice"));
    }
  }

  bool parse_error(size_t position, const std::string&,
                   const nlohmann::detail::exception&) override {
    if (status_.ok()) {
      status_ = absl::InvalidArgumentError(
          absl::StrCat("header is not JSON at byte ", position));
    }
    return false;
  }

 private:
  enum class State { kStart, kTop, kEntry, kShape, kOffsets, kMetadata, kEnd };

  bool Fail(absl::string_view why) {
    const bool inside = state_ != State::kStart && state_ != State::kTop &&
                        state_ != State::kMetadata;
    status_ = absl::InvalidArgumentError(
        inside ? absl::StrCat("tensor ", Quoted(entry_.name), ": ", why)
               : absl::StrCat("header: ", why));
    return false;
  }
  bool Unexpected(absl::string_view what) {
    return Fail(absl::StrCat("did not expect ", what,
                             key_.empty() ? "" : " at ",
                             key_.empty() ? "" : Quoted(key_)));
  }

  bool CheckName() {
    if (key_.empty() ||
        static_cast<int64_t>(key_.size()) > limits_.max_name_bytes) {
      return Fail(absl::StrCat("tensor name ", Quoted(key_), " has ",
                               key_.size(), " bytes: expected 1 to ",
                               limits_.max_name_bytes));
    }
    if (!names_.insert(key_).second) {
      return Fail(absl::StrCat("tensor ", Quoted(key_), " is given twice"));
    }
    if (static_cast<int64_t>(names_.size()) > limits_.max_entries) {
      return Fail(absl::StrCat("more than ", limits_.max_entries, " tensors"));
    }
    return true;
  }

  bool FinishEntry() {
    const auto fail = [this](absl::string_view why) {
      status_ = absl::InvalidArgumentError(
          absl::StrCat("tensor ", Quoted(entry_.name), ": ", why));
      return false;
    };
    if (fields_.size() != 3) {
      return fail("expected the keys dtype, shape and data_offsets");
    }
    if (offsets_.size() != 2 || offsets_[0] > offsets_[1]) {
      return fail(absl::StrCat("data_offsets [", absl::StrJoin(offsets_, ","),
                               "]: expected [lo, hi] with lo <= hi"));
    }
    entry_.offset = offsets_[0];
    entry_.num_bytes = offsets_[1] - offsets_[0];
    const std::optional<int64_t> elements = NumElements(entry_.shape);
    int64_t bytes = 0;
    if (!elements.has_value() ||
        __builtin_mul_overflow(*elements, ByteSize(entry_.dtype), &bytes)) {
      return fail(absl::StrCat("shape [", absl::StrJoin(entry_.shape, ","),
                               "] overflows"));
    }
    if (bytes != entry_.num_bytes) {
      return fail(absl::StrCat("shape [", absl::StrJoin(entry_.shape, ","),
                               "] of ", DTypeName(entry_.dtype), " needs ",
                               bytes, " bytes, but data_offsets give ",
                               entry_.num_bytes));
    }
    header_.entries.push_back(std::move(entry_));
    return true;
  }

  const SafetensorsLimits& limits_;
  State state_ = State::kStart;
  std::string key_;
  SafetensorsEntry entry_;
  std::vector<int64_t> offsets_;
  absl::flat_hash_set<std::string> fields_;
  absl::flat_hash_set<std::string> names_;
  SafetensorsHeader header_;
  absl::Status status_;
};

absl::Status CheckRanges(const std::vector<SafetensorsEntry>& entries,
                         int64_t data_bytes) {
  const SafetensorsEntry* last = nullptr;
  for (const SafetensorsEntry& entry : entries) {
    if (entry.offset > data_bytes ||
        entry.num_bytes > data_bytes - entry.offset) {
      return absl::InvalidArgumentError(absl::StrCat(
          "tensor ", Quoted(entry.name), " lies in bytes [", entry.offset, ",",
          entry.offset + entry.num_bytes, ") of the data, which has ",
          data_bytes, ": the file is truncated or its header wrong"));
    }
    if (entry.num_bytes == 0) continue;
    if (last != nullptr && last->offset + last->num_bytes > entry.offset) {
      return absl::InvalidArgumentError(absl::StrCat(
          "tensors ", Quoted(last->name), " and ", Quoted(entry.name),
          " overlap at byte ", entry.offset, " of the data"));
    }
    last = &entry;
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<SafetensorsHeader> ParseSafetensorsHeader(
    absl::string_view text, int64_t data_bytes,
    const SafetensorsLimits& limits) {
  if (static_cast<int64_t>(text.size()) > limits.max_header_bytes) {
    return absl::InvalidArgumentError(absl::StrCat("header has ", text.size(),
                                                   " bytes: expected at most ",
                                                   limits.max_header_bytes));
  }
  HeaderHandler handler(limits);
  if (!json::sax_parse(text.begin(), text.end(), &handler)) {
    if (!handler.status().ok()) return handler.status();
    return absl::InvalidArgumentError("header is not JSON");
  }
  SafetensorsHeader header = handler.TakeHeader();
  std::sort(header.entries.begin(), header.entries.end(),
            [](const SafetensorsEntry& a, const SafetensorsEntry& b) {
              return std::tie(a.offset, a.num_bytes, a.name) <
                     std::tie(b.offset, b.num_bytes, b.name);
            });
  SLUICE_RETURN_IF_ERROR(CheckRanges(header.entries, data_bytes));
  return header;
}

std::string PrintSafetensorsHeader(
    const std::vector<TensorSpec>& tensors,
    const std::map<std::string, std::string>& metadata) {
  nlohmann::ordered_json out = nlohmann::ordered_json::object();
  if (!metadata.empty()) out[kMetadata] = metadata;
  int64_t offset = 0;
  for (const TensorSpec& tensor : tensors) {
    const int64_t end = offset + tensor.num_bytes();
    out[tensor.name] = {{"dtype", std::string(DTypeName(tensor.dtype))},
                        {"shape", tensor.shape},
                        {"data_offsets", {offset, end}}};
    offset = end;
  }
  std::string text = out.dump(-1, ' ', false, json::error_handler_t::replace);
  while ((text.size() + kSafetensorsLengthBytes) % 64 != 0) text += ' ';
  return text;
}

}  // namespace sluice::agent
