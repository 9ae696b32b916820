// The processor time that the control groups of this process allow it.
#pragma once

#include <string>

namespace mxmla {

// Whole processors' worth of time, at least 1: the smallest quota of the process's own cgroup and of those above it, as
// far as they are mounted (v2, and v1's cpu controller). A large number without a quota. `process` is the folder with
// the files cgroup and mountinfo.
int CgroupProcessors(const std::string& process = "/proc/self");

}  // namespace mxmla
