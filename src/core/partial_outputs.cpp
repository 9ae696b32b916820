#include "core/partial_outputs.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstring>

#include "core/error.h"

namespace mxmla {
namespace {

constexpr int kOutputs = 16;
constexpr int kMappings = 4096;

struct Mapping {
  std::atomic<uintptr_t> begin{0};
  std::atomic<uintptr_t> end{0};
  std::atomic<const char*> line{nullptr};
  std::atomic<bool> taken{false};
};

std::array<std::atomic<char*>, kOutputs> outputs;
std::array<Mapping, kMappings> mappings;
struct sigaction previous_bus;

char* Duplicate(const std::string& text) {
  char* copy = new char[text.size() + 1];
  std::memcpy(copy, text.c_str(), text.size() + 1);
  return copy;
}

// opendir allocates, which a signal handler must not, so the system call is made here.
void RemoveFilesIn(int folder) {
  alignas(dirent64) char buffer[8192];
  for (;;) {
    const long bytes = syscall(SYS_getdents64, folder, buffer, sizeof(buffer));
    if (bytes <= 0) return;
    for (long at = 0; at < bytes;) {
      const auto* entry = reinterpret_cast<const dirent64*>(buffer + at);
      unlinkat(folder, entry->d_name, 0);
      at += entry->d_reclen;
    }
  }
}

void RemovePartialOutputs() {
  constexpr int kTries = 100;  // another thread may be creating a file meanwhile
  for (std::atomic<char*>& slot : outputs) {
    const char* path = slot.load();
    if (!path || unlink(path) == 0) continue;
    for (int i = 0; i < kTries && rmdir(path) != 0 && (errno == ENOTEMPTY || errno == EEXIST); ++i) {
      const int folder = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
      if (folder < 0) break;
      RemoveFilesIn(folder);
      close(folder);
    }
  }
}

void OnFatalSignal(int signal) {
  RemovePartialOutputs();
  // The handler was reset to the default (SA_RESETHAND): the caller sees the signal as the cause of the end.
  raise(signal);
}

void OnBusError(int, siginfo_t* info, void*) {
  const char* line = info->si_code > 0 ? MappedFileProblem(info->si_addr) : nullptr;
  RemovePartialOutputs();
  if (!line) {
    // Not a mapped file: the access faults again, now without this handler.
    sigaction(SIGBUS, &previous_bus, nullptr);
    if (info->si_code <= 0) raise(SIGBUS);
    return;
  }
  // Other threads may fault as well; one speaks.
  static std::atomic_flag spoken = ATOMIC_FLAG_INIT;
  if (spoken.test_and_set()) {
    for (;;) pause();
  }
  const char* const parts[] = {"mxmla: ", line, "\n"};
  for (const char* part : parts) {
    if (write(STDERR_FILENO, part, std::strlen(part)) < 0) break;
  }
  _exit(static_cast<int>(ErrorCode::kSafetensors));
}

}  // namespace

PartialOutput::PartialOutput(const std::string& path) : path_(Duplicate(path)) {
  for (int i = 0; i < kOutputs && slot_ < 0; ++i) {
    char* free = nullptr;
    if (outputs[i].compare_exchange_strong(free, path_)) slot_ = i;
  }
}

PartialOutput::~PartialOutput() {
  if (slot_ >= 0) outputs[slot_] = nullptr;
  delete[] path_;
}

MappedRange::MappedRange(const void* begin, size_t bytes, const std::string& path)
    : line_(Duplicate(ErrorLine(path, "a file that stays as it was when it was opened",
                                "one that was shortened, or that the system cannot read",
                                "leave the model's files alone while mxmla runs, or check the disk"))) {
  for (int i = 0; i < kMappings && slot_ < 0; ++i) {
    if (mappings[i].taken.exchange(true)) continue;
    slot_ = i;
    mappings[i].line = line_;
    mappings[i].begin = reinterpret_cast<uintptr_t>(begin);
    mappings[i].end = reinterpret_cast<uintptr_t>(begin) + bytes;
  }
}

MappedRange::~MappedRange() {
  if (slot_ >= 0) {
    mappings[slot_].end = 0;
    mappings[slot_].line = nullptr;
    mappings[slot_].taken = false;
  }
  delete[] line_;
}

const char* MappedFileProblem(const void* address) {
  const auto at = reinterpret_cast<uintptr_t>(address);
  for (const Mapping& mapping : mappings) {
    if (at >= mapping.begin && at < mapping.end) return mapping.line;
  }
  return nullptr;
}

void InstallSignalHandlers() {
  struct sigaction action {};
  sigfillset(&action.sa_mask);
  action.sa_handler = OnFatalSignal;
  action.sa_flags = SA_RESETHAND;
  for (int signal : {SIGHUP, SIGINT, SIGQUIT, SIGILL, SIGABRT, SIGFPE, SIGSEGV, SIGPIPE, SIGALRM, SIGTERM, SIGUSR1,
                     SIGUSR2, SIGXCPU, SIGVTALRM}) {
    struct sigaction current {};
    if (sigaction(signal, nullptr, &current) == 0 && current.sa_handler == SIG_DFL) {
      sigaction(signal, &action, nullptr);
    }
  }
  std::signal(SIGXFSZ, SIG_IGN);
  struct sigaction bus {};
  sigfillset(&bus.sa_mask);
  bus.sa_sigaction = OnBusError;
  bus.sa_flags = SA_SIGINFO;
  sigaction(SIGBUS, &bus, &previous_bus);
}

}  // namespace mxmla
