#include "checkpoint/writer.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>

namespace mxmla {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void FailOutput(const std::string& path, std::string_view expected, std::string_view found,
                             std::string_view hint = {}) {
  Fail(ErrorCode::kOutput, path, expected, found, hint);
}

std::string SystemMessage(int error) { return std::error_code(error, std::generic_category()).message(); }

int OpenForWriting(const std::string& path) {
  const int descriptor = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (descriptor < 0) FailOutput(path, "a new file", SystemMessage(errno));
  return descriptor;
}

void WriteAll(int descriptor, const std::string& path, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t count = write(descriptor, bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && errno == EFAULT) {
      // The bytes lie in a mapped file that lost pages; write says so where an access would raise SIGBUS.
      if (const char* problem = MappedFileProblem(bytes.data())) throw Error(ErrorCode::kSafetensors, problem);
      errno = EFAULT;
    }
    if (count < 0) FailOutput(path, fmt::format("to write {} more bytes", bytes.size()), SystemMessage(errno));
    bytes = bytes.subspan(static_cast<size_t>(count));
  }
}

// Flushes to the disk and closes, so that an error of a late write is seen.
void CloseDurably(int descriptor, const std::string& path) {
  int problem = fsync(descriptor) == 0 ? 0 : errno;
  if (close(descriptor) != 0 && problem == 0) problem = errno;
  if (problem != 0) FailOutput(path, "to write the file to the disk", SystemMessage(problem));
}

void SyncFolder(const std::string& path) {
  const int descriptor = open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) return;  // not every file system lets a folder be opened; its files are safe already
  fsync(descriptor);
  close(descriptor);
}

std::string ParentOf(const std::string& path) {
  const std::string parent = fs::path(path).parent_path().string();
  return parent.empty() ? "." : parent;
}

}  // namespace

OutputFolder::OutputFolder(std::string destination) : destination_(std::move(destination)) {
  while (destination_.size() > 1 && destination_.back() == '/') destination_.pop_back();
  std::error_code status;
  const bool taken = fs::symlink_status(destination_, status).type() != fs::file_type::not_found;
  if (destination_.empty() || taken) {
    FailOutput(destination_, "the name of a new folder", destination_.empty() ? "an empty name" : "one that exists",
               "give another name, or remove it first");
  }
  if (!fs::is_directory(ParentOf(destination_), status)) {
    FailOutput(destination_, "a new folder in one that exists", "no folder " + ParentOf(destination_));
  }
  partial_ = fmt::format("{}.partial-{}", destination_, getpid());
  guard_.emplace(partial_);
  fs::create_directory(partial_, status);
  if (status) {
    const std::string message = status.message();
    const std::string path = std::exchange(partial_, {});
    guard_.reset();
    FailOutput(path, "to create this folder", message);
  }
}

OutputFolder::~OutputFolder() {
  if (partial_.empty()) return;
  std::error_code ignored;
  fs::remove_all(partial_, ignored);
}

uint64_t OutputFolder::FreeBytes() const {
  std::error_code status;
  const fs::space_info space = fs::space(partial_, status);
  return status ? UINT64_MAX : space.available;
}

void OutputFolder::Commit() {
  SyncFolder(partial_);
  std::error_code status;
  fs::rename(partial_, destination_, status);
  if (status) FailOutput(destination_, "to rename " + partial_ + " to this", status.message());
  guard_.reset();
  partial_.clear();
  SyncFolder(ParentOf(destination_));
}

size_t OutputTensor::bytes() const {
  int64_t bits = TensorDTypeBits(dtype);
  for (int64_t extent : shape) bits *= extent;
  return static_cast<size_t>(bits / 8);
}

SafetensorsWriter::SafetensorsWriter(std::string path, const std::vector<OutputTensor>& tensors)
    : path_(std::move(path)) {
  std::string header = R"({"__metadata__":{"format":"pt"})";
  for (const OutputTensor& tensor : tensors) {
    const uint64_t begin = remaining_;
    remaining_ += tensor.bytes();
    header +=
        ',' + nlohmann::json(tensor.name).dump() + ':' +
        nlohmann::ordered_json{
            {"dtype", TensorDTypeName(tensor.dtype)}, {"shape", tensor.shape}, {"data_offsets", {begin, remaining_}}}
            .dump();
  }
  header += '}';
  std::byte prefix[8];
  // So that the data begins on a cache line: kernels read whole lines, and one that straddles two is two.
  constexpr size_t kLine = 64;
  header.append((kLine - (sizeof(prefix) + header.size()) % kLine) % kLine, ' ');
  const uint64_t length = header.size();
  for (int i = 0; i < 8; ++i) prefix[i] = static_cast<std::byte>(length >> (8 * i));
  descriptor_ = OpenForWriting(path_);
  try {
    WriteAll(descriptor_, path_, prefix);
    WriteAll(descriptor_, path_, std::as_bytes(std::span(header)));
  } catch (...) {
    close(descriptor_);
    throw;
  }
}

SafetensorsWriter::~SafetensorsWriter() {
  if (descriptor_ >= 0) close(descriptor_);
}

void SafetensorsWriter::Write(std::span<const std::byte> bytes) {
  if (bytes.size() > remaining_) {
    Fail(ErrorCode::kInternal, path_, fmt::format("{} more bytes", remaining_), fmt::format("{}", bytes.size()));
  }
  WriteAll(descriptor_, path_, bytes);
  remaining_ -= bytes.size();
}

void SafetensorsWriter::Finish() {
  if (remaining_ != 0) Fail(ErrorCode::kInternal, path_, fmt::format("{} more bytes", remaining_), "the end");
  CloseDurably(std::exchange(descriptor_, -1), path_);
}

void WriteFile(const std::string& path, std::string_view content) {
  const int descriptor = OpenForWriting(path);
  try {
    WriteAll(descriptor, path, std::as_bytes(std::span(content)));
  } catch (...) {
    close(descriptor);
    throw;
  }
  CloseDurably(descriptor, path);
}

void CopyFile(const std::string& from, const std::string& to) {
  std::error_code status;
  fs::copy_file(from, to, status);
  if (status) FailOutput(to, "a copy of " + from, status.message());
  const int descriptor = open(to.c_str(), O_WRONLY | O_CLOEXEC);
  if (descriptor >= 0) CloseDurably(descriptor, to);
}

}  // namespace mxmla
