// Running a kernel: workgroups and waves in random order between barriers.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "code_object.h"
#include "counters.h"
#include "device_memory.h"

namespace gfx950emu {

inline constexpr uint32_t kMostLdsBytes = 160 * 1024;

struct LaunchOptions {
  uint64_t seed = 1;  // of the order of workgroups and waves, and of what uninitialised registers and LDS hold
  int threads = 1;    // of the host; each takes whole workgroups
};

struct Launch {
  std::array<uint32_t, 3> groups{1, 1, 1};
  std::array<uint32_t, 3> threads{1, 1, 1};  // of a group
  uint32_t dynamic_lds = 0;
  std::vector<uint8_t> kernarg;  // FillKernarg's
};

// The kernel's argument segment: explicit arguments from `values` (one pointer each, as HIP's kernelParams), and those
// that the compiler adds. Errors: an argument kind that is not modelled.
std::vector<uint8_t> FillKernarg(const Kernel& kernel, const Launch& launch, void* const* values);

// Errors: everything that stops a kernel, with the kernel's name and where it was.
void Run(const CodeObject& object, const Kernel& kernel, const Launch& launch, DeviceMemory& memory,
         const LaunchOptions& options, Counters* counters);

}  // namespace gfx950emu
