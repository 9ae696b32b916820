#include "interrupt.h"

#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>

#include "core/error.h"

namespace mxmla::app {
namespace {

std::atomic<bool> interrupted{false};
int pipe_ends[2] = {-1, -1};  // for poll: a flag alone could be raised between its check and the wait

void OnInterrupt(int) {
  const int saved = errno;
  interrupted = true;
  // A full pipe is readable already.
  if (write(pipe_ends[1], "", 1) < 0) errno = 0;
  errno = saved;
}

}  // namespace

Interrupts::Interrupts(bool only_first) {
  interrupted = false;
  if (pipe2(pipe_ends, O_CLOEXEC | O_NONBLOCK) != 0) {
    Fail(ErrorCode::kInternal, "pipe for SIGINT", "two free descriptors", std::strerror(errno));
  }
  sigaction(SIGINT, nullptr, &previous_);
  if (previous_.sa_handler == SIG_IGN) return;
  struct sigaction action {};
  sigemptyset(&action.sa_mask);
  action.sa_handler = OnInterrupt;
  // SA_RESTART: output that a terminal takes slowly is not cut short.
  action.sa_flags = SA_RESTART | (only_first ? static_cast<int>(SA_RESETHAND) : 0);
  sigaction(SIGINT, &action, nullptr);
}

Interrupts::~Interrupts() {
  sigaction(SIGINT, &previous_, nullptr);
  for (int& end : pipe_ends) {
    close(end);
    end = -1;
  }
}

bool Interrupts::pending() const { return interrupted; }

bool Interrupts::Take() {
  char bytes[64];
  while (read(pipe_ends[0], bytes, sizeof(bytes)) > 0) {
  }
  return interrupted.exchange(false);
}

int Interrupts::descriptor() const { return pipe_ends[0]; }

}  // namespace mxmla::app
