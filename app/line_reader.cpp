#include "line_reader.h"

#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "core/error.h"

namespace mxmla::app {

bool LineReader::TakeLine(std::string* line) {
  const size_t end = buffer_.find('\n', searched_);
  if (end == std::string::npos) {
    searched_ = buffer_.size();
    return false;
  }
  *line = buffer_.substr(0, end);
  if (line->ends_with('\r')) line->pop_back();
  buffer_.erase(0, end + 1);
  searched_ = 0;
  return true;
}

LineReader::Outcome LineReader::Read(std::string* line) {
  for (;;) {
    if (TakeLine(line)) return Outcome::kLine;
    if (ended_) {
      if (buffer_.empty()) return Outcome::kEnd;
      line->swap(buffer_);
      buffer_.clear();
      return Outcome::kLine;
    }
    pollfd waits[2] = {{STDIN_FILENO, POLLIN, 0}, {interrupts_.descriptor(), POLLIN, 0}};
    if (poll(waits, 2, -1) < 0 && errno != EINTR) {
      Fail(ErrorCode::kInternal, "standard input", "to be waited for", std::strerror(errno));
    }
    if (interrupts_.Take()) {
      buffer_.clear();
      searched_ = 0;
      return Outcome::kInterrupt;
    }
    if (waits[0].revents == 0) continue;
    char bytes[4096];
    const ssize_t count = read(STDIN_FILENO, bytes, sizeof(bytes));
    if (count < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (count < 0) {
      Fail(ErrorCode::kData, "standard input", "one that can be read",
           errno == EBADF    ? "one that is closed"
           : errno == EISDIR ? "a folder"
                             : std::strerror(errno));
    }
    if (count == 0) ended_ = true;
    buffer_.append(bytes, static_cast<size_t>(count));
  }
}

}  // namespace mxmla::app
