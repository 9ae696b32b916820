// What a kernel did: instructions by name, matrix operations, and bytes.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace gfx950emu {

// An index for every opcode name seen by this process.
uint32_t OpcodeIndex(std::string_view name);
std::string OpcodeName(uint32_t index);

struct Counters {
  std::vector<uint64_t> by_opcode;  // wave-instructions
  uint64_t matrix = 0;              // MFMA
  uint64_t global_load_bytes = 0, global_store_bytes = 0, scalar_load_bytes = 0;
  uint64_t global_lines = 0;  // lines of 128 bytes that vector memory instructions touched, each instruction by itself
  uint64_t lds_load_bytes = 0, lds_store_bytes = 0;
  uint64_t scratch_bytes = 0;
  uint64_t barriers = 0;
  uint64_t waves = 0, workgroups = 0, launches = 0;

  void Add(const Counters& other);
  uint64_t instructions() const;
  // Bytes wanted a byte of the lines touched: 1 where a wave's accesses fill whole lines.
  double coalescing() const;
  std::map<std::string, uint64_t> OpcodeCounts() const;
  // {"instructions": .., "mfma": .., ...}
  std::string Json() const;
};

}  // namespace gfx950emu
