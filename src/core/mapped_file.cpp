#include "core/mapped_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <memory>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include "core/error.h"
#include "core/note.h"
#include "core/thread_pool.h"

namespace mxmla {
namespace {

constexpr size_t kReadPiece = size_t{8} << 20;
constexpr size_t kMostReaders = 8;
constexpr size_t kLine = 64;

// Reads bytes.size() bytes from `offset`; what went wrong, or nothing.
std::string ReadPiece(int descriptor, std::span<std::byte> bytes, size_t offset) {
  while (!bytes.empty()) {
    const ssize_t count = pread(descriptor, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return std::strerror(errno);
    if (count == 0) return fmt::format("{}", offset);
    bytes = bytes.subspan(static_cast<size_t>(count));
    offset += static_cast<size_t>(count);
  }
  return {};
}

// Reads the file, piece by piece, with several threads; what went wrong first, or nothing.
std::string ReadAll(int descriptor, std::span<std::byte> bytes, const std::function<void(size_t)>& on_read) {
  std::atomic<size_t> next{0};
  std::mutex mutex;
  std::string problem;
  const auto work = [&] {
    for (;;) {
      const size_t begin = next.fetch_add(kReadPiece);
      if (begin >= bytes.size()) return;
      const size_t count = std::min(kReadPiece, bytes.size() - begin);
      std::string found = ReadPiece(descriptor, bytes.subspan(begin, count), begin);
      if (found.empty() && on_read) on_read(count);
      if (found.empty()) continue;
      const std::lock_guard lock(mutex);
      if (problem.empty()) problem = std::move(found);
      next = bytes.size();
    }
  };
  const size_t pieces = (bytes.size() + kReadPiece - 1) / kReadPiece;
  const size_t readers = std::min({pieces, kMostReaders, static_cast<size_t>(ThreadPool::AvailableProcessors())});
  std::vector<std::jthread> others;
  for (size_t i = 1; i < readers; ++i) {
    try {
      others.emplace_back(work);
    } catch (const std::system_error&) {
      break;  // no more threads: those that run take its pieces
    }
  }
  work();
  others.clear();
  return problem;
}

}  // namespace

MappedFile::MappedFile(const std::string& path, const FileAccess& access) {
  // Not blocking, because a pipe would wait for its writer before it could be refused.
  const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) Fail(ErrorCode::kMissingFile, path, "a readable file", std::strerror(errno));
  const std::unique_ptr<const int, void (*)(const int*)> closer(&descriptor, [](const int* open) { close(*open); });
  struct stat status {};
  if (fstat(descriptor, &status) != 0 || !S_ISREG(status.st_mode)) {
    Fail(ErrorCode::kMissingFile, path, "a file", "something else");
  }
  size_ = static_cast<size_t>(status.st_size);
  if (size_ == 0) return;
  if (access.map) {
    void* mapping = mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, descriptor, 0);
    if (mapping != MAP_FAILED) {
      mapping_ = mapping;
      madvise(mapping, size_, MADV_HUGEPAGE);  // a wish
      range_.emplace(mapping, size_, path);
      data_ = static_cast<const std::byte*>(mapping_);
      return;
    }
    if (errno == ENOMEM) Fail(ErrorCode::kMemory, path, "to map the file", std::strerror(errno));
    // Some network and user-space file systems cannot map.
    ReportNote(fmt::format("{}: cannot be mapped ({}); its {} bytes are read into memory instead", PrintableLine(path),
                           std::strerror(errno), size_));
  }
  const size_t before = (kLine - access.line_at % kLine) % kLine;
  copy_ = AllocateHostMemory(before + size_, Fill::kUntouched, path, access.map ? "" : "leave out --no-mmap");
  const std::string problem = ReadAll(descriptor, {copy_.data() + before, size_}, access.on_read);
  if (!problem.empty()) Fail(ErrorCode::kMissingFile, path, fmt::format("{} readable bytes", size_), problem);
  data_ = copy_.data() + before;
}

MappedFile::~MappedFile() {
  range_.reset();
  if (mapping_) munmap(mapping_, size_);
}

}  // namespace mxmla
