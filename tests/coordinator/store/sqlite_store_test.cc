#include "coordinator/store/sqlite_store.h"

#include <signal.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstdio>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "tests/support/status_matchers.h"
#include "tests/support/test_dir.h"

namespace sluice::coordinator {
namespace {

using testing::StatusIs;
using Code = absl::StatusCode;

std::string Shown(const std::vector<StoredRecord>& records) {
  std::string out;
  for (const StoredRecord& record : records) {
    absl::StrAppend(&out, record.kind, ":", record.key, "=", record.value, " ");
  }
  return out;
}

std::string Content(SqliteStore& store) {
  const auto records = store.ReadAll();
  REQUIRE_OK(records);
  return Shown(*records);
}

// Replaces the only occurrence of `from` in a file; same length.
void Damage(const std::string& path, const std::string& from,
            const std::string& to) {
  std::string bytes = testing::ReadFile(path);
  const size_t at = bytes.find(from);
  REQUIRE(at != std::string::npos);
  bytes.replace(at, from.size(), to);
  std::ofstream(path, std::ios::binary) << bytes;
}

TEST_CASE("what was written is there after closing and opening", "[store]") {
  const testing::TestDir dir;
  {
    REQUIRE_OK_AND_ASSIGN(auto store, SqliteStore::Open(dir.File("state")));
    REQUIRE_OK(store->Write({{"agent", "b", "1"}, {"agent", "a", "2"}}));
    REQUIRE_OK(store->Write({{"agent", "b", "3"}, {"model", "m", ""}}));
    REQUIRE_OK(store->Write({{"agent", "a", "", /*erase=*/true}}));
    CHECK(Content(*store) == "agent:b=3 model:m= ");
  }
  REQUIRE_OK_AND_ASSIGN(auto store, SqliteStore::Open(dir.File("state")));
  CHECK(Content(*store) == "agent:b=3 model:m= ");
}

TEST_CASE("values are bytes", "[store]") {
  const testing::TestDir dir;
  REQUIRE_OK_AND_ASSIGN(auto store, SqliteStore::Open(dir.path()));
  const std::string value("\0'\xFF\n\0", 5);
  REQUIRE_OK(store->Write({{"kind", "key\twith 'quotes'", value}}));
  REQUIRE_OK_AND_ASSIGN(const auto records, store->ReadAll());
  REQUIRE(records.size() == 1);
  CHECK(records[0].value == value);
  CHECK(records[0].key == "key\twith 'quotes'");
}

TEST_CASE("nobody else may read the state", "[store]") {
  const testing::TestDir dir;
  REQUIRE_OK_AND_ASSIGN(auto store, SqliteStore::Open(dir.path()));
  struct stat info {};
  REQUIRE(::stat(dir.File("state.db").c_str(), &info) == 0);
  CHECK((info.st_mode & 077) == 0);
}

// Writes numbered batches of two records until it is killed, and says each
// number once its batch is durable.
[[noreturn]] void WriteUntilKilled(const std::string& path, int fd) {
  auto store = SqliteStore::Open(path);
  for (int i = 1; store.ok(); ++i) {
    const std::string number = absl::StrCat(i);
    if (!(*store)->Write({{"a", "last", number}, {"b", "last", number}}).ok() ||
        ::write(fd, &i, sizeof(i)) != sizeof(i)) {
      break;
    }
  }
  ::_exit(1);
}

TEST_CASE("a kill loses nothing that was written and halves no batch",
          "[store]") {
  const testing::TestDir dir;
  int previous = 0;
  // Each life is killed after so many batches were reported.
  for (const int batches : {1, 2, 7, 40, 150}) {
    CAPTURE(batches);
    int fds[2];
    REQUIRE(::pipe(fds) == 0);
    const pid_t child = ::fork();
    if (child == 0) WriteUntilKilled(dir.path(), fds[1]);
    ::close(fds[1]);
    int reported = 0;
    for (int i = 0; i < batches; ++i) {
      REQUIRE(::read(fds[0], &reported, sizeof(reported)) == sizeof(reported));
    }
    ::kill(child, SIGKILL);
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    REQUIRE(WIFSIGNALED(status));
    for (int next = 0; ::read(fds[0], &next, sizeof(next)) == sizeof(next);) {
      reported = next;
    }
    ::close(fds[0]);

    REQUIRE_OK_AND_ASSIGN(auto store, SqliteStore::Open(dir.path()));
    REQUIRE_OK_AND_ASSIGN(const auto records, store->ReadAll());
    REQUIRE(records.size() == 2);
    CHECK(records[0].value == records[1].value);
    int stored = 0;
    REQUIRE(absl::SimpleAtoi(records[0].value, &stored));
    // The batch being written when the kill came may be there or not.
    CHECK(stored >= reported);
    CHECK(stored <= reported + 1);
    previous = stored;
  }
  CHECK(previous >= 150);
}

TEST_CASE("a second opener is refused and told the first one's pid",
          "[store]") {
  const testing::TestDir dir;
  REQUIRE_OK_AND_ASSIGN(auto store, SqliteStore::Open(dir.path()));
  const auto second = SqliteStore::Open(dir.path());
  CHECK_THAT(second, StatusIs(Code::kAlreadyExists, absl::StrCat(::getpid())));
  CHECK_THAT(second, StatusIs(Code::kAlreadyExists, dir.path()));
  store.reset();
  CHECK_OK(SqliteStore::Open(dir.path()));
}

TEST_CASE("a directory that cannot be used is named", "[store]") {
  const testing::TestDir dir;
  const std::string file = dir.Write("file", "no directory");
  CHECK_THAT(SqliteStore::Open(file),
             StatusIs(Code::kFailedPrecondition, file));
  CHECK_THAT(SqliteStore::Open("/proc/sluice"),
             StatusIs(Code::kFailedPrecondition, "/proc/sluice"));
}

TEST_CASE("a damaged value is refused and named", "[store]") {
  const testing::TestDir dir;
  {
    REQUIRE_OK_AND_ASSIGN(auto store, SqliteStore::Open(dir.path()));
    REQUIRE_OK(store->Write({{"agent", "a", "undamaged-value"}}));
  }
  // One letter of a value: SQLite's own check does not see it.
  Damage(dir.File("state.db"), "undamaged-value", "undamaged-valuf");
  REQUIRE_OK_AND_ASSIGN(auto store, SqliteStore::Open(dir.path()));
  CHECK_THAT(store->ReadAll(), StatusIs(Code::kDataLoss, "agent \"a\""));
}

TEST_CASE("a file with a broken structure is refused", "[store]") {
  const testing::TestDir dir;
  {
    REQUIRE_OK_AND_ASSIGN(auto store, SqliteStore::Open(dir.path()));
    std::vector<StoreWrite> many;
    for (int i = 0; i < 2000; ++i) {
      many.push_back({"agent", absl::StrCat("agent-", i), "value"});
    }
    REQUIRE_OK(store->Write(many));
  }
  const std::string path = dir.File("state.db");
  std::string bytes = testing::ReadFile(path);
  REQUIRE(bytes.size() > 8192);
  SECTION("a page of zeros") {
    std::fill(bytes.begin() + 8192, bytes.begin() + 12288, '\0');
  }
  SECTION("cut off") { bytes.resize(bytes.size() / 2); }
  SECTION("not a database") { bytes = std::string(8192, 'x'); }
  std::ofstream(path, std::ios::binary) << bytes;
  CHECK_THAT(SqliteStore::Open(dir.path()), StatusIs(Code::kDataLoss, path));
}

TEST_CASE("a foreign or later database is refused and left alone", "[store]") {
  const testing::TestDir dir;
  const std::string path = dir.File("state.db");
  sqlite3* db = nullptr;
  REQUIRE(sqlite3_open(path.c_str(), &db) == SQLITE_OK);
  const std::string sql =
      GENERATE("CREATE TABLE mine(x)",
               "CREATE TABLE mine(x); PRAGMA application_id = 1397511497; "
               "PRAGMA user_version = 99");
  REQUIRE(sqlite3_exec(db, sql.c_str(), nullptr, nullptr, nullptr) ==
          SQLITE_OK);
  sqlite3_close(db);
  const std::string before = testing::ReadFile(path);
  CHECK_THAT(SqliteStore::Open(dir.path()),
             StatusIs(Code::kFailedPrecondition, path));
  CHECK(testing::ReadFile(path) == before);
}

}  // namespace
}  // namespace sluice::coordinator
