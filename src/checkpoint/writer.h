// Writing a model folder: it appears whole or not at all. Every failure is an Error (kOutput) that names the path.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/safetensors.h"
#include "core/partial_outputs.h"

namespace mxmla {

// A folder under construction, `destination.partial-PID`, beside its destination. It is removed with this object unless
// Commit renamed it.
class OutputFolder {
 public:
  // `destination` must not exist, its parent must.
  explicit OutputFolder(std::string destination);
  ~OutputFolder();
  OutputFolder(const OutputFolder&) = delete;
  OutputFolder& operator=(const OutputFolder&) = delete;

  // Of the partial folder.
  const std::string& path() const { return partial_; }
  // Bytes that fit on the device.
  uint64_t FreeBytes() const;
  void Commit();

 private:
  std::string destination_;
  std::string partial_;
  std::optional<PartialOutput> guard_;  // removes it when a signal ends the program
};

struct OutputTensor {
  std::string name;
  TensorDType dtype = TensorDType::kU8;
  std::vector<int64_t> shape;

  size_t bytes() const;
};

// One safetensors file, written front to back. The tensors' order keeps every one aligned when wide dtypes come first.
class SafetensorsWriter {
 public:
  // Writes the header.
  SafetensorsWriter(std::string path, const std::vector<OutputTensor>& tensors);
  ~SafetensorsWriter();
  SafetensorsWriter(const SafetensorsWriter&) = delete;
  SafetensorsWriter& operator=(const SafetensorsWriter&) = delete;

  // The next bytes of the data.
  void Write(std::span<const std::byte> bytes);
  // Everything is on the disk. Bytes missing or too many are an Error (kInternal).
  void Finish();

 private:
  std::string path_;
  int descriptor_ = -1;
  uint64_t remaining_ = 0;
};

void WriteFile(const std::string& path, std::string_view content);
void CopyFile(const std::string& from, const std::string& to);

}  // namespace mxmla
