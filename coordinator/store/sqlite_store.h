#ifndef SLUICE_COORDINATOR_STORE_SQLITE_STORE_H_
#define SLUICE_COORDINATOR_STORE_SQLITE_STORE_H_

// The state store in one SQLite file of a state directory:
//
//   DIR/lock      held by the coordinator that owns the directory; its pid
//   DIR/state.db  table records(kind, key, value, checksum), WAL, synced fully
//
// Each row carries a checksum over kind, key and value: SQLite itself checks
// its structure only, not the bytes of a value.

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/daemon.h"
#include "coordinator/store/state_store.h"

struct sqlite3;
struct sqlite3_stmt;

namespace sluice::coordinator {

// Thread rule: one call at a time, from any thread.
class SqliteStore final : public StateStore {
 public:
  // Opens the directory, making it if it is not there, and checks the file.
  // Errors: FAILED_PRECONDITION - the directory cannot be made or written in,
  // or the file is of a later version; ALREADY_EXISTS - another process owns it
  // (its pid is said); DATA_LOSS - the file is damaged, with where.
  static absl::StatusOr<std::unique_ptr<SqliteStore>> Open(
      const std::string& directory);
  ~SqliteStore() override;
  SqliteStore(const SqliteStore&) = delete;
  SqliteStore& operator=(const SqliteStore&) = delete;

  absl::Status Write(const std::vector<StoreWrite>& batch) override;
  absl::StatusOr<std::vector<StoredRecord>> ReadAll() override;

 private:
  SqliteStore(std::string path, std::unique_ptr<LockFile> lock);

  absl::Status Initialize();
  absl::Status CheckVersion();
  absl::Status CheckIntegrity();
  absl::Status Execute(const char* sql);
  absl::StatusOr<sqlite3_stmt*> Prepare(const char* sql);
  absl::Status WriteOne(const StoreWrite& write);
  // The connection's last error as a status.
  absl::Status Error(const char* what) const;

  const std::string path_;
  // Outlives the connection: closing writes the log back into the file.
  const std::unique_ptr<LockFile> lock_;
  sqlite3* db_ = nullptr;
  sqlite3_stmt* put_ = nullptr;
  sqlite3_stmt* erase_ = nullptr;
};

}  // namespace sluice::coordinator

#endif  // SLUICE_COORDINATOR_STORE_SQLITE_STORE_H_
