#include "grammar/trial.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <fstream>
#include <new>
#include <string>

#include "core/error.h"

namespace mxmla {
namespace {

constexpr size_t kLongestMessage = size_t{128} << 10;
constexpr int kClockSecondsPerSecond = 6;  // a machine may be busy

// What a trial says: its first byte, behind kRefused a text.
enum Verdict : char { kGood = 'G', kRefused = 'R', kTime = 'T', kMemory = 'M' };

int result_pipe = -1;  // for the signal handler of a trial, which has one thread that writes

void SayTime(int) {
  const char verdict = kTime;
  const ssize_t written = write(result_pipe, &verdict, 1);
  _exit(written == 1 ? 0 : 1);
}

void WriteAll(int file, const std::string& text) {
  for (size_t done = 0; done < text.size();) {
    const ssize_t count = write(file, text.data() + done, text.size() - done);
    if (count < 0 && errno != EINTR) return;  // nobody listens any more
    if (count > 0) done += static_cast<size_t>(count);
  }
}

void Limit(int resource, rlim_t soft, rlim_t hard) {
  const rlimit limit{soft, hard};
  setrlimit(static_cast<__rlimit_resource>(resource), &limit);
}

// Address space in use, bytes.
size_t AddressSpace() {
  size_t pages = 0;
  std::ifstream("/proc/self/statm") >> pages;
  return pages * static_cast<size_t>(sysconf(_SC_PAGESIZE));
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;  // shadow memory is address space, too
#else
constexpr bool kSanitized = false;
#endif

GrammarLimits WithinMessage(GrammarLimits limits) {
  limits.source_bytes = std::min(limits.source_bytes, kLongestMessage - 1);
  return limits;
}

// A message and the pipe that came with it; false at the end.
bool Receive(int socket, std::string* message, int* pipe) {
  message->resize(kLongestMessage);
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
  iovec piece{message->data(), message->size()};
  msghdr header{};
  header.msg_iov = &piece;
  header.msg_iovlen = 1;
  header.msg_control = control.data();
  header.msg_controllen = control.size();
  ssize_t count = 0;
  do {
    count = recvmsg(socket, &header, MSG_CMSG_CLOEXEC);
  } while (count < 0 && errno == EINTR);
  const cmsghdr* attached = count > 0 ? CMSG_FIRSTHDR(&header) : nullptr;
  if (!attached || attached->cmsg_type != SCM_RIGHTS) return false;
  std::memcpy(pipe, CMSG_DATA(attached), sizeof(int));
  message->resize(static_cast<size_t>(count));
  return true;
}

bool Send(int socket, std::string& message, int pipe) {
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
  iovec piece{message.data(), message.size()};
  msghdr header{};
  header.msg_iov = &piece;
  header.msg_iovlen = 1;
  header.msg_control = control.data();
  header.msg_controllen = control.size();
  cmsghdr* attached = CMSG_FIRSTHDR(&header);
  attached->cmsg_level = SOL_SOCKET;
  attached->cmsg_type = SCM_RIGHTS;
  attached->cmsg_len = CMSG_LEN(sizeof(int));
  std::memcpy(CMSG_DATA(attached), &pipe, sizeof(int));
  ssize_t count = 0;
  do {
    count = sendmsg(socket, &header, MSG_NOSIGNAL);
  } while (count < 0 && errno == EINTR);
  return count == static_cast<ssize_t>(message.size());
}

// All that is written until the pipe is closed, or until the time is over.
std::string ReadAll(int pipe, std::chrono::seconds longest) {
  const auto deadline = std::chrono::steady_clock::now() + longest;
  std::string text;
  std::array<char, 4096> piece{};
  for (;;) {
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    if (left.count() <= 0) return {kTime};
    pollfd waiting{pipe, POLLIN, 0};
    if (poll(&waiting, 1, static_cast<int>(left.count())) <= 0) continue;
    const ssize_t count = read(pipe, piece.data(), piece.size());
    if (count == 0) return text;
    if (count > 0) text.append(piece.data(), static_cast<size_t>(count));
  }
}

}  // namespace

GrammarTrial::GrammarTrial(const MakeGrammarCompiler& make, const GrammarLimits& limits)
    : limits_(WithinMessage(limits)) {
  std::array<int, 2> sockets{};
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets.data()) != 0) {
    Fail(ErrorCode::kInternal, "structured output", "a socket pair", std::strerror(errno));
  }
  process_ = fork();
  if (process_ < 0) {
    const int error = errno;
    close(sockets[0]);
    close(sockets[1]);
    Fail(ErrorCode::kInternal, "structured output", "a process of its own", std::strerror(error));
  }
  if (process_ == 0) {
    close(sockets[0]);
    Serve(sockets[1], make);
  }
  close(sockets[1]);
  socket_ = sockets[0];
}

GrammarTrial::~GrammarTrial() {
  close(socket_);
  waitpid(process_, nullptr, 0);
}

void GrammarTrial::Serve(int socket, const MakeGrammarCompiler& make) const {
  prctl(PR_SET_NAME, "mxmla-grammars");
  // What ends the server ends this by closing the socket; a signal to all of a terminal's processes does not.
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGPIPE}) std::signal(signal, SIG_IGN);
  std::signal(SIGCHLD, SIG_IGN);  // nobody waits for trials
  const int nothing = open("/dev/null", O_RDWR);
  for (const int file : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) dup2(nothing, file);
  std::unique_ptr<GrammarCompiler> compiler;
  std::string message;
  for (int pipe = -1; Receive(socket, &message, &pipe); close(pipe)) {
    try {
      if (!compiler) compiler = make();
    } catch (const std::exception& error) {
      WriteAll(pipe, std::string(1, kRefused) + error.what());
      continue;
    }
    const int trial = fork();
    if (trial == 0) {
      close(socket);
      Compile(*compiler, {static_cast<GrammarKind>(message[0]), message.substr(1)}, pipe);
    }
    if (trial < 0) WriteAll(pipe, std::string(1, kMemory));
  }
  _exit(0);
}

void GrammarTrial::Compile(const GrammarCompiler& compiler, const GrammarSource& source, int result) const {
  result_pipe = result;
  std::signal(SIGXCPU, SayTime);
  std::signal(SIGALRM, SayTime);
  const auto seconds = static_cast<rlim_t>(limits_.seconds);
  Limit(RLIMIT_CPU, seconds, seconds + 1);
  Limit(RLIMIT_CORE, 0, 0);
  if (!kSanitized) {
    const size_t most = AddressSpace() + limits_.memory_bytes;
    Limit(RLIMIT_AS, most, most);
  }
  alarm(static_cast<unsigned>(limits_.seconds * kClockSecondsPerSecond));
  std::string verdict(1, kGood);
  try {
    compiler.Compile(source);
  } catch (const std::bad_alloc&) {
    verdict = kMemory;
  } catch (const std::exception& error) {
    verdict = std::string(1, kRefused) + error.what();
  }
  WriteAll(result, verdict);
  _exit(0);
}

void GrammarTrial::Check(const GrammarSource& source) const {
  constexpr const char* kSubject = "structured output";
  CheckSourceLimits(source, limits_);
  std::array<int, 2> ends{};
  if (pipe2(ends.data(), O_CLOEXEC) != 0) {
    Fail(ErrorCode::kInternal, kSubject, "a pipe", std::strerror(errno));
  }
  std::string message(1, static_cast<char>(source.kind));
  message += source.text;
  const bool sent = Send(socket_, message, ends[1]);
  const int error = errno;
  close(ends[1]);
  std::string result;
  if (sent) result = ReadAll(ends[0], std::chrono::seconds(limits_.seconds * (kClockSecondsPerSecond + 1)));
  close(ends[0]);
  if (!sent) Fail(ErrorCode::kInternal, kSubject, "the process that tries grammars", std::strerror(error));
  switch (result.empty() ? '\0' : result[0]) {
    case kGood:
      return;
    case kRefused:
      throw Error(ErrorCode::kUsage, PrintableLine(result.substr(1)));
    case kTime:
      Fail(ErrorCode::kUsage, kSubject, fmt::format("a grammar that is compiled within {} s", limits_.seconds),
           "one that takes longer", "bound its repetitions and alternatives");
    default:  // also a trial that ended without a word, such as by a deep recursion
      Fail(ErrorCode::kUsage, kSubject,
           fmt::format("a grammar that is compiled within {} MB", limits_.memory_bytes >> 20),
           "one that needs more memory or stack", "bound its repetitions, alternatives and depth");
  }
}

}  // namespace mxmla
