// How much memory this process may still take.
#pragma once

#include <cstddef>

namespace mxmla {

// Bytes that the system calls available, which counts what it holds of files and could drop, or fewer where a control
// group allows fewer (core/cgroup.h). SIZE_MAX where neither says.
size_t AvailableMemory();

}  // namespace mxmla
