#include "coordinator/store/sqlite_store.h"

#include <fcntl.h>
#include <sqlite3.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <string>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/string_view.h"
#include "common/stable_hash.h"
#include "common/status_macros.h"

namespace sluice::coordinator {
namespace {

// "SLUI" in the file's header: a foreign database is refused.
constexpr int kApplicationId = 0x534C5549;
constexpr int kSchemaVersion = 1;
// Reported faults of a damaged file; more help nobody.
constexpr const char* kIntegrityCheck = "PRAGMA integrity_check(5)";

// Over the three parts with their lengths.
int64_t Checksum(absl::string_view kind, absl::string_view key,
                 absl::string_view value) {
  uint64_t hash = StableHash(absl::StrCat(kind.size(), " ", key.size(), " "));
  for (const absl::string_view part : {kind, key, value}) {
    hash = StableHash(part, hash);
  }
  return static_cast<int64_t>(hash);
}

void BindText(sqlite3_stmt* statement, int index, absl::string_view text) {
  sqlite3_bind_text64(statement, index, text.data(), text.size(), SQLITE_STATIC,
                      SQLITE_UTF8);
}

absl::string_view ColumnBytes(sqlite3_stmt* statement, int column) {
  const void* data = sqlite3_column_blob(statement, column);
  return {static_cast<const char*>(data),
          static_cast<size_t>(sqlite3_column_bytes(statement, column))};
}

}  // namespace

absl::StatusOr<std::unique_ptr<SqliteStore>> SqliteStore::Open(
    const std::string& directory) {
  SLUICE_RETURN_IF_ERROR(
      Annotate(MakeWritableDirectory(directory), "state directory"));
  absl::StatusOr<std::unique_ptr<LockFile>> lock =
      LockFile::Acquire(directory + "/lock");
  if (!lock.ok()) {
    return Annotate(lock.status(),
                    absl::StrCat("state directory ", directory,
                                 " cannot be used by this coordinator"));
  }
  std::unique_ptr<SqliteStore> store(
      new SqliteStore(directory + "/state.db", *std::move(lock)));
  SLUICE_RETURN_IF_ERROR(Annotate(store->Initialize(), store->path_));
  return store;
}

SqliteStore::SqliteStore(std::string path, std::unique_ptr<LockFile> lock)
    : path_(std::move(path)), lock_(std::move(lock)) {}

SqliteStore::~SqliteStore() {
  sqlite3_finalize(put_);
  sqlite3_finalize(erase_);
  sqlite3_close(db_);
}

absl::Status SqliteStore::Initialize() {
  // Made here: SQLite would let everybody read it.
  const int fd = ::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0) return absl::ErrnoToStatus(errno, "cannot open");
  ::close(fd);
  constexpr int kFlags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_FULLMUTEX;
  if (sqlite3_open_v2(path_.c_str(), &db_, kFlags, nullptr) != SQLITE_OK) {
    return Error("open");
  }
  SLUICE_RETURN_IF_ERROR(CheckVersion());
  SLUICE_RETURN_IF_ERROR(Execute("PRAGMA journal_mode = WAL"));
  SLUICE_RETURN_IF_ERROR(Execute("PRAGMA synchronous = FULL"));
  SLUICE_RETURN_IF_ERROR(CheckIntegrity());
  const std::string schema = absl::StrCat(
      "BEGIN IMMEDIATE;"
      "CREATE TABLE IF NOT EXISTS records("
      "kind TEXT NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL,"
      "checksum INTEGER NOT NULL, PRIMARY KEY(kind, key)) WITHOUT ROWID;"
      "PRAGMA application_id = ",
      kApplicationId, ";PRAGMA user_version = ", kSchemaVersion, ";COMMIT");
  SLUICE_RETURN_IF_ERROR(Execute(schema.c_str()));
  SLUICE_ASSIGN_OR_RETURN(
      put_, Prepare("INSERT OR REPLACE INTO records VALUES(?1, ?2, ?3, ?4)"));
  SLUICE_ASSIGN_OR_RETURN(
      erase_, Prepare("DELETE FROM records WHERE kind = ?1 AND key = ?2"));
  return absl::OkStatus();
}

absl::Status SqliteStore::CheckVersion() {
  SLUICE_ASSIGN_OR_RETURN(
      sqlite3_stmt* const statement,
      Prepare("SELECT application_id, user_version, (SELECT count(*) FROM "
              "sqlite_master) FROM pragma_application_id, "
              "pragma_user_version"));
  const absl::Cleanup finalize = [statement] { sqlite3_finalize(statement); };
  if (sqlite3_step(statement) != SQLITE_ROW) return Error("header");
  const int application = sqlite3_column_int(statement, 0);
  const int version = sqlite3_column_int(statement, 1);
  const bool empty = sqlite3_column_int(statement, 2) == 0;
  if (empty && application == 0) return absl::OkStatus();
  if (application == kApplicationId && version == kSchemaVersion) {
    return absl::OkStatus();
  }
  return absl::FailedPreconditionError(absl::StrCat(
      "expected a state file of version ", kSchemaVersion,
      ", found application id ", application, " and version ", version));
}

absl::Status SqliteStore::CheckIntegrity() {
  SLUICE_ASSIGN_OR_RETURN(sqlite3_stmt* const statement,
                          Prepare(kIntegrityCheck));
  const absl::Cleanup finalize = [statement] { sqlite3_finalize(statement); };
  int rc = sqlite3_step(statement);
  if (rc != SQLITE_ROW) return Error("integrity check");
  const std::string first(ColumnBytes(statement, 0));
  if (first == "ok") return absl::OkStatus();
  return absl::DataLossError(absl::StrCat(
      "the file is damaged: ", absl::StrReplaceAll(first, {{"\n", " "}})));
}

absl::Status SqliteStore::Execute(const char* sql) {
  if (sqlite3_exec(db_, sql, nullptr, nullptr, nullptr) != SQLITE_OK) {
    return Error(sql);
  }
  return absl::OkStatus();
}

absl::StatusOr<sqlite3_stmt*> SqliteStore::Prepare(const char* sql) {
  sqlite3_stmt* statement = nullptr;
  if (sqlite3_prepare_v2(db_, sql, -1, &statement, nullptr) != SQLITE_OK) {
    return Error(sql);
  }
  return statement;
}

absl::Status SqliteStore::Error(const char* what) const {
  const std::string message =
      absl::StrCat(what, ": ", sqlite3_errmsg(db_), " (SQLite error ",
                   sqlite3_extended_errcode(db_), ")");
  switch (sqlite3_errcode(db_) & 0xFF) {
    case SQLITE_FULL:
      return absl::ResourceExhaustedError(message);
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      return absl::DataLossError(
          absl::StrCat("the file is damaged: ", message));
    case SQLITE_READONLY:
    case SQLITE_CANTOPEN:
    case SQLITE_PERM:
      return absl::FailedPreconditionError(message);
    default:
      return absl::InternalError(message);
  }
}

absl::Status SqliteStore::WriteOne(const StoreWrite& write) {
  sqlite3_stmt* const statement = write.erase ? erase_ : put_;
  const absl::Cleanup reset = [statement] {
    sqlite3_reset(statement);
    sqlite3_clear_bindings(statement);
  };
  BindText(statement, 1, write.kind);
  BindText(statement, 2, write.key);
  if (!write.erase) {
    sqlite3_bind_blob64(statement, 3, write.value.data(), write.value.size(),
                        SQLITE_STATIC);
    // An empty value is a blob of no bytes, not NULL.
    if (write.value.empty()) sqlite3_bind_zeroblob(statement, 3, 0);
    sqlite3_bind_int64(statement, 4,
                       Checksum(write.kind, write.key, write.value));
  }
  if (sqlite3_step(statement) != SQLITE_DONE) return Error("write");
  return absl::OkStatus();
}

absl::Status SqliteStore::Write(const std::vector<StoreWrite>& batch) {
  if (batch.empty()) return absl::OkStatus();
  SLUICE_RETURN_IF_ERROR(Annotate(Execute("BEGIN IMMEDIATE"), path_));
  absl::Status status;
  for (const StoreWrite& write : batch) {
    status = WriteOne(write);
    if (!status.ok()) break;
  }
  if (status.ok()) status = Execute("COMMIT");
  // Some errors have ended the transaction already.
  if (!status.ok() && sqlite3_get_autocommit(db_) == 0) {
    Execute("ROLLBACK").IgnoreError();
  }
  return Annotate(status, path_);
}

absl::StatusOr<std::vector<StoredRecord>> SqliteStore::ReadAll() {
  SLUICE_ASSIGN_OR_RETURN(sqlite3_stmt* const statement,
                          Prepare("SELECT kind, key, value, checksum FROM "
                                  "records ORDER BY kind, key"));
  const absl::Cleanup finalize = [statement] { sqlite3_finalize(statement); };
  std::vector<StoredRecord> records;
  for (;;) {
    const int rc = sqlite3_step(statement);
    if (rc == SQLITE_DONE) return records;
    if (rc != SQLITE_ROW) return Annotate(Error("read"), path_);
    StoredRecord record;
    record.kind = std::string(ColumnBytes(statement, 0));
    record.key = std::string(ColumnBytes(statement, 1));
    record.value = std::string(ColumnBytes(statement, 2));
    if (Checksum(record.kind, record.key, record.value) !=
        sqlite3_column_int64(statement, 3)) {
      return absl::DataLossError(
          absl::StrCat(path_, ": the file is damaged: the checksum of ",
                       record.kind, " \"", record.key, "\" differs"));
    }
    records.push_back(std::move(record));
  }
}

}  // namespace sluice::coordinator
