#include "core/mapped_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "core/error.h"
#include "core/note.h"

namespace mxmla {
namespace {

// Reads exactly these bytes; what went wrong, or nothing.
std::string ReadAll(int descriptor, std::span<std::byte> bytes) {
  const size_t all = bytes.size();
  while (!bytes.empty()) {
    const ssize_t count = read(descriptor, bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return std::strerror(errno);
    if (count == 0) return fmt::format("{}", all - bytes.size());
    bytes = bytes.subspan(static_cast<size_t>(count));
  }
  return {};
}

}  // namespace

MappedFile::MappedFile(const std::string& path) {
  // Not blocking, because a pipe would wait for its writer before it could be refused.
  const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) Fail(ErrorCode::kMissingFile, path, "a readable file", std::strerror(errno));
  struct stat status {};
  const bool regular = fstat(descriptor, &status) == 0 && S_ISREG(status.st_mode);
  size_ = regular ? static_cast<size_t>(status.st_size) : 0;
  int problem = 0;
  if (size_ > 0) {
    void* mapping = mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, descriptor, 0);
    if (mapping == MAP_FAILED) {
      problem = errno;
    } else {
      mapping_ = mapping;
      range_.emplace(mapping, size_, path);
    }
  }
  std::string read_problem;
  if (problem != 0 && problem != ENOMEM) {
    // Some network and user-space file systems cannot map.
    ReportNote(fmt::format("{}: cannot be mapped ({}); its {} bytes are read into memory instead", PrintableLine(path),
                           std::strerror(problem), size_));
    problem = 0;
    copy_ = std::make_unique_for_overwrite<std::byte[]>(size_);
    read_problem = ReadAll(descriptor, {copy_.get(), size_});
  }
  close(descriptor);
  if (!read_problem.empty()) {
    Fail(ErrorCode::kMissingFile, path, fmt::format("{} readable bytes", size_), read_problem);
  }
  if (!regular) Fail(ErrorCode::kMissingFile, path, "a file", "something else");
  if (problem != 0) Fail(ErrorCode::kMemory, path, "to map the file", std::strerror(problem));
  data_ = copy_ ? copy_.get() : static_cast<const std::byte*>(mapping_);
}

MappedFile::~MappedFile() {
  range_.reset();
  if (mapping_) munmap(mapping_, size_);
}

}  // namespace mxmla
