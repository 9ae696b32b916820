#include "core/available_memory.h"

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <string>

#include "core/cgroup.h"

namespace mxmla {
namespace {

size_t SystemMemory() {
  std::ifstream info("/proc/meminfo");
  std::string key;
  size_t kilobytes = 0;
  for (std::string unit; info >> key >> kilobytes; std::getline(info, unit)) {
    if (key == "MemAvailable:") return kilobytes * 1024;
  }
  return SIZE_MAX;
}

}  // namespace

size_t AvailableMemory() { return std::min(SystemMemory(), CgroupMemory()); }

}  // namespace mxmla
