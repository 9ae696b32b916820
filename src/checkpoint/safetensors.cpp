#include "checkpoint/safetensors.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <unordered_set>

#include "core/file_kind.h"

namespace mxmla {
namespace {

constexpr uint64_t kMaxHeader = 100'000'000;  // the format's own limit
constexpr size_t kMaxRank = 16;
constexpr size_t kLengthBytes = 8;

struct DTypeEntry {
  TensorDType dtype;
  std::string_view name;
  int64_t bits;
};
constexpr DTypeEntry kDTypes[] = {
    {TensorDType::kBool, "BOOL", 8},
    {TensorDType::kF4, "F4", 4},
    {TensorDType::kF6E2m3, "F6_E2M3", 6},
    {TensorDType::kF6E3m2, "F6_E3M2", 6},
    {TensorDType::kU8, "U8", 8},
    {TensorDType::kI8, "I8", 8},
    {TensorDType::kF8E5m2, "F8_E5M2", 8},
    {TensorDType::kF8E4m3, "F8_E4M3", 8},
    {TensorDType::kF8E8m0, "F8_E8M0", 8},
    {TensorDType::kF8E4m3Fnuz, "F8_E4M3FNUZ", 8},
    {TensorDType::kF8E5m2Fnuz, "F8_E5M2FNUZ", 8},
    {TensorDType::kI16, "I16", 16},
    {TensorDType::kU16, "U16", 16},
    {TensorDType::kF16, "F16", 16},
    {TensorDType::kBf16, "BF16", 16},
    {TensorDType::kI32, "I32", 32},
    {TensorDType::kU32, "U32", 32},
    {TensorDType::kF32, "F32", 32},
    {TensorDType::kC64, "C64", 64},
    {TensorDType::kI64, "I64", 64},
    {TensorDType::kU64, "U64", 64},
    {TensorDType::kF64, "F64", 64},
    // Of GGUF files alone: blocks, whose elements have no whole number of bits.
    {TensorDType::kQ8_0, "Q8_0", 0},
    {TensorDType::kQ4K, "Q4_K", 0},
    {TensorDType::kQ6K, "Q6_K", 0},
    {TensorDType::kGgmlMxfp4, "MXFP4", 0},
};

const DTypeEntry& Entry(TensorDType dtype) { return kDTypes[static_cast<size_t>(dtype)]; }

uint64_t LittleEndian(std::span<const std::byte> bytes) {
  uint64_t value = 0;
  for (size_t i = 0; i < bytes.size(); ++i) value |= static_cast<uint64_t>(bytes[i]) << (8 * i);
  return value;
}

// One tensor as the header describes it.
struct HeaderEntry {
  std::string name;
  std::optional<std::string> dtype;
  std::optional<std::vector<uint64_t>> shape;
  std::optional<std::vector<uint64_t>> offsets;
};

// Reads the header's JSON event by event: the form is fixed, and duplicate names, which a tree of values would merge,
// must be seen.
class HeaderReader : public nlohmann::json_sax<nlohmann::json> {
 public:
  std::vector<HeaderEntry> entries;
  std::string problem_where, problem_expected, problem_found;

  bool null() override { return Value("null"); }
  bool boolean(bool value) override { return Value(value ? "true" : "false"); }
  bool number_integer(number_integer_t value) override { return Value(std::to_string(value)); }
  bool number_unsigned(number_unsigned_t value) override {
    if (state_ != State::kShape && state_ != State::kOffsets) return Value(std::to_string(value));
    std::vector<uint64_t>& list = *(state_ == State::kShape ? entries.back().shape : entries.back().offsets);
    if (list.size() == kMaxRank) return Problem(Where(), fmt::format("at most {} numbers", kMaxRank), "more");
    list.push_back(value);
    return true;
  }
  bool number_float(number_float_t, const string_t& text) override { return Value(text); }
  bool string(string_t& text) override {
    if (state_ == State::kMetadata) return true;
    if (state_ == State::kTensor && key_ == "dtype") {
      entries.back().dtype = std::move(text);
      return true;
    }
    return Value("\"" + text + "\"");
  }
  bool binary(binary_t&) override { return Value("binary"); }

  bool start_object(std::size_t) override {
    switch (state_) {
      case State::kStart:
        state_ = State::kRoot;
        return true;
      case State::kRoot:
        state_ = key_ == "__metadata__" ? State::kMetadata : State::kTensor;
        if (state_ == State::kTensor) entries.push_back({key_, {}, {}, {}});
        keys_.clear();
        return true;
      default:
        return Value("an object");
    }
  }
  bool key(string_t& text) override {
    key_ = text;
    if (state_ == State::kRoot) {
      if (!names_.insert(text).second) return Problem("its header", "each name once", "\"" + text + "\" twice");
      return true;
    }
    if (!keys_.insert(text).second) return Problem(Where(), "each key once", "\"" + text + "\" twice");
    if (state_ == State::kTensor && text != "dtype" && text != "shape" && text != "data_offsets") {
      return Problem(Where(), "dtype, shape and data_offsets", "\"" + text + "\"");
    }
    return true;
  }
  bool end_object() override {
    state_ = state_ == State::kRoot ? State::kEnd : State::kRoot;
    return true;
  }
  bool start_array(std::size_t) override {
    if (state_ == State::kTensor && key_ == "shape") {
      state_ = State::kShape;
      entries.back().shape.emplace();
      return true;
    }
    if (state_ == State::kTensor && key_ == "data_offsets") {
      state_ = State::kOffsets;
      entries.back().offsets.emplace();
      return true;
    }
    return Value("a list");
  }
  bool end_array() override {
    state_ = State::kTensor;
    return true;
  }
  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception&) override {
    return Problem("its header", "JSON", fmt::format("text that is not JSON at byte {}", position));
  }

 private:
  enum class State { kStart, kRoot, kMetadata, kTensor, kShape, kOffsets, kEnd };

  std::string Where() const {
    return state_ == State::kMetadata || entries.empty() ? "__metadata__" : "tensor \"" + entries.back().name + "\"";
  }
  bool Problem(std::string where, std::string expected, std::string found) {
    problem_where = std::move(where);
    problem_expected = std::move(expected);
    problem_found = std::move(found);
    return false;
  }
  // A value where the form has none.
  bool Value(const std::string& found) {
    switch (state_) {
      case State::kStart:
        return Problem("its header", "a JSON object", found);
      case State::kRoot:
        return Problem("its header", "an object for \"" + key_ + "\"", found);
      case State::kMetadata:
        return Problem("__metadata__", "strings", found);
      case State::kTensor:
        return Problem(Where(), key_ == "dtype" ? "a string as dtype" : "a list as " + key_, found);
      default:
        return Problem(
            Where(),
            state_ == State::kShape ? "a shape of non-negative integers" : "data_offsets of non-negative integers",
            found);
    }
  }

  State state_ = State::kStart;
  std::string key_;
  std::unordered_set<std::string> names_;
  std::unordered_set<std::string> keys_;  // of the current object below the root
};

[[noreturn]] void FailFile(std::string_view path, std::string_view where, std::string_view expected,
                           std::string_view found, std::string_view hint = {}) {
  std::string subject(path);
  if (!where.empty()) subject += ": " + std::string(where);
  Fail(ErrorCode::kSafetensors, subject, expected, found, hint);
}

// The tensor, with everything checked but its neighbours.
Tensor CheckEntry(HeaderEntry&& entry, std::span<const std::byte> data, std::string_view path) {
  const std::string where = "tensor \"" + entry.name + "\"";
  for (const auto& [key, present] :
       {std::pair("dtype", entry.dtype.has_value()), std::pair("shape", entry.shape.has_value()),
        std::pair("data_offsets", entry.offsets.has_value())}) {
    if (!present) FailFile(path, where, key, "none");
  }
  Tensor tensor;
  const auto dtype = std::find_if(std::begin(kDTypes), std::end(kDTypes),
                                  [&](const DTypeEntry& d) { return d.bits > 0 && d.name == *entry.dtype; });
  if (dtype == std::end(kDTypes)) FailFile(path, where, "a known dtype", "\"" + *entry.dtype + "\"");
  tensor.dtype = dtype->dtype;

  uint64_t bits = static_cast<uint64_t>(dtype->bits);
  for (uint64_t extent : *entry.shape) {
    if (extent > static_cast<uint64_t>(INT64_MAX) || __builtin_mul_overflow(bits, extent, &bits)) {
      FailFile(path, where, "a shape whose size fits in 64 bits", fmt::format("({})", fmt::join(*entry.shape, ", ")));
    }
    tensor.shape.push_back(static_cast<int64_t>(extent));
  }
  if (bits % 8 != 0) FailFile(path, where, "a whole number of bytes", fmt::format("{} bits", bits));

  const std::vector<uint64_t>& offsets = *entry.offsets;
  const std::string range = fmt::format("[{}]", fmt::join(offsets, ", "));
  if (offsets.size() != 2) FailFile(path, where, "data_offsets [begin, end]", range);
  if (offsets[0] > offsets[1]) FailFile(path, where, "data_offsets with begin <= end", range);
  if (offsets[1] > data.size()) {
    FailFile(path, where, fmt::format("data_offsets within the file's {} bytes of data", data.size()), range,
             "the file is truncated or its header damaged: fetch it again");
  }
  if (offsets[1] - offsets[0] != bits / 8) {
    FailFile(path, where, fmt::format("{} bytes of {} ({})", bits / 8, dtype->name, fmt::join(tensor.shape, ", ")),
             fmt::format("{} bytes, data_offsets {}", offsets[1] - offsets[0], range));
  }
  tensor.name = std::move(entry.name);
  tensor.data = data.data() + offsets[0];
  tensor.bytes = static_cast<size_t>(offsets[1] - offsets[0]);
  tensor.file = path;
  return tensor;
}

// The tensors, sorted by offset, must cover the data exactly.
void CheckCover(const std::vector<Tensor>& tensors, std::span<const std::byte> data, std::string_view path) {
  const std::byte* end = data.data();
  std::string_view previous = "the header";
  for (const Tensor& tensor : tensors) {
    const auto begin = tensor.data - data.data();
    if (tensor.data != end) {
      const bool overlaps = tensor.data < end;
      FailFile(path, "tensor \"" + tensor.name + "\"",
               fmt::format("data_offsets that begin at {}, where \"{}\" ends", end - data.data(), previous),
               fmt::format("{}, {}", begin, overlaps ? "an overlap" : "a hole"));
    }
    end = tensor.data + tensor.bytes;
    previous = tensor.name;
  }
  if (end != data.data() + data.size()) {
    FailFile(path, {}, fmt::format("{} bytes of data, as the header says", end - data.data()),
             fmt::format("{}", data.size()), "bytes follow the last tensor");
  }
}

}  // namespace

std::string_view TensorDTypeName(TensorDType dtype) { return Entry(dtype).name; }
int64_t TensorDTypeBits(TensorDType dtype) { return Entry(dtype).bits; }

int64_t Tensor::elements() const {
  int64_t count = 1;
  for (int64_t extent : shape) count *= extent;
  return count;
}

std::string Tensor::Describe() const { return fmt::format("{} ({})", TensorDTypeName(dtype), fmt::join(shape, ", ")); }

void Tensor::CheckView(bool dtype_fits, size_t alignment, int rank) const {
  if (!dtype_fits || static_cast<int>(shape.size()) != rank) {
    Fail(ErrorCode::kTensor, name, fmt::format("a tensor of rank {} of another dtype", rank), Describe());
  }
  if (reinterpret_cast<uintptr_t>(data) % alignment != 0) {
    FailFile(file, "tensor \"" + name + "\"", fmt::format("data aligned to {} bytes", alignment),
             fmt::format("an offset of {} bytes beyond that", reinterpret_cast<uintptr_t>(data) % alignment),
             "save the file again with the safetensors library, which aligns it");
  }
}

std::vector<Tensor> ParseSafetensors(std::span<const std::byte> file, std::string_view path) {
  // A file of another kind gives no length, or one that no file has.
  const auto refuse_other_kinds = [&] {
    const std::string_view head(reinterpret_cast<const char*>(file.data()), std::min<size_t>(file.size(), 512));
    RefuseForeignFile(head, std::string(path), "a safetensors file of at least 8 bytes", ErrorCode::kSafetensors);
  };
  if (file.size() < kLengthBytes) {
    refuse_other_kinds();
    FailFile(path, {}, fmt::format("a safetensors file of at least {} bytes", kLengthBytes),
             fmt::format("{} bytes", file.size()));
  }
  const uint64_t length = LittleEndian(file.first(kLengthBytes));
  if (length > kMaxHeader) {
    refuse_other_kinds();
    FailFile(path, {}, fmt::format("a header of at most {} bytes", kMaxHeader), fmt::format("{}", length),
             "this is no safetensors file, or it is damaged");
  }
  if (length > file.size() - kLengthBytes) {
    FailFile(path, {}, fmt::format("a header of at most the file's {} bytes", file.size() - kLengthBytes),
             fmt::format("{}", length), "the file is truncated: fetch it again");
  }
  const auto* text = reinterpret_cast<const char*>(file.data()) + kLengthBytes;
  HeaderReader reader;
  if (length == 0 || text[0] != '{')
    FailFile(path, "its header", "a JSON object", length == 0 ? "nothing" : "other text");
  if (!nlohmann::json::sax_parse(text, text + length, &reader)) {
    FailFile(path, reader.problem_where, reader.problem_expected, reader.problem_found);
  }
  const std::span<const std::byte> data = file.subspan(kLengthBytes + length);
  std::vector<Tensor> tensors;
  tensors.reserve(reader.entries.size());
  for (HeaderEntry& entry : reader.entries) tensors.push_back(CheckEntry(std::move(entry), data, path));
  // An empty tensor lies before a tensor that begins at the same place.
  std::sort(tensors.begin(), tensors.end(),
            [](const Tensor& a, const Tensor& b) { return std::pair(a.data, a.bytes) < std::pair(b.data, b.bytes); });
  CheckCover(tensors, data, path);
  return tensors;
}

namespace {

// Where the data begins if this is a safetensors file, which is checked when all of it is there.
size_t DataBegin(const std::string& path) {
  std::array<std::byte, kLengthBytes> length{};
  std::error_code status;
  if (!std::filesystem::is_regular_file(path, status)) return 0;  // a pipe would wait for its writer
  std::ifstream(path, std::ios::binary).read(reinterpret_cast<char*>(length.data()), length.size());
  return kLengthBytes + LittleEndian(length);
}

}  // namespace

std::shared_ptr<const SafetensorsFile> SafetensorsFile::Open(const std::string& path, FileAccess access) {
  // Writers begin the data on a boundary of 8 bytes; what is read need not stay there.
  if (!access.map) access.line_at = DataBegin(path);
  std::shared_ptr<SafetensorsFile> file(new SafetensorsFile(path, access));
  file->tensors_ = ParseSafetensors(file->file_.bytes(), file->path_);
  file->Realign();
  return file;
}

void SafetensorsFile::Realign() {
  for (Tensor& tensor : tensors_) {
    const auto alignment = static_cast<uintptr_t>(std::max<int64_t>(1, TensorDTypeBits(tensor.dtype) / 8));
    if (tensor.bytes == 0 || reinterpret_cast<uintptr_t>(tensor.data) % alignment == 0) continue;
    auto& copy = realigned_.emplace_back(std::make_unique<std::byte[]>(tensor.bytes));
    std::memcpy(copy.get(), tensor.data, tensor.bytes);
    tensor.data = copy.get();
  }
}

}  // namespace mxmla
