// A whole file in memory: mapped or, where the file system cannot map, read.
// A file that shrinks while it is mapped raises SIGBUS, which core/partial_outputs.h turns into a line and a status.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "core/partial_outputs.h"

namespace mxmla {

class MappedFile {
 public:
  // Errors: kMissingFile for what is no readable file, kMemory where it does not fit.
  explicit MappedFile(const std::string& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<const std::byte> bytes() const { return {data_, size_}; }

 private:
  void* mapping_ = nullptr;
  std::optional<MappedRange> range_;
  std::unique_ptr<std::byte[]> copy_;
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace mxmla
