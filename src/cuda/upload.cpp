#include "cuda/upload.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "cuda/status.h"

namespace mxmla::cuda {
namespace {

constexpr size_t kPieceBytes = size_t{16} << 20;
constexpr int kMostThreads = 8;

// What is copied at once: a part of a transfer, or whole small ones side by side.
struct Piece {
  size_t first = 0, count = 1;  // transfers
  size_t begin = 0, bytes = 0;  // of the first one, when it is cut
};

std::vector<Piece> Cut(std::span<const Transfer> transfers) {
  std::vector<Piece> pieces;
  for (size_t i = 0; i < transfers.size(); ++i) {
    const Transfer& transfer = transfers[i];
    for (size_t begin = 0; begin < transfer.bytes; begin += kPieceBytes) {
      const size_t bytes = std::min(kPieceBytes, transfer.bytes - begin);
      Piece* const last = pieces.empty() ? nullptr : &pieces.back();
      if (last && begin == 0 && last->begin == 0 && last->first + last->count == i &&
          last->bytes + bytes <= kPieceBytes) {
        ++last->count;
        last->bytes += bytes;
      } else {
        pieces.push_back({i, 1, begin, bytes});
      }
    }
  }
  return pieces;
}

class Uploader {
 public:
  Uploader(int device, std::span<const Transfer> transfers)
      : device_(device), transfers_(transfers), pieces_(Cut(transfers)) {}

  void Run(int threads, const std::function<void(size_t done)>& progress) {
    const int workers = std::clamp(threads, 1, std::min<int>(kMostThreads, static_cast<int>(pieces_.size())));
    running_ = workers;
    std::vector<std::jthread> pool;
    for (int i = 0; i < workers; ++i) pool.emplace_back([this] { Work(); });
    std::unique_lock lock(mutex_);
    while (running_ > 0) {
      ended_.wait_for(lock, std::chrono::milliseconds(100));
      lock.unlock();
      progress(done_);
      lock.lock();
    }
    if (failure_) std::rethrow_exception(failure_);
  }

 private:
  void Work() {
    try {
      CopyPieces();
    } catch (...) {
      const std::lock_guard lock(mutex_);
      failure_ = std::current_exception();
      next_ = pieces_.size();
    }
    const std::lock_guard lock(mutex_);
    --running_;
    ended_.notify_one();
  }

  void CopyPieces() {
    Check(cudaSetDevice(device_), "upload", "a device that can be used");
    const Memory staging = AllocatePinned(2 * kPieceBytes, "memory for uploads", "");
    Stream stream;
    for (size_t turn = 0;; ++turn) {
      const size_t index = next_.fetch_add(1);
      if (index >= pieces_.size()) break;
      std::byte* const half = staging.data() + turn % 2 * kPieceBytes;
      Check(cudaEventSynchronize(stream.free[turn % 2]), "upload", "a copy that ends");
      const Piece& piece = pieces_[index];
      size_t at = 0;
      for (size_t i = piece.first; i < piece.first + piece.count; ++i) {
        const Transfer& transfer = transfers_[i];
        const size_t bytes = piece.count == 1 ? piece.bytes : transfer.bytes;
        std::memcpy(half + at, transfer.host + piece.begin, bytes);
        Check(cudaMemcpyAsync(transfer.device + piece.begin, half + at, bytes, cudaMemcpyHostToDevice, stream.stream),
              "upload", "a copy to the device");
        at += bytes;
      }
      Check(cudaEventRecord(stream.free[turn % 2], stream.stream), "upload", "an event");
      done_ += piece.bytes;
    }
    Check(cudaStreamSynchronize(stream.stream), "upload", "copies that end");
  }

  struct Stream {
    Stream() {
      Check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "upload", "a stream");
      for (cudaEvent_t& event : free) {
        Check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "upload", "an event");
      }
    }
    ~Stream() {
      for (const cudaEvent_t event : free) cudaEventDestroy(event);
      cudaStreamDestroy(stream);
    }
    cudaStream_t stream = nullptr;
    cudaEvent_t free[2] = {};  // the halves of the staging memory
  };

  const int device_;
  const std::span<const Transfer> transfers_;
  const std::vector<Piece> pieces_;
  std::atomic<size_t> next_{0}, done_{0};
  std::mutex mutex_;
  std::condition_variable ended_;
  int running_ = 0;
  std::exception_ptr failure_;
};

}  // namespace

Memory AllocatePinned(size_t bytes, const std::string& what, const std::string& hint) {
  void* data = nullptr;
  if (const cudaError_t status = cudaMallocHost(&data, std::max<size_t>(bytes, 1)); status != cudaSuccess) {
    cudaGetLastError();  // the next call starts anew
    Fail(ErrorCode::kMemory, what, fmt::format("{} bytes of pinned memory", bytes), cudaGetErrorString(status), hint);
  }
  return Memory(static_cast<std::byte*>(data), bytes, [](std::byte* memory) { cudaFreeHost(memory); });
}

void UploadPageable(int device, int threads, std::span<const Transfer> transfers,
                    const std::function<void(size_t done)>& progress) {
  if (!transfers.empty()) Uploader(device, transfers).Run(threads, progress);
}

}  // namespace mxmla::cuda
