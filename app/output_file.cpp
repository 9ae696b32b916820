#include "output_file.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "core/error.h"

namespace mxmla::app {

OutputFile::OutputFile(const std::string& path) : path_(path) {
  std::error_code error;
  if (path.empty()) Fail(ErrorCode::kOutput, "output", "the name of a file", "an empty name");
  // A link stays a link: what it points to is written. Devices, /dev/stdout among them, are written as they are, even
  // where the shell has pointed them at a regular file.
  const bool device = path.starts_with("/dev/") || path.starts_with("/proc/");
  if (!device && std::filesystem::is_symlink(path, error)) {
    const std::filesystem::path target = std::filesystem::weakly_canonical(path, error);
    if (!error) path_ = target.string();
  }
  const std::filesystem::file_status status = std::filesystem::status(path_, error);
  if (std::filesystem::is_directory(status)) {
    Fail(ErrorCode::kOutput, "output " + path, "a file that can be written", "a folder");
  }
  const bool direct = device || (std::filesystem::exists(status) && !std::filesystem::is_regular_file(status));
  if (!direct) {
    temporary_ = fmt::format("{}.partial-{}", path_, getpid());
    guard_.emplace(temporary_);
  }
  file_ = std::fopen((direct ? path_ : temporary_).c_str(), "wb");
  if (!file_) FailSystem(std::strerror(errno));
}

OutputFile::~OutputFile() {
  if (file_) std::fclose(file_);
  if (!temporary_.empty()) std::remove(temporary_.c_str());
}

void OutputFile::Write(const void* data, size_t bytes) {
  if (bytes > 0 && std::fwrite(data, 1, bytes, file_) != bytes) FailSystem(std::strerror(errno));
}

void OutputFile::Commit() {
  const bool closed = std::fclose(file_) == 0;
  file_ = nullptr;
  if (!closed) FailSystem(std::strerror(errno));
  if (temporary_.empty()) return;
  if (std::rename(temporary_.c_str(), path_.c_str()) != 0) FailSystem(std::strerror(errno));
  temporary_.clear();
  guard_.reset();
}

void OutputFile::FailSystem(const std::string& what) const {
  Fail(ErrorCode::kOutput, "output " + path_, "a file that can be written", what, "choose another place");
}

}  // namespace mxmla::app
