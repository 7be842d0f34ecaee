// Packs, unpacks and copies of boxes, and copies by the device's engines.

#include <algorithm>
#include <cstring>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/cuda/box_list.h"
#include "agent/cuda/cuda_device.h"
#include "bench/gpu_rig.h"
#include "common/status_macros.h"
#include "tests/gpu/checks.h"

namespace sluice::bench {
namespace {

using agent::cuda::BoxBatch;
using agent::cuda::BoxList;

// What the lending process fills its memory with.
constexpr uint8_t kLentValue = 0x37;

// Rows between the source and the target, as offsets in bytes.
struct Piece {
  int64_t src = 0;
  int64_t src_pitch = 0;
  int64_t dst = 0;
  int64_t dst_pitch = 0;
  int64_t width = 0;
  int64_t rows = 1;
};

struct BoxCase {
  std::string name;
  double goal = 0;
  std::vector<Piece> pieces;
};

int64_t BytesOf(const std::vector<Piece>& pieces) {
  int64_t bytes = 0;
  for (const Piece& piece : pieces) bytes += piece.width * piece.rows;
  return bytes;
}

absl::Status Verify(const GpuRig& rig, const std::vector<Piece>& pieces) {
  int64_t end = 0;
  for (const Piece& p : pieces) {
    end = std::max(end, p.dst + (p.rows - 1) * p.dst_pitch + p.width);
  }
  SLUICE_ASSIGN_OR_RETURN(const HostBytes found, rig.Download(end));
  for (const Piece& p : pieces) {
    for (int64_t row = 0; row < p.rows; ++row) {
      const int64_t from = p.src + row * p.src_pitch;
      const int64_t to = p.dst + row * p.dst_pitch;
      if (std::memcmp(found.data() + to, rig.source_bytes().data() + from,
                      static_cast<size_t>(p.width)) != 0) {
        return absl::DataLossError(
            absl::StrCat("row ", row, " of the piece at byte ", p.src,
                         " was not copied to byte ", to));
      }
    }
  }
  return absl::OkStatus();
}

absl::Status AddCase(GpuRig& rig, const BoxCase& made,
                     std::vector<GpuCase>& cases) {
  constexpr int64_t kElement = 2;
  BoxList list = BoxList::ForCopies();
  for (const Piece& p : made.pieces) {
    SLUICE_RETURN_IF_ERROR(
        list.Add({.extents = {p.rows, p.width / kElement},
                  .src = rig.source().address() + static_cast<uint64_t>(p.src),
                  .src_strides = {p.src_pitch, kElement},
                  .dst = rig.target().address() + static_cast<uint64_t>(p.dst),
                  .dst_strides = {p.dst_pitch, kElement},
                  .logical = 0,
                  .logical_strides = {}},
                 kElement));
  }
  SLUICE_ASSIGN_OR_RETURN(const BoxBatch batch, rig.Keep(list));
  cases.push_back(
      {.name = made.name,
       .beside_read = false,
       .goal = made.goal,
       .bytes = 2 * BytesOf(made.pieces),
       .launch =
           [&rig, batch] {
             return rig.runtime().CopyBoxes(batch, rig.max_blocks(),
                                            rig.stream());
           },
       .verify = [&rig, pieces = made.pieces] { return Verify(rig, pieces); }});
  return absl::OkStatus();
}

// Rows of `width` bytes, twice as far apart on the strided side.
BoxCase Rows(std::string name, double goal, int64_t width, int64_t bytes,
             bool pack) {
  Piece piece{.width = width, .rows = bytes / 2 / width};
  piece.src_pitch = pack ? 2 * width : width;
  piece.dst_pitch = pack ? width : 2 * width;
  return {std::move(name), goal, {piece}};
}

// What one rank of eight packs of an 8B model of Llama's shape: BF16, rows of
// what is split by rows whole, stretches of rows of what is split by columns.
BoxCase ModelPieces(const GpuRig& rig) {
  const int64_t divisor = rig.options().model_divisor;
  constexpr int64_t kRanks = 8;
  const int64_t hidden = 4096 / divisor;
  const int64_t ffn = 14336 / divisor;
  const int64_t kv = 1024 / divisor;
  const int64_t vocab = 128256 / divisor / kRanks * kRanks;
  BoxCase made{"pack, 8B model in 8 ranks", 0, {}};
  int64_t src = 0;
  int64_t dst = 0;
  const auto add = [&](int64_t rows, int64_t cols, bool by_rows) {
    Piece p;
    p.rows = by_rows ? rows / kRanks : rows;
    p.width = (by_rows ? cols : cols / kRanks) * 2;
    p.src_pitch = cols * 2;
    p.dst_pitch = p.width;
    // The source is read again from its start: it is larger than any cache.
    if (src + p.rows * p.src_pitch > rig.options().bytes) src = 0;
    if (p.rows * p.src_pitch > rig.options().bytes) return;
    p.src = src;
    p.dst = dst;
    src += p.rows * p.src_pitch;
    dst += p.rows * p.width;
    if (dst <= 2 * rig.options().bytes) made.pieces.push_back(p);
  };
  add(vocab, hidden, true);
  for (int layer = 0; layer < 32; ++layer) {
    add(kRanks, hidden, true);  // norms
    add(hidden, hidden, true);  // q
    add(kv, hidden, true);
    add(kv, hidden, true);
    add(hidden, hidden, false);  // o
    add(kRanks, hidden, true);
    add(ffn, hidden, true);  // gate, up
    add(ffn, hidden, true);
    add(hidden, ffn, false);  // down
  }
  add(kRanks, hidden, true);
  add(vocab, hidden, true);
  return made;
}

BoxCase SmallTensors(const GpuRig& rig) {
  constexpr int64_t kBytes = 16 << 10;
  const int64_t count = std::min(rig.options().small_tensors,
                                 rig.options().bytes / (kBytes + 64) - 1);
  BoxCase made{absl::StrCat("pack, ", count, " tensors of 16 KiB"), 0.5, {}};
  for (int64_t i = 0; i < count; ++i) {
    made.pieces.push_back({.src = i * (kBytes + 64),
                           .src_pitch = kBytes,
                           .dst = i * kBytes,
                           .dst_pitch = kBytes,
                           .width = kBytes,
                           .rows = 1});
  }
  return made;
}

// Rows by the copy engines, as a strided local copy may use them.
void AddEngineRows(GpuRig& rig, std::vector<GpuCase>& cases) {
  constexpr int64_t kWidth = 64 << 10;
  const int64_t rows = rig.options().bytes / 2 / kWidth;
  const std::vector<Piece> pieces = {{.src = 0,
                                      .src_pitch = 2 * kWidth,
                                      .dst = 0,
                                      .dst_pitch = kWidth,
                                      .width = kWidth,
                                      .rows = rows}};
  cases.push_back({.name = "local copy, rows of 64 KiB by cudaMemcpy2D",
                   .beside_read = false,
                   .goal = 0,
                   .bytes = 2 * kWidth * rows,
                   .launch =
                       [&rig, rows] {
                         return rig.runtime().CopyRows(
                             rig.target().data(), kWidth, rig.source().data(),
                             2 * kWidth, kWidth, rows, rig.stream());
                       },
                   .verify = [&rig, pieces] { return Verify(rig, pieces); }});
}

// A copy out of another process's memory.
absl::Status AddIpcCopy(GpuRig& rig, std::vector<GpuCase>& cases) {
  const GpuBenchOptions& options = rig.options();
  if (options.lender_socket < 0) return absl::OkStatus();
  SLUICE_ASSIGN_OR_RETURN(
      std::shared_ptr<agent::cuda::CudaDevice> device,
      agent::cuda::CudaDevice::Open(options.runtime, options.device));
  SLUICE_ASSIGN_OR_RETURN(
      const agent::cuda::SharedRange range,
      gpu_tests::BorrowFilled({.runtime = options.runtime,
                               .device = options.device,
                               .elements = options.bytes},
                              options.lender_socket, kLentValue));
  SLUICE_ASSIGN_OR_RETURN(const auto memory, device->AdoptRange(range));
  cases.push_back({.name = "copy from another process",
                   .beside_read = false,
                   .goal = 0.9,
                   .bytes = 2 * options.bytes,
                   .launch =
                       [&rig, device, memory] {
                         return rig.runtime().Copy(
                             rig.target().data(), memory->data(),
                             rig.options().bytes, rig.stream());
                       },
                   .verify = [&rig, memory]() -> absl::Status {
                     SLUICE_ASSIGN_OR_RETURN(const HostBytes found,
                                             rig.Download(rig.options().bytes));
                     if (found != HostBytes(found.size(), kLentValue)) {
                       return absl::DataLossError("other bytes than were lent");
                     }
                     return absl::OkStatus();
                   }});
  return absl::OkStatus();
}

}  // namespace

absl::Status AddBoxCases(GpuRig& rig, std::vector<GpuCase>& cases) {
  const int64_t bytes = rig.options().bytes;
  std::vector<BoxCase> made;
  // Sixteen large boxes, each in one piece.
  BoxCase large{"pack, contiguous", 0.8, {}};
  for (int64_t i = 0; i < 16; ++i) {
    large.pieces.push_back({.src = i * (bytes / 16),
                            .src_pitch = bytes / 16,
                            .dst = i * (bytes / 16),
                            .dst_pitch = bytes / 16,
                            .width = bytes / 16,
                            .rows = 1});
  }
  made.push_back(std::move(large));
  made.push_back(Rows("pack, rows of 1 KiB", 0.8, 1024, bytes, true));
  made.push_back(Rows("pack, rows of 128 bytes", 0.5, 128, bytes, true));
  made.push_back(Rows("unpack, rows of 1 KiB", 0.8, 1024, bytes, false));
  made.push_back(Rows("unpack, rows of 128 bytes", 0.5, 128, bytes, false));
  made.push_back(ModelPieces(rig));
  made.push_back(SmallTensors(rig));
  for (const BoxCase& one : made) {
    SLUICE_RETURN_IF_ERROR(AddCase(rig, one, cases));
  }
  AddEngineRows(rig, cases);
  return AddIpcCopy(rig, cases);
}

}  // namespace sluice::bench
