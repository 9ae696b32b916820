// The processor time and the memory that the control groups of this process allow it: of its own and of those above it,
// as far as they are mounted (v2, and v1's controllers cpu and memory). `process` is the folder with the files cgroup
// and mountinfo.
#pragma once

#include <cstddef>
#include <string>

namespace mxmla {

// Whole processors' worth of time, at least 1: the smallest quota. A large number without a quota.
int CgroupProcessors(const std::string& process = "/proc/self");

// The bytes that are left: the least of limit - usage, where what is held of files and could be dropped counts as left.
// SIZE_MAX without a limit.
size_t CgroupMemory(const std::string& process = "/proc/self");

}  // namespace mxmla
