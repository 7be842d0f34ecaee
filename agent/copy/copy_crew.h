#ifndef SLUICE_AGENT_COPY_COPY_CREW_H_
#define SLUICE_AGENT_COPY_COPY_CREW_H_

// Copies that threads share, for when few members of a node copy
// and processors would be idle: one thread does not use all memory bandwidth.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <thread>
#include <vector>

namespace sluice::agent {

class CopyCrew {
 public:
  struct Piece {
    const std::byte* source = nullptr;
    std::byte* destination = nullptr;
    int64_t bytes = 0;
  };

  // `helpers` threads copy beside the caller of Step. `copied` is called after
  // each piece, on the thread that copied it.
  CopyCrew(std::vector<Piece> pieces, int helpers, bool streaming,
           std::function<void(const Piece&)> copied);
  // As Stop.
  ~CopyCrew();
  CopyCrew(const CopyCrew&) = delete;
  CopyCrew& operator=(const CopyCrew&) = delete;

  // Copies a piece; false if none is left to begin.
  bool Step();
  bool Finished() const;
  // Returns when no helper copies any more.
  void Stop();

 private:
  const std::vector<Piece> pieces_;
  const bool streaming_;
  const std::function<void(const Piece&)> copied_;
  std::atomic<size_t> next_{0};
  std::atomic<size_t> done_{0};
  std::atomic<bool> stopped_{false};
  std::vector<std::thread> helpers_;
};

// Threads that pay beside a member's own where `copiers` members of its node
// copy at once.
int HelpersFor(int copiers);

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_COPY_COPY_CREW_H_
