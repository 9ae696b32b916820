#include "core/read_ahead.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <system_error>
#include <utility>

#include "core/memory_nodes.h"
#include "core/thread_pool.h"

namespace mxmla {
namespace {

// A thread is stopped between two pieces, so a piece of a slow disk should not take long.
constexpr size_t kPiece = size_t{16} << 20;
constexpr int kMostThreads = 4;

void Touch(const std::byte* data, size_t bytes) {
  static const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  for (size_t at = 0; at < bytes; at += page) static_cast<void>(*static_cast<const volatile std::byte*>(data + at));
}

}  // namespace

ReadAhead::ReadAhead(std::vector<MappedStretch> stretches, Way way) : stretches_(std::move(stretches)), way_(way) {
  for (const MappedStretch& stretch : stretches_) {
    for (size_t begin = 0; begin < stretch.bytes.size(); begin += kPiece) {
      pieces_.push_back({stretch.bytes.data() + begin, std::min(kPiece, stretch.bytes.size() - begin)});
    }
  }
  const auto count = std::min(
      {pieces_.size(), static_cast<size_t>(kMostThreads), static_cast<size_t>(ThreadPool::AvailableProcessors())});
  threads_.reserve(count);
  for (size_t i = 0; i < count; ++i) {
    try {
      threads_.emplace_back([this] { Work(); });
    } catch (const std::system_error&) {
      break;  // no more threads: those that run take its pieces, and without any the pages come when they are used
    }
  }
}

ReadAhead::~ReadAhead() {
  next_ = pieces_.size();
  Wait();
}

void ReadAhead::Wait() {
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

void ReadAhead::Work() {
  // The system places what it reads for a thread by that thread's policy.
  if (const uint64_t nodes = MemoryNodes(); std::popcount(nodes) > 1) InterleaveThreadMemory(nodes);
  for (size_t i = next_.fetch_add(1); i < pieces_.size(); i = next_.fetch_add(1)) Read(pieces_[i]);
}

void ReadAhead::Read(const Piece& piece) {
  if (way_ == Way::kPopulate) {
    if (madvise(const_cast<std::byte*>(piece.data), piece.bytes, MADV_POPULATE_READ) == 0) return;
    // Whatever else is wrong, a file that shrank or a disk that fails, is told to who needs the bytes.
    if (errno != EINVAL) return;
    way_ = Way::kTouch;
  }
  Touch(piece.data, piece.bytes);
}

std::unique_ptr<ReadAhead> StartReadAhead(std::vector<MappedStretch> stretches, size_t available) {
  size_t bytes = 0;
  for (const MappedStretch& stretch : stretches) bytes += stretch.bytes.size();
  if (bytes == 0 || bytes > available / 10 * 9) return nullptr;
  return std::make_unique<ReadAhead>(std::move(stretches));
}

}  // namespace mxmla
