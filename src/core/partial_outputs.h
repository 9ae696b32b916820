// What must be cleaned up or said when a signal ends the program: outputs under construction, and mapped files whose
// pages the system could not read. The tables are fixed arrays of atomics, so that a signal handler can read them.
#pragma once

#include <cstddef>
#include <string>

namespace mxmla {

// A file, or a folder without subfolders, that a fatal signal removes while this object lives. The owner removes it
// otherwise.
class PartialOutput {
 public:
  explicit PartialOutput(const std::string& path);
  ~PartialOutput();
  PartialOutput(const PartialOutput&) = delete;
  PartialOutput& operator=(const PartialOutput&) = delete;

 private:
  int slot_ = -1;
  char* path_ = nullptr;
};

// A mapped file, known to the handler of SIGBUS while this object lives.
class MappedRange {
 public:
  MappedRange(const void* begin, size_t bytes, const std::string& path);
  ~MappedRange();
  MappedRange(const MappedRange&) = delete;
  MappedRange& operator=(const MappedRange&) = delete;

 private:
  int slot_ = -1;
  char* line_ = nullptr;
};

// The Error's line about the mapped file at this address, or null. Safe in a signal handler.
const char* MappedFileProblem(const void* address);

// For the program's main. SIGBUS in a mapped file becomes one line and exit status kSafetensors; signals that would end
// the program remove partial outputs first; SIGXFSZ is ignored, so that the write fails. A signal that the caller of
// the program chose to ignore stays ignored.
void InstallSignalHandlers();

}  // namespace mxmla
