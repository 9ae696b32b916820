// GGUF files: metadata and tensors, checked before a byte of them is believed. Source: ggml's docs/gguf.md.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "core/mapped_file.h"

namespace mxmla {

// ggml's element types, of which this program names those that it reads.
enum class GgmlType : uint32_t {
  kF32 = 0,
  kF16 = 1,
  kQ8_0 = 8,
  kQ4K = 12,
  kQ6K = 14,
  kBf16 = 30,
  kMxfp4 = 39,
};
// As ggml spells it: "Q4_K"; "type 99" for one that is not known.
std::string GgmlTypeName(GgmlType type);

struct GgufTensor {
  std::string name;
  GgmlType type = GgmlType::kF32;
  std::vector<int64_t> shape;  // in elements, the contiguous dimension last (the file has it first)
  std::span<const std::byte> data;
};

// Texts and lists of them point into the file.
using GgufValue = std::variant<int64_t, double, bool, std::string_view, std::vector<int64_t>, std::vector<double>,
                               std::vector<bool>, std::vector<std::string_view>>;

struct GgufHeader {
  std::map<std::string, GgufValue, std::less<>> metadata;
  std::vector<GgufTensor> tensors;  // in order of their data

  // Null where there is none of that name and type.
  template <class T>
  const T* Find(std::string_view key) const {
    const auto at = metadata.find(key);
    return at == metadata.end() ? nullptr : std::get_if<T>(&at->second);
  }
};

// Parses `file` (the whole file's bytes): magic, version 2 or 3, every length, type, shape and range; no duplicate
// names, no overlapping tensors. Integers above 2^63 - 1 are refused. An Error (kSafetensors) naming `path`, what was
// expected and what was found. Tensors of a type whose size is not known are refused too.
GgufHeader ParseGguf(std::span<const std::byte> file, std::string_view path);

class GgufFile {
 public:
  static std::shared_ptr<const GgufFile> Open(const std::string& path, const FileAccess& access = {});

  const std::string& path() const { return path_; }
  const GgufHeader& header() const { return header_; }
  const MappedFile& file() const { return file_; }

 private:
  GgufFile(const std::string& path, const FileAccess& access);

  std::string path_;
  MappedFile file_;
  GgufHeader header_;
};

// The GGUF file that `model` names: itself, or the folder's only one, or the first of its only split set
// ("NAME-00001-of-00003.gguf"); "" where the folder has none, or has a config.json. Several models in one folder are an
// Error (kMissingFile).
std::string FindGguf(const std::string& model);

// `first` and, where it is the first of a split set, the others.
std::vector<std::string> GgufParts(const std::string& first);

}  // namespace mxmla
