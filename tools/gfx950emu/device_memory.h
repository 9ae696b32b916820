// The memory that kernels may touch: buffers of the host's own address space, known by their bounds.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <shared_mutex>

namespace gfx950emu {

class DeviceMemory {
 public:
  struct Range {
    uint64_t begin = 0, end = 0;
    bool writable = false;
  };

  void Register(const void* data, size_t bytes, bool writable);
  // False when no buffer begins there.
  bool Forget(const void* data);
  // The buffer that holds [address, address + bytes), or one of no extent.
  Range Find(uint64_t address, uint64_t bytes) const;
  // Where the nearest buffer below begins and ends, for error texts.
  Range Below(uint64_t address) const;

 private:
  mutable std::shared_mutex mutex_;
  std::map<uint64_t, Range> ranges_;  // by their first address
};

}  // namespace gfx950emu
