#include "core/gguf.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <limits>
#include <optional>
#include <set>

#include "core/error.h"
#include "core/file_kind.h"

namespace mxmla {
namespace {

namespace fs = std::filesystem;

struct TypeEntry {
  uint32_t type;
  std::string_view name;
  int64_t elements, bytes;  // of a block
};
// The sizes of all types, so that every tensor's range can be checked.
constexpr TypeEntry kTypes[] = {
    {0, "F32", 1, 4},         {1, "F16", 1, 2},         {2, "Q4_0", 32, 18},      {3, "Q4_1", 32, 20},
    {6, "Q5_0", 32, 22},      {7, "Q5_1", 32, 24},      {8, "Q8_0", 32, 34},      {9, "Q8_1", 32, 36},
    {10, "Q2_K", 256, 84},    {11, "Q3_K", 256, 110},   {12, "Q4_K", 256, 144},   {13, "Q5_K", 256, 176},
    {14, "Q6_K", 256, 210},   {15, "Q8_K", 256, 292},   {16, "IQ2_XXS", 256, 66}, {17, "IQ2_XS", 256, 74},
    {18, "IQ3_XXS", 256, 98}, {19, "IQ1_S", 256, 50},   {20, "IQ4_NL", 32, 18},   {21, "IQ3_S", 256, 110},
    {22, "IQ2_S", 256, 82},   {23, "IQ4_XS", 256, 136}, {24, "I8", 1, 1},         {25, "I16", 1, 2},
    {26, "I32", 1, 4},        {27, "I64", 1, 8},        {28, "F64", 1, 8},        {29, "IQ1_M", 256, 56},
    {30, "BF16", 1, 2},       {34, "TQ1_0", 256, 54},   {35, "TQ2_0", 256, 66},   {39, "MXFP4", 32, 17},
    {40, "NVFP4", 64, 36},
};

const TypeEntry* FindType(uint32_t type) {
  for (const TypeEntry& entry : kTypes) {
    if (entry.type == type) return &entry;
  }
  return nullptr;
}

enum ValueType : uint32_t { kU8, kI8, kU16, kI16, kU32, kI32, kF32, kBool, kString, kArray, kU64, kI64, kF64 };

constexpr size_t kMaxRank = 4;
constexpr int64_t kMaxAlignment = int64_t{1} << 20;

// Reads front to back; every read is checked against the end.
class Reader {
 public:
  Reader(std::span<const std::byte> file, std::string_view path) : file_(file), path_(path) {}

  [[noreturn]] void Fail(std::string_view where, std::string_view expected, std::string_view found) const {
    mxmla::Fail(ErrorCode::kSafetensors, fmt::format("{}: {}", path_, where), expected, found,
                "the file is damaged or incomplete; fetch it again");
  }

  size_t position() const { return at_; }
  size_t left() const { return file_.size() - at_; }

  const std::byte* Take(size_t bytes, std::string_view where) {
    if (bytes > left()) Fail(where, fmt::format("{} more bytes", bytes), fmt::format("{}", left()));
    const std::byte* data = file_.data() + at_;
    at_ += bytes;
    return data;
  }
  template <class T>
  T Read(std::string_view where) {
    T value;
    std::memcpy(&value, Take(sizeof(T), where), sizeof(T));
    return value;
  }
  std::string_view Text(std::string_view where) {
    const auto length = Read<uint64_t>(where);
    if (length > left()) Fail(where, fmt::format("a text of {} bytes", length), fmt::format("{} bytes", left()));
    return {reinterpret_cast<const char*>(Take(length, where)), static_cast<size_t>(length)};
  }

  GgufValue Value(uint32_t type, std::string_view where) {
    switch (type) {
      case kBool:
        return Read<uint8_t>(where) != 0;
      case kString:
        return Text(where);
      case kF32:
      case kF64:
        return Float(type, where);
      case kArray:
        return Array(where);
      default:
        return Integer(type, where);
    }
  }

 private:
  int64_t Integer(uint32_t type, std::string_view where) {
    switch (type) {
      case kU8:
        return Read<uint8_t>(where);
      case kI8:
        return Read<int8_t>(where);
      case kU16:
        return Read<uint16_t>(where);
      case kI16:
        return Read<int16_t>(where);
      case kU32:
        return Read<uint32_t>(where);
      case kI32:
        return Read<int32_t>(where);
      case kI64:
        return Read<int64_t>(where);
      case kU64: {
        const auto value = Read<uint64_t>(where);
        if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
          Fail(where, "an integer below 2^63", fmt::format("{}", value));
        }
        return static_cast<int64_t>(value);
      }
      default:
        Fail(where, "a type from 0 to 12", fmt::format("{}", type));
    }
  }
  double Float(uint32_t type, std::string_view where) {
    return type == kF32 ? static_cast<double>(Read<float>(where)) : Read<double>(where);
  }

  // Of values that are no lists themselves.
  GgufValue Array(std::string_view where) {
    const auto type = Read<uint32_t>(where);
    const auto count = Read<uint64_t>(where);
    constexpr size_t kSizes[] = {1, 1, 2, 2, 4, 4, 4, 1, 8, 0, 8, 8, 8};  // at least, of an element
    if (type >= std::size(kSizes) || type == kArray) {
      Fail(where, "a list of numbers, truth values or texts", fmt::format("a list of type {}", type));
    }
    if (count > left() / kSizes[type]) Fail(where, fmt::format("{} elements", count), fmt::format("{} bytes", left()));
    const auto fill = [&](auto list, auto&& read) -> GgufValue {
      list.reserve(static_cast<size_t>(count));
      for (uint64_t i = 0; i < count; ++i) list.push_back(read());
      return list;
    };
    switch (type) {
      case kString:
        return fill(std::vector<std::string_view>(), [&] { return Text(where); });
      case kBool:
        return fill(std::vector<bool>(), [&] { return Read<uint8_t>(where) != 0; });
      case kF32:
      case kF64:
        return fill(std::vector<double>(), [&] { return Float(type, where); });
      default:
        return fill(std::vector<int64_t>(), [&] { return Integer(type, where); });
    }
  }

  std::span<const std::byte> file_;
  std::string_view path_;
  size_t at_ = 0;
};

GgufTensor ReadTensor(Reader& reader, uint64_t* offset, size_t* bytes) {
  GgufTensor tensor;
  tensor.name = reader.Text("a tensor's name");
  const std::string where = fmt::format("tensor \"{}\"", tensor.name);
  const auto rank = reader.Read<uint32_t>(where);
  if (rank < 1 || rank > kMaxRank) reader.Fail(where, "1 to 4 dimensions", fmt::format("{}", rank));
  // At most 2^62 elements, so that bytes do not overflow either.
  constexpr uint64_t kMost = uint64_t{1} << 56;
  uint64_t elements = 1;
  for (uint32_t d = 0; d < rank; ++d) {
    const auto extent = reader.Read<uint64_t>(where);
    if (extent == 0 || extent > kMost / elements) {
      reader.Fail(where, "extents from 1, 2^56 elements at most", fmt::format("{}", extent));
    }
    elements *= extent;
    tensor.shape.insert(tensor.shape.begin(), static_cast<int64_t>(extent));
  }
  const auto type = reader.Read<uint32_t>(where);
  tensor.type = static_cast<GgmlType>(type);
  const TypeEntry* entry = FindType(type);
  if (!entry) reader.Fail(where, "a type whose size is known", GgmlTypeName(tensor.type));
  if (tensor.shape.back() % entry->elements != 0) {
    reader.Fail(where, fmt::format("rows of a multiple of {} elements ({})", entry->elements, entry->name),
                fmt::format("{}", tensor.shape.back()));
  }
  *offset = reader.Read<uint64_t>(where);
  *bytes = static_cast<size_t>(elements / static_cast<uint64_t>(entry->elements)) * static_cast<size_t>(entry->bytes);
  return tensor;
}

constexpr std::string_view kExtension = ".gguf";

// "STEM-00002-of-00003.gguf", as llama.cpp names the parts of a split model.
struct PartName {
  std::string stem;
  int number = 0, count = 0;
};

std::optional<PartName> ParsePartName(std::string_view name) {
  constexpr std::string_view kOf = "-of-";
  constexpr size_t kDigits = 5, kTail = 1 + kDigits + kOf.size() + kDigits;
  if (!name.ends_with(kExtension)) return std::nullopt;
  name.remove_suffix(kExtension.size());
  if (name.size() < kTail) return std::nullopt;
  const std::string_view tail = name.substr(name.size() - kTail);
  const auto number = [](std::string_view digits) {
    int value = 0;
    for (const char digit : digits)
      value = digit >= '0' && digit <= '9' && value >= 0 ? 10 * value + (digit - '0') : -1;
    return value;
  };
  const int part = number(tail.substr(1, kDigits)), count = number(tail.substr(kTail - kDigits));
  if (tail[0] != '-' || tail.substr(1 + kDigits, kOf.size()) != kOf || part < 0 || count < 0) return std::nullopt;
  return PartName{std::string(name.substr(0, name.size() - kTail)), part, count};
}

}  // namespace

std::string GgmlTypeName(GgmlType type) {
  const TypeEntry* entry = FindType(static_cast<uint32_t>(type));
  return entry ? std::string(entry->name) : fmt::format("type {}", static_cast<uint32_t>(type));
}

GgufHeader ParseGguf(std::span<const std::byte> file, std::string_view path) {
  RefuseForeignFile({reinterpret_cast<const char*>(file.data()), std::min<size_t>(file.size(), 512)}, std::string(path),
                    "a GGUF file", ErrorCode::kSafetensors);
  Reader reader(file, path);
  const std::byte* magic = reader.Take(4, "its first bytes");
  if (std::memcmp(magic, "GGUF", 4) != 0) reader.Fail("its first bytes", "GGUF", "others");
  const auto version = reader.Read<uint32_t>("version");
  if (version != 2 && version != 3) {
    reader.Fail("version", "2 or 3, in the order of bytes of this machine", fmt::format("{}", version));
  }
  const auto tensor_count = reader.Read<uint64_t>("tensor count");
  const auto value_count = reader.Read<uint64_t>("metadata count");
  // A tensor's entry takes 32 bytes at least, a value's 13.
  if (tensor_count > reader.left() / 32) {
    reader.Fail("tensor count", "as many as fit in the file", fmt::format("{}", tensor_count));
  }
  if (value_count > reader.left() / 13) {
    reader.Fail("metadata count", "as many as fit in the file", fmt::format("{}", value_count));
  }
  GgufHeader header;
  for (uint64_t i = 0; i < value_count; ++i) {
    const std::string key(reader.Text("a key"));
    const std::string where = fmt::format("metadata \"{}\"", key);
    const auto type = reader.Read<uint32_t>(where);
    if (!header.metadata.emplace(key, reader.Value(type, where)).second)
      reader.Fail(where, "each key once", "it twice");
  }
  int64_t alignment = 32;
  if (const auto* own = header.Find<int64_t>("general.alignment")) alignment = *own;
  if (alignment < 1 || alignment > kMaxAlignment || (alignment & (alignment - 1)) != 0) {
    reader.Fail("general.alignment", "a power of two up to 2^20", fmt::format("{}", alignment));
  }

  std::set<std::string> names;
  std::vector<std::pair<uint64_t, size_t>> ranges;  // offset and bytes
  header.tensors.reserve(static_cast<size_t>(tensor_count));
  for (uint64_t i = 0; i < tensor_count; ++i) {
    uint64_t offset = 0;
    size_t bytes = 0;
    GgufTensor tensor = ReadTensor(reader, &offset, &bytes);
    if (!names.insert(tensor.name).second) {
      reader.Fail(fmt::format("tensor \"{}\"", tensor.name), "each name once", "it twice");
    }
    ranges.emplace_back(offset, bytes);
    header.tensors.push_back(std::move(tensor));
  }
  const size_t step = static_cast<size_t>(alignment);
  const size_t begin = (reader.position() + step - 1) / step * step;
  const size_t data = begin > file.size() ? 0 : file.size() - begin;
  for (size_t i = 0; i < ranges.size(); ++i) {
    const auto& [offset, bytes] = ranges[i];
    const std::string where = fmt::format("tensor \"{}\"", header.tensors[i].name);
    if (offset % step != 0) {
      reader.Fail(where, fmt::format("an offset that is a multiple of {}", alignment), fmt::format("{}", offset));
    }
    if (offset > data || bytes > data - offset) {
      reader.Fail(where, fmt::format("{} bytes from {} on", bytes, offset), fmt::format("{} bytes of data", data));
    }
    header.tensors[i].data = file.subspan(begin + static_cast<size_t>(offset), bytes);
  }
  std::ranges::sort(header.tensors, {}, [](const GgufTensor& tensor) { return tensor.data.data(); });
  for (size_t i = 1; i < header.tensors.size(); ++i) {
    const GgufTensor& before = header.tensors[i - 1];
    if (before.data.data() + before.data.size() <= header.tensors[i].data.data()) continue;
    reader.Fail(fmt::format("tensor \"{}\"", header.tensors[i].name), "data of its own",
                fmt::format("data of \"{}\"", before.name));
  }
  return header;
}

GgufFile::GgufFile(const std::string& path, const FileAccess& access)
    : path_(path), file_(path, access), header_(ParseGguf(file_.bytes(), path_)) {}

std::shared_ptr<const GgufFile> GgufFile::Open(const std::string& path, const FileAccess& access) {
  return std::shared_ptr<const GgufFile>(new GgufFile(path, access));
}

std::string FindGguf(const std::string& model) {
  std::error_code status;
  if (fs::is_regular_file(model, status)) return model.ends_with(kExtension) ? model : "";
  if (!fs::is_directory(model, status) || fs::exists(model + "/config.json", status)) return "";
  std::vector<std::string> found;
  for (const fs::directory_entry& entry : fs::directory_iterator(model, status)) {
    const std::string name = entry.path().filename().string();
    if (!name.ends_with(kExtension) || name.starts_with("mmproj")) continue;
    if (const auto part = ParsePartName(name); part && part->number != 1) continue;
    found.push_back(entry.path().string());
  }
  std::ranges::sort(found);
  if (found.size() > 1) {
    Fail(ErrorCode::kMissingFile, model, "one model in GGUF",
         fmt::format("{} and {}", fs::path(found[0]).filename().string(), fs::path(found[1]).filename().string()),
         "name the file");
  }
  return found.empty() ? "" : found.front();
}

std::vector<std::string> GgufParts(const std::string& first) {
  const std::optional<PartName> name = ParsePartName(first);
  if (!name) return {first};
  if (name->number != 1) {
    Fail(ErrorCode::kMissingFile, first, "the first part of the model", "another part",
         fmt::format("name {}-00001-of-{:05}.gguf", name->stem, name->count));
  }
  std::vector<std::string> parts;
  for (int part = 1; part <= name->count; ++part) {
    parts.push_back(fmt::format("{}-{:05}-of-{:05}.gguf", name->stem, part, name->count));
    std::error_code status;
    if (!fs::exists(parts.back(), status)) {
      Fail(ErrorCode::kMissingFile, parts.back(), fmt::format("part {} of {}", part, name->count), "no such file",
           "fetch the missing part");
    }
  }
  return parts;
}

}  // namespace mxmla
