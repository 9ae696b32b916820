// A whole file in memory: mapped or, on request and where the file system cannot map, read. What is mapped asks for
// huge pages, which some file systems give. A file that shrinks while it is mapped raises SIGBUS, which
// core/partial_outputs.h turns into a line and a status.
#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <span>
#include <string>

#include "core/memory.h"
#include "core/partial_outputs.h"

namespace mxmla {

struct FileAccess {
  bool map = true;  // false: read by several threads, into memory of huge pages where the system has them
  std::function<void(size_t bytes)> on_read;  // hears, from any thread, of bytes that were read
  size_t line_at = 0;                         // of a file that is read: where in it a cache line of 64 bytes begins
};

class MappedFile {
 public:
  // Errors: kMissingFile for what is no readable file, kMemory where it does not fit.
  explicit MappedFile(const std::string& path, const FileAccess& access = {});
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  bool mapped() const { return mapping_ != nullptr; }

 private:
  void* mapping_ = nullptr;
  std::optional<MappedRange> range_;
  Memory copy_;
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace mxmla
