#include "core/memory_nodes.h"

#include <linux/mempolicy.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <charconv>
#include <fstream>
#include <string>

namespace mxmla {

uint64_t ParseNodeList(std::string_view list) {
  uint64_t nodes = 0;
  while (!list.empty()) {
    const std::string_view part = list.substr(0, list.find(','));
    list.remove_prefix(part.size() == list.size() ? part.size() : part.size() + 1);
    unsigned first = 0;
    const char* const end = part.data() + part.size();
    auto [at, error] = std::from_chars(part.data(), end, first);
    if (error != std::errc()) return 0;
    unsigned last = first;
    if (at != end && *at == '-') {
      const auto range = std::from_chars(at + 1, end, last);
      if (range.ec != std::errc()) return 0;
      at = range.ptr;
    }
    if (at != end || last < first) return 0;
    for (unsigned node = first; node <= last && node < 64; ++node) nodes |= uint64_t{1} << node;
  }
  return nodes;
}

uint64_t MemoryNodes() {
  static const uint64_t nodes = [] {
    std::ifstream file("/sys/devices/system/node/has_memory");
    std::string list;
    std::getline(file, list);
    return ParseNodeList(list);
  }();
  return nodes;
}

namespace {
constexpr unsigned long kBits = 64 + 1;  // the system takes one bit less than it is told
}  // namespace

bool InterleaveMemory(void* data, size_t bytes, uint64_t nodes) {
  return syscall(SYS_mbind, data, bytes, MPOL_INTERLEAVE, &nodes, kBits, 0) == 0;
}

bool InterleaveThreadMemory(uint64_t nodes) { return syscall(SYS_set_mempolicy, MPOL_INTERLEAVE, &nodes, kBits) == 0; }

}  // namespace mxmla
