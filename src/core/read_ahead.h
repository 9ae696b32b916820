// Mapped files brought into memory while the program already works with them.
#pragma once

#include <atomic>
#include <cstddef>
#include <memory>
#include <span>
#include <thread>
#include <vector>

namespace mxmla {

struct MappedStretch {
  std::span<const std::byte> bytes;   // starts on a page
  std::shared_ptr<const void> owner;  // keeps it mapped
};

// Threads of its own read the stretches in their order and enter their pages into the page table, so that neither the
// disk nor a fault for each page is in the way of who reads them later. Where the machine has several memory nodes,
// what is read from the disk lies on all of them in turn.
class ReadAhead {
 public:
  enum class Way {
    kPopulate,  // asks the system for whole pieces; where it cannot (before Linux 5.14), the next
    kTouch,     // reads a byte of every page
  };

  explicit ReadAhead(std::vector<MappedStretch> stretches, Way way = Way::kPopulate);
  ~ReadAhead();  // ends it within a piece
  ReadAhead(const ReadAhead&) = delete;
  ReadAhead& operator=(const ReadAhead&) = delete;

  void Wait();  // until all is read; for one thread

 private:
  struct Piece {
    const std::byte* data;
    size_t bytes;
  };

  void Work();
  void Read(const Piece& piece);

  std::vector<MappedStretch> stretches_;
  std::vector<Piece> pieces_;
  std::atomic<size_t> next_{0};
  std::atomic<Way> way_;
  std::vector<std::thread> threads_;
};

// Null, because the pages read last would drive out the first, where the stretches are more than nine tenths of
// `available` bytes, and where there are none.
std::unique_ptr<ReadAhead> StartReadAhead(std::vector<MappedStretch> stretches, size_t available);

}  // namespace mxmla
