#include "device_memory.h"

#include <mutex>

namespace gfx950emu {

void DeviceMemory::Register(const void* data, size_t bytes, bool writable) {
  const auto begin = reinterpret_cast<uint64_t>(data);
  const std::unique_lock lock(mutex_);
  ranges_[begin] = {begin, begin + bytes, writable};
}

bool DeviceMemory::Forget(const void* data) {
  const std::unique_lock lock(mutex_);
  return ranges_.erase(reinterpret_cast<uint64_t>(data)) > 0;
}

DeviceMemory::Range DeviceMemory::Below(uint64_t address) const {
  const std::shared_lock lock(mutex_);
  auto at = ranges_.upper_bound(address);
  if (at == ranges_.begin()) return {};
  return (--at)->second;
}

DeviceMemory::Range DeviceMemory::Find(uint64_t address, uint64_t bytes) const {
  const Range range = Below(address);
  return address >= range.begin && address + bytes <= range.end && address + bytes >= address ? range : Range{};
}

}  // namespace gfx950emu
