// An output file that appears whole or not at all.
#pragma once

#include <cstdio>
#include <optional>
#include <string>

#include "core/partial_outputs.h"

namespace mxmla::app {

// Opens a temporary file beside `path` at once, so that an unwritable place is known before any work is done (kOutput);
// Commit gives it its name. Without Commit nothing is left behind. A link is followed. What lies in /dev or
// /proc, and what exists and is no regular file (a pipe), is written directly.
class OutputFile {
 public:
  explicit OutputFile(const std::string& path);
  ~OutputFile();
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  void Write(const void* data, size_t bytes);
  void Write(const std::string& text) { Write(text.data(), text.size()); }
  void Commit();

 private:
  [[noreturn]] void FailSystem(const std::string& what) const;

  std::string path_;
  std::string temporary_;  // empty when written directly
  std::optional<PartialOutput> guard_;
  std::FILE* file_ = nullptr;
};

}  // namespace mxmla::app
