#ifndef SLUICE_AGENT_CORE_BUFFER_TABLE_H_
#define SLUICE_AGENT_CORE_BUFFER_TABLE_H_

// The agent's buffers: its own arenas, counted against its memory together with
// what the host makes by itself, and memory that workers lend. A buffer is
// given back only when nothing holds it.

#include <cstdint>
#include <map>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "agent/core/outbox.h"
#include "common/ids.h"

namespace sluice::agent {

// Used by one core; not thread-safe.
//
// Life: Allocate (1) -> host answers (2) -> Hold/Unhold (3) -> Doom (4) ->
// FreeDoomed orders FreeBuffer (5) once no hold is left and (2) has come.
//
// Invariant: used_bytes = sum of bytes of own buffers that are not freed, and
// of what was taken and not returned; used_bytes <= memory_bytes.
class BufferTable {
 public:
  explicit BufferTable(int64_t memory_bytes) : memory_bytes_(memory_bytes) {}

  int64_t memory_bytes() const { return memory_bytes_; }
  int64_t used_bytes() const { return used_bytes_; }
  int64_t free_bytes() const { return memory_bytes_ - used_bytes_; }

  // Returns an id that no buffer had before.
  BufferId NewId() { return BufferId(next_id_++); }
  // Counts the memory and orders the buffer from the host. `id` is new; the
  // caller has checked free_bytes().
  void Allocate(BufferId id, int64_t bytes, std::string label, BufferUse use,
                Outbox& out);
  // Takes note of a lent buffer, ready at once and counted against nothing.
  void Adopt(BufferId id, int64_t bytes);

  // Counts memory that is no buffer of this table. The caller has checked
  // free_bytes().
  void Take(int64_t bytes);
  void Return(int64_t bytes);

  // The host's answer. A buffer that could not be made holds no memory.
  void Answer(BufferId id, const absl::Status& status);

  enum class Readiness { kPending, kReady, kFailed };
  Readiness readiness(BufferId id) const;
  // Why the host could not make it; OK unless kFailed.
  absl::Status failure(BufferId id) const;

  void Hold(BufferId id);
  void Unhold(BufferId id);
  // Gives the buffer back as soon as nothing holds it.
  void Doom(BufferId id);
  // Orders FreeBuffer for what is doomed and held by nothing.
  void FreeDoomed(Outbox& out);

 private:
  struct Buffer {
    int64_t bytes = 0;
    bool lent = false;
    bool answered = false;
    absl::Status status;
    int holds = 0;
    bool doomed = false;
  };
  Buffer& at(BufferId id);
  const Buffer& at(BufferId id) const;

  const int64_t memory_bytes_;
  int64_t used_bytes_ = 0;
  int64_t taken_bytes_ = 0;  // of those, by Take
  uint64_t next_id_ = 1;
  bool any_doomed_ = false;
  std::map<BufferId, Buffer> buffers_;
};

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_CORE_BUFFER_TABLE_H_
