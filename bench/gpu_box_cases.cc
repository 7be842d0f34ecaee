// Packs, unpacks and copies of boxes, and copies by the device's engines.

#include <algorithm>
#include <cstring>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/cuda/box_list.h"
#include "agent/cuda/cuda_device.h"
#include "agent/cuda/workspace.h"
#include "bench/gpu_rig.h"
#include "common/status_macros.h"
#include "tests/gpu/checks.h"

namespace sluice::bench {
namespace {

using agent::cuda::BoxBatch;
using agent::cuda::BoxList;
using agent::cuda::BoxStage;
using agent::cuda::Workspace;

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

// Of some rows that lie apart: nothing was written between them.
absl::Status CheckGaps(const HostBytes& found, const Piece& p) {
  constexpr int64_t kSampled = 97;
  for (int64_t row = 0; row + 1 < p.rows; row += kSampled) {
    const int64_t end = p.dst + (row + 1) * p.dst_pitch;
    for (int64_t at = end - p.dst_pitch + p.width; at < end; ++at) {
      if (found[static_cast<size_t>(at)] == GpuRig::kPoison) continue;
      return absl::DataLossError(
          absl::StrCat("byte ", at, ", between two rows, was written"));
    }
  }
  return absl::OkStatus();
}

absl::Status Verify(const GpuRig& rig, const std::vector<Piece>& pieces) {
  int64_t end = 0;
  for (const Piece& p : pieces) {
    end = std::max(end, p.dst + (p.rows - 1) * p.dst_pitch + p.width);
  }
  SLUICE_ASSIGN_OR_RETURN(const HostBytes found, rig.Download(end));
  for (const Piece& p : pieces) {
    SLUICE_RETURN_IF_ERROR(CheckGaps(found, p));
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

absl::Status AddPieces(const GpuRig& rig, const std::vector<Piece>& pieces,
                       BoxList& list) {
  constexpr int64_t kElement = 2;
  for (const Piece& p : pieces) {
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
  return absl::OkStatus();
}

absl::StatusOr<GpuCase> MakeCase(GpuRig& rig, const BoxCase& made) {
  BoxList list = BoxList::ForCopies();
  SLUICE_RETURN_IF_ERROR(AddPieces(rig, made.pieces, list));
  SLUICE_ASSIGN_OR_RETURN(const BoxBatch batch, rig.Keep(list));
  return GpuCase{
      .goal = made.goal,
      .bytes = 2 * BytesOf(made.pieces),
      .launch =
          [&rig, batch] {
            return rig.runtime().CopyBoxes(batch, rig.max_blocks(),
                                           rig.stream());
          },
      .verify = [&rig, pieces = made.pieces] { return Verify(rig, pieces); }};
}

// The same copies from nothing, as an agent makes a call: boxes, their list in
// pinned memory, its copy to the device, the kernel, and the wait for it.
absl::StatusOr<GpuCase> MakeCall(GpuRig& rig, const BoxCase& made) {
  SLUICE_ASSIGN_OR_RETURN(
      Workspace workspace,
      Workspace::Create(rig.runtime(), rig.options().device, rig.max_blocks()));
  const auto kept = std::make_shared<Workspace>(std::move(workspace));
  return GpuCase{
      .bytes = 2 * BytesOf(made.pieces),
      .launch = [&rig, kept, pieces = made.pieces]() -> absl::Status {
        // On another stream than the rig's.
        SLUICE_RETURN_IF_ERROR(rig.runtime().Synchronize(rig.stream()));
        std::vector<BoxStage> stages(1);
        SLUICE_RETURN_IF_ERROR(AddPieces(rig, pieces, stages[0].copies));
        SLUICE_RETURN_IF_ERROR(kept->Queue(stages, 0));
        return kept->Finish().status();
      },
      .verify = [&rig, pieces = made.pieces] { return Verify(rig, pieces); }};
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
  BoxCase made{
      absl::StrCat("pack, ", count, " tensors of 16 KiB, kernel alone"),
      0.5,
      {}};
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
GpuCase MakeEngineRows(GpuRig& rig) {
  constexpr int64_t kWidth = 64 << 10;
  const int64_t rows = rig.options().bytes / 2 / kWidth;
  const std::vector<Piece> pieces = {{.src = 0,
                                      .src_pitch = 2 * kWidth,
                                      .dst = 0,
                                      .dst_pitch = kWidth,
                                      .width = kWidth,
                                      .rows = rows}};
  return {.bytes = 2 * kWidth * rows,
          .launch =
              [&rig, rows] {
                return rig.runtime().CopyRows(rig.target().data(), kWidth,
                                              rig.source().data(), 2 * kWidth,
                                              kWidth, rows, rig.stream());
              },
          .verify = [&rig, pieces] { return Verify(rig, pieces); }};
}

// A copy out of another process's memory.
absl::StatusOr<GpuCase> MakeIpcCopy(GpuRig& rig) {
  const GpuBenchOptions& options = rig.options();
  SLUICE_ASSIGN_OR_RETURN(
      std::shared_ptr<agent::cuda::CudaDevice> device,
      agent::cuda::CudaDevice::Open(options.runtime, options.device));
  SLUICE_ASSIGN_OR_RETURN(const int socket, options.lender());
  SLUICE_ASSIGN_OR_RETURN(const agent::cuda::SharedRange range,
                          gpu_tests::BorrowFilled({.runtime = options.runtime,
                                                   .device = options.device,
                                                   .elements = options.bytes},
                                                  socket, kLentValue));
  SLUICE_ASSIGN_OR_RETURN(const auto memory, device->AdoptRange(range));
  return GpuCase{.goal = 0.9,
                 .bytes = 2 * options.bytes,
                 .launch =
                     [&rig, device, memory] {
                       return rig.runtime().Copy(
                           rig.target().data(), memory->data(),
                           rig.options().bytes, rig.stream());
                     },
                 .verify = [&rig]() -> absl::Status {
                   SLUICE_ASSIGN_OR_RETURN(const HostBytes found,
                                           rig.Download(rig.options().bytes));
                   if (found != HostBytes(found.size(), kLentValue)) {
                     return absl::DataLossError("other bytes than were lent");
                   }
                   return absl::OkStatus();
                 }};
}

}  // namespace

void AddBoxCases(GpuRig& rig, std::vector<GpuCaseMaker>& cases) {
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
    cases.push_back(
        {.name = one.name, .make = [&rig, one] { return MakeCase(rig, one); }});
  }
  BoxCase small = SmallTensors(rig);
  cases.push_back(
      {.name = absl::StrCat("pack, ", small.pieces.size(),
                            " tensors of 16 KiB, with making the list"),
       .make = [&rig, small] { return MakeCall(rig, small); }});
  cases.push_back({.name = "local copy, rows of 64 KiB by cudaMemcpy2D",
                   .kernel = false,
                   .make = [&rig] { return MakeEngineRows(rig); }});
  if (rig.options().lender == nullptr) return;
  cases.push_back({.name = "copy from another process",
                   .kernel = false,
                   .make = [&rig] { return MakeIpcCopy(rig); }});
}

}  // namespace sluice::bench
