#include "agent/copy/copy_crew.h"

#include <pthread.h>

#include <algorithm>
#include <utility>

#include "agent/copy/copy_kernels.h"

namespace sluice::agent {
namespace {

// More than these do not add bandwidth, and the processors have other work.
constexpr int kMaxThreads = 4;

}  // namespace

CopyCrew::CopyCrew(std::vector<Piece> pieces, int helpers, bool streaming,
                   std::function<void(const Piece&)> copied)
    : pieces_(std::move(pieces)),
      streaming_(streaming),
      copied_(std::move(copied)) {
  for (int i = 0; i < helpers; ++i) {
    helpers_.emplace_back([this] {
      pthread_setname_np(pthread_self(), "sluice-copy");
      while (Step()) {
      }
    });
  }
}

CopyCrew::~CopyCrew() { Stop(); }

bool CopyCrew::Step() {
  if (stopped_.load()) return false;
  const size_t at = next_.fetch_add(1);
  if (at >= pieces_.size()) return false;
  const Piece& piece = pieces_[at];
  copy_internal::Rows rows;
  rows.src = piece.source;
  rows.dst = piece.destination;
  rows.count = 1;
  rows.bytes = piece.bytes;
  copy_internal::CopyRows(copy_internal::BestIsa(), rows, streaming_);
  done_.fetch_add(1);
  copied_(piece);
  return true;
}

bool CopyCrew::Finished() const { return done_.load() == pieces_.size(); }

void CopyCrew::Stop() {
  stopped_.store(true);
  for (std::thread& helper : helpers_) {
    if (helper.joinable()) helper.join();
  }
}

int HelpersFor(int copiers) {
  const int processors =
      static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  return std::clamp(processors / std::max(1, copiers), 1, kMaxThreads) - 1;
}

}  // namespace sluice::agent
