// Safetensors headers from hostile hands, and files that were cut or changed.

#include "agent/checkpoint/safetensors.h"

#include <unistd.h>

#include <cstring>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "agent/checkpoint/safetensors_header.h"
#include "agent/checkpoint/safetensors_writer.h"
#include "tests/support/status_matchers.h"
#include "tests/support/test_dir.h"

namespace sluice::agent {
namespace {

using ::sluice::testing::StatusIs;
using ::sluice::testing::TestDir;
constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

// A file of this header and so many data bytes: 0, 1, 2, ...
std::string FileOf(const std::string& header, size_t data_bytes) {
  const uint64_t length = header.size();
  std::string out(8, '\0');
  std::memcpy(out.data(), &length, 8);
  out += header;
  for (size_t i = 0; i < data_bytes; ++i) out += static_cast<char>(i);
  return out;
}

std::string Entry(const std::string& name, const std::string& dtype,
                  const std::string& shape, const std::string& offsets) {
  return "\"" + name + "\":{\"dtype\":\"" + dtype + "\",\"shape\":" + shape +
         ",\"data_offsets\":" + offsets + "}";
}

TEST_CASE("a header gives names, types, shapes and places", "[safetensors]") {
  REQUIRE_OK_AND_ASSIGN(
      const SafetensorsHeader header,
      ParseSafetensorsHeader("{\"__metadata__\":{\"format\":\"pt\"}," +
                                 Entry("b", "BF16", "[2,3]", "[8,20]") + "," +
                                 Entry("a", "F32", "[]", "[0,4]") + "," +
                                 Entry("none", "I8", "[0,7]", "[4,4]") + "}   ",
                             /*data_bytes=*/24));
  CHECK(header.metadata ==
        std::map<std::string, std::string>{{"format", "pt"}});
  const std::vector<SafetensorsEntry> expected = {
      {"a", DType::kF32, {}, 0, 4},
      {"none", DType::kI8, {0, 7}, 4, 0},
      {"b", DType::kBF16, {2, 3}, 8, 12},
  };
  CHECK(header.entries == expected);
}

TEST_CASE("a header that lies is refused", "[safetensors]") {
  struct Case {
    const char* what;
    std::string header;
    const char* named;
  };
  const std::string good = Entry("t", "F32", "[2]", "[0,8]");
  const auto one = [](const std::string& dtype, const std::string& shape,
                      const std::string& offsets) {
    return "{" + Entry("t", dtype, shape, offsets) + "}";
  };
  const std::vector<Case> cases = {
      {"overlap", "{" + good + "," + Entry("u", "U8", "[8]", "[7,15]") + "}",
       "overlap"},
      {"same place twice",
       "{" + good + "," + Entry("u", "F32", "[2]", "[0,8]") + "}", "overlap"},
      {"inside another",
       "{" + Entry("t", "U8", "[16]", "[0,16]") + "," +
           Entry("u", "U8", "[1]", "[4,5]") + "}",
       "overlap"},
      {"beyond the data", one("F32", "[5]", "[0,20]"), "\"t\""},
      {"begins beyond", one("U8", "[1]", "[99,100]"), "\"t\""},
      {"ends at 2^63-1",
       one("U8", "[1]", "[9223372036854775806,9223372036854775807]"), "\"t\""},
      {"an offset of 2^64-1",
       one("U8", "[1]", "[18446744073709551614,18446744073709551615]"),
       "\"t\""},
      {"an offset beyond 64 bits", one("U8", "[1]", "[0,99999999999999999999]"),
       "\"t\""},
      {"reversed", one("F32", "[2]", "[8,0]"), "lo <= hi"},
      {"shape overflows", one("F64", "[4294967296,4294967296]", "[0,0]"),
       "overflows"},
      {"shape times size overflows",
       one("F64", "[2305843009213693952]", "[0,0]"), "overflows"},
      {"size unlike shape", one("F32", "[3]", "[0,8]"), "12"},
      {"negative dimension", one("F32", "[-2,-1]", "[0,8]"), "negative"},
      {"negative offset", one("F32", "[2]", "[-8,0]"), "negative"},
      {"fraction", one("F32", "[2.0]", "[0,8]"), "integer"},
      {"three offsets", one("F32", "[2]", "[0,8,8]"), "data_offsets"},
      {"unknown dtype", one("F31", "[2]", "[0,8]"), "F31"},
      {"torch's dtype name", one("float32", "[2]", "[0,8]"), "float32"},
      {"tensor twice", "{" + good + "," + good + "}", "twice"},
      {"key twice",
       "{\"t\":{\"dtype\":\"U8\",\"dtype\":\"U8\",\"shape\":[1],"
       "\"data_offsets\":[0,1]}}",
       "\"dtype\""},
      {"key missing", "{\"t\":{\"dtype\":\"U8\",\"shape\":[1]}}", "\"t\""},
      {"unknown key",
       "{\"t\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1],"
       "\"device\":\"x\"}}",
       "device"},
      {"no name", "{" + Entry("", "U8", "[1]", "[0,1]") + "}", "name"},
      {"tensor is a number", "{\"t\":3}", "number"},
      {"tensor is null", "{\"t\":null}", "null"},
      {"shape is text", one("U8", "\"1\"", "[0,1]"), "string"},
      {"nested shape", one("U8", "[[1]]", "[0,1]"), "list"},
      {"metadata is no text", "{\"__metadata__\":{\"a\":1}}", "number"},
      {"metadata twice", "{\"__metadata__\":{\"a\":\"1\",\"a\":\"2\"}}",
       "\"a\""},
      {"a list", "[]", "list"},
      {"not JSON", "{\"t\":", "JSON"},
      {"rubbish behind", "{}x", "JSON"},
      {"empty", "", "JSON"},
      {"binary", std::string("\x00\xff\xfe", 3), "JSON"},
      {"bad UTF-8", "{\"\xff\":3}", "JSON"},
      {"deep", std::string(100000, '['), "list"},
  };
  for (const Case& c : cases) {
    CAPTURE(c.what);
    CHECK_THAT(ParseSafetensorsHeader(c.header, /*data_bytes=*/16),
               StatusIs(kInvalid, c.named));
  }
}

TEST_CASE("limits of a header hold", "[safetensors]") {
  SafetensorsLimits limits;
  limits.max_entries = 2;
  const auto entries = [](int n) {
    std::string out = "{";
    for (int i = 0; i < n; ++i) {
      out += (i > 0 ? "," : "") +
             Entry("t" + std::to_string(i), "U8", "[0]", "[0,0]");
    }
    return out + "}";
  };
  CHECK_OK(ParseSafetensorsHeader(entries(2), 0, limits));
  CHECK_THAT(ParseSafetensorsHeader(entries(3), 0, limits),
             StatusIs(kInvalid, "2 tensors"));
  const std::string long_name =
      "{" + Entry(std::string(2000, 'n'), "U8", "[0]", "[0,0]") + "}";
  CHECK_THAT(ParseSafetensorsHeader(long_name, 0), StatusIs(kInvalid, "2000"));
  std::string dims = "[0";
  for (int i = 0; i < 40; ++i) dims += ",1";
  CHECK_THAT(ParseSafetensorsHeader(
                 "{" + Entry("t", "U8", dims + "]", "[0,0]") + "}", 0),
             StatusIs(kInvalid, "\"t\""));
  limits.max_header_bytes = 1;
  CHECK_THAT(ParseSafetensorsHeader("{}", 0, limits), StatusIs(kInvalid));
}

TEST_CASE("random damage to a header never gets through unchecked",
          "[safetensors]") {
  const std::string header = "{" + Entry("a", "BF16", "[2,3]", "[0,12]") + "," +
                             Entry("b", "F32", "[1]", "[12,16]") + "}";
  std::mt19937_64 rng(Catch::rngSeed() + 5);
  int passed = 0;
  for (int i = 0; i < 20000; ++i) {
    std::string damaged = header;
    for (int k = 0; k < 1 + i % 3; ++k) {
      const size_t at = rng() % damaged.size();
      switch (rng() % 3) {
        case 0:
          damaged[at] = static_cast<char>(rng());
          break;
        case 1:
          damaged.erase(at, 1 + rng() % 4);
          break;
        default:
          damaged.insert(at, 1, "0123456789[]{},:\""[rng() % 17]);
      }
      if (damaged.empty()) break;
    }
    const auto parsed = ParseSafetensorsHeader(damaged, /*data_bytes=*/16);
    if (!parsed.ok()) continue;
    ++passed;
    int64_t end = 0;
    for (const SafetensorsEntry& entry : parsed->entries) {
      const int64_t bytes =
          Box::Whole(entry.shape).num_elements() * ByteSize(entry.dtype);
      REQUIRE(entry.num_bytes == bytes);
      if (bytes == 0) continue;
      REQUIRE(entry.offset >= end);
      end = entry.offset + bytes;
      REQUIRE(end <= 16);
    }
  }
  CHECK(passed > 0);
}

TEST_CASE("a file's bytes are found where its header says", "[safetensors]") {
  const TestDir dir;
  const std::string path = dir.Write(
      "x.safetensors", FileOf("{" + Entry("t", "U8", "[3]", "[2,5]") + "}", 6));
  REQUIRE_OK_AND_ASSIGN(const auto file, SafetensorsFile::Open(path));
  REQUIRE(file->entries().size() == 1);
  const absl::Span<const uint8_t> bytes = file->Data(file->entries()[0]);
  CHECK(std::vector<uint8_t>(bytes.begin(), bytes.end()) ==
        std::vector<uint8_t>{2, 3, 4});
  CHECK_OK(file->CheckUnchanged());
  REQUIRE(truncate(path.c_str(), 20) == 0);
  CHECK_THAT(file->CheckUnchanged(),
             StatusIs(absl::StatusCode::kFailedPrecondition, path));
}

TEST_CASE("a file that is cut anywhere is refused by name", "[safetensors]") {
  const TestDir dir;
  const std::string whole =
      FileOf("{" + Entry("t", "U8", "[10]", "[0,10]") + "}", 10);
  for (size_t size = 0; size < whole.size(); ++size) {
    CAPTURE(size);
    const std::string path =
        dir.Write("cut.safetensors", whole.substr(0, size));
    CHECK_THAT(SafetensorsFile::Open(path),
               StatusIs(kInvalid, "cut.safetensors"));
  }
  CHECK_OK(SafetensorsFile::Open(dir.Write("cut.safetensors", whole)));
}

TEST_CASE("what is no safetensors file is refused", "[safetensors]") {
  const TestDir dir;
  CHECK_THAT(SafetensorsFile::Open(dir.File("missing")),
             StatusIs(absl::StatusCode::kNotFound, "missing"));
  CHECK_THAT(SafetensorsFile::Open(dir.path()), StatusIs(kInvalid, dir.path()));
  // A header length of 2^64 - 1, and one above the limit.
  CHECK_THAT(SafetensorsFile::Open(dir.Write("a", std::string(64, '\xff'))),
             StatusIs(kInvalid, "header length"));
  CHECK_THAT(SafetensorsFile::Open(
                 dir.Write("b", std::string("\x00\x00\x00\x40\0\0\0\0{}", 10))),
             StatusIs(kInvalid, "1073741824"));
}

TEST_CASE("what is written is read back", "[safetensors]") {
  const TestDir dir;
  const std::string path = dir.File("w.safetensors");
  const std::vector<TensorSpec> tensors = {
      {"second \"quoted\"", DType::kBF16, {2, 2}},
      {"first", DType::kF32, {1}},
      {"empty", DType::kU8, {0}}};
  const std::vector<uint8_t> data = {1, 2, 3, 4, 5, 6, 7, 8};
  {
    REQUIRE_OK_AND_ASSIGN(
        const auto writer,
        SafetensorsWriter::Create(path, tensors, {{"format", "pt"}}));
    CHECK_THAT(SafetensorsWriter::Create(path, tensors),
               StatusIs(absl::StatusCode::kAlreadyExists));
    CHECK_OK(writer->Write(1, 0, absl::MakeConstSpan(data).subspan(0, 4)));
    CHECK_OK(writer->Write(0, 4, absl::MakeConstSpan(data).subspan(4, 4)));
    CHECK_THAT(writer->Write(0, 6, absl::MakeConstSpan(data).subspan(0, 4)),
               StatusIs(absl::StatusCode::kOutOfRange));
    CHECK_THAT(writer->Write(3, 0, {}),
               StatusIs(absl::StatusCode::kOutOfRange));
    CHECK_THAT(writer->Finish(),
               StatusIs(absl::StatusCode::kFailedPrecondition, "8 bytes"));
    CHECK_OK(writer->Write(0, 0, absl::MakeConstSpan(data).subspan(0, 4)));
    CHECK_OK(writer->Finish());
  }
  REQUIRE_OK_AND_ASSIGN(const auto file, SafetensorsFile::Open(path));
  REQUIRE(file->entries().size() == 3);
  CHECK(file->header().metadata.at("format") == "pt");
  for (const SafetensorsEntry& entry : file->entries()) {
    const absl::Span<const uint8_t> bytes = file->Data(entry);
    // The first tensor's bytes: 1 to 4, then 5 to 8.
    if (entry.name == "second \"quoted\"") {
      CHECK(reinterpret_cast<uintptr_t>(bytes.data()) % 64 == 0);
      CHECK(std::vector<uint8_t>(bytes.begin(), bytes.end()) == data);
    } else if (entry.name == "first") {
      CHECK(std::vector<uint8_t>(bytes.begin(), bytes.end()) ==
            std::vector<uint8_t>{1, 2, 3, 4});
    } else {
      CHECK(bytes.empty());
    }
  }
}

TEST_CASE("a file that was not finished is removed", "[safetensors]") {
  const TestDir dir;
  const std::string path = dir.File("w.safetensors");
  REQUIRE_OK(SafetensorsWriter::Create(path, {{"t", DType::kU8, {4}}}));
  CHECK(access(path.c_str(), F_OK) != 0);
  CHECK_THAT(SafetensorsWriter::Create(
                 path, {{"t", DType::kU8, {4}}, {"t", DType::kU8, {4}}}),
             StatusIs(kInvalid, "\"t\""));
}

}  // namespace
}  // namespace sluice::agent
