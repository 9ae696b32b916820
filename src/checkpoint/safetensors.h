// Safetensors files, memory-mapped and checked before a byte of them is believed, and folders of them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/dtype.h"
#include "core/mapped_file.h"
#include "core/read_ahead.h"
#include "core/view.h"

namespace mxmla {

// The element types that the format knows.
enum class TensorDType {
  kBool,
  kF4,
  kF6E2m3,
  kF6E3m2,
  kU8,
  kI8,
  kF8E5m2,
  kF8E4m3,
  kF8E8m0,
  kF8E4m3Fnuz,
  kF8E5m2Fnuz,
  kI16,
  kU16,
  kF16,
  kBf16,
  kI32,
  kU32,
  kF32,
  kC64,
  kI64,
  kU64,
  kF64,
  // Blocks of GGUF files (core/ggml_blocks.h).
  kQ8_0,
  kQ4K,
  kQ6K,
  kGgmlMxfp4,
};
std::string_view TensorDTypeName(TensorDType dtype);  // as the file spells it: "F8_E4M3"
int64_t TensorDTypeBits(TensorDType dtype);

struct Tensor {
  std::string name;
  TensorDType dtype = TensorDType::kU8;
  std::vector<int64_t> shape;
  const std::byte* data = nullptr;
  size_t bytes = 0;
  std::string_view file;  // the path of the file that holds it; owned by the file

  int64_t elements() const;
  // "BF16 (64, 128)"
  std::string Describe() const;

  // The elements as T, row-major. An Error (kTensor) for another dtype or rank; kSafetensors when the data is not
  // aligned for T: published files are, since writers pad the header to 8 bytes and put wide dtypes first.
  template <class T, int Rank>
  View<const T, Rank> As() const {
    CheckView(Accepts<T>(dtype), sizeof(T), Rank);
    std::array<int64_t, Rank> dims;
    for (int d = 0; d < Rank; ++d) dims[d] = shape[d];
    return View<const T, Rank>::Contiguous(reinterpret_cast<const T*>(data), dims);
  }

 private:
  template <class T>
  static bool Accepts(TensorDType dtype) {
    if constexpr (std::is_same_v<T, float>) return dtype == TensorDType::kF32;
    if constexpr (std::is_same_v<T, bf16>) return dtype == TensorDType::kBf16;
    if constexpr (std::is_same_v<T, f16>) return dtype == TensorDType::kF16;
    if constexpr (std::is_same_v<T, e4m3>) return dtype == TensorDType::kF8E4m3;
    if constexpr (std::is_same_v<T, e8m0>) return dtype == TensorDType::kU8 || dtype == TensorDType::kF8E8m0;
    if constexpr (std::is_same_v<T, e2m1x2>) return dtype == TensorDType::kU8;
    return false;
  }
  void CheckView(bool dtype_fits, size_t alignment, int rank) const;
};

// Parses the header of `file` (the whole file's bytes) and checks it: the header's length, its JSON, every dtype, shape
// and range; no duplicate names, no overlap, no hole, no trailing byte. The tensors are in order of their offsets and
// point into `file`. An Error (kSafetensors) naming `path`, what was expected and what was found. An unknown dtype is
// an error too: its size cannot be checked.
std::vector<Tensor> ParseSafetensors(std::span<const std::byte> file, std::string_view path);

class SafetensorsFile {
 public:
  static std::shared_ptr<const SafetensorsFile> Open(const std::string& path, FileAccess access = {});

  const std::string& path() const { return path_; }
  const std::vector<Tensor>& tensors() const { return tensors_; }
  const MappedFile& file() const { return file_; }
  // Tensors that had to be copied, because the file holds them at odd addresses: a header whose length is no multiple
  // of 8, which the format allows and published files avoid.
  size_t realigned() const { return realigned_.size(); }

 private:
  SafetensorsFile(const std::string& path, const FileAccess& access) : path_(path), file_(path, access) {}
  void Realign();

  std::string path_;
  MappedFile file_;
  std::vector<Tensor> tensors_;
  std::vector<std::unique_ptr<std::byte[]>> realigned_;
};

// How a checkpoint's files come into memory.
struct CheckpointAccess {
  bool map = true;                                           // false: they are read (FileAccess)
  std::function<void(size_t done, size_t total)> on_read{};  // bytes; hears several times a second, one call at a time
};

// All tensors of a model folder: model.safetensors, or the shards of model.safetensors.index.json, or the folder's only
// *.safetensors; or those of a GGUF file and its further parts (core/gguf.h), under DeepSeek's names.
class Checkpoint {
 public:
  // Errors: kNoModel (no such folder), kMissingFile (no weights, a missing shard), kSafetensors (a malformed file or
  // index, an index and shards that disagree).
  static Checkpoint Open(const std::string& folder, const CheckpointAccess& access = {});

  const std::string& folder() const { return folder_; }
  // The tensor of that name, or null. Pointers stay valid as long as a copy of files() lives.
  const Tensor* Find(std::string_view name) const;
  const std::map<std::string, const Tensor*, std::less<>>& tensors() const { return tensors_; }
  const std::vector<std::shared_ptr<const SafetensorsFile>>& files() const { return files_; }
  // What else keeps the tensors alive: of a GGUF model, its files.
  const std::shared_ptr<const void>& gguf() const { return gguf_; }
  // The files that are mapped, in order, whole.
  const std::vector<MappedStretch>& mappings() const { return mappings_; }

 private:
  void AddMapping(const MappedFile& file, std::shared_ptr<const void> owner);

  std::string folder_;
  std::vector<MappedStretch> mappings_;
  std::shared_ptr<const void> gguf_;
  std::vector<std::shared_ptr<const SafetensorsFile>> files_;
  std::map<std::string, const Tensor*, std::less<>> tensors_;
};

// The weight_map of an index (tensor name -> file name), checked: file names are bare names ending in .safetensors.
std::map<std::string, std::string> ParseSafetensorsIndex(std::string_view text, std::string_view path);

}  // namespace mxmla
