// The state of a wave of 64 lanes and of the workgroup it belongs to.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <deque>
#include <string>
#include <vector>

#include "counters.h"
#include "device_memory.h"
#include "error.h"
#include "instruction.h"
#include "lds_races.h"

namespace gfx950emu {

struct alignas(64) Lanes {
  uint32_t lane[kLanes];
};

struct Workgroup {
  Workgroup(uint32_t lds_bytes) : lds(lds_bytes), races(lds_bytes) {}  // NOLINT(google-explicit-constructor)

  std::vector<uint8_t> lds;
  LdsRaces races;
};

struct Wave {
  alignas(64) uint32_t v[kVectorRegisters][kLanes];
  uint32_t s[128];
  bool scc;
  bool done, at_barrier;
  const Instruction* pc;  // the next one
  int index;              // in its workgroup
  Workgroup* group;
  const DeviceMemory* memory;
  DeviceMemory::Range last_buffer;  // of the last access
  Counters* counters;
  std::vector<uint8_t> scratch;  // private memory, lane by lane
  uint32_t scratch_bytes;        // of a lane

  // Loads whose results s_waitcnt has not yet awaited, oldest first.
  struct Outstanding {
    Counted counted;
    bool vector;  // registers are VGPRs
    uint16_t first, count;
  };
  std::deque<Outstanding> outstanding;

  uint64_t exec() const { return s[kExec] | uint64_t{s[kExec + 1]} << 32; }
  void SetExec(uint64_t mask) {
    s[kExec] = static_cast<uint32_t>(mask);
    s[kExec + 1] = static_cast<uint32_t>(mask >> 32);
  }
  uint64_t vcc() const { return s[kVcc] | uint64_t{s[kVcc + 1]} << 32; }
  const Instruction& Current() const { return *current; }
  const Instruction* current = nullptr;  // the one that runs

  // Host memory of an access to global memory. Errors: outside of every buffer, or a store to a read-only one.
  uint8_t* Global(uint64_t address, uint32_t bytes, bool store) {
    if (address < last_buffer.begin || address + bytes > last_buffer.end || (store && !last_buffer.writable)) {
      FindBuffer(address, bytes, store);
    }
    return reinterpret_cast<uint8_t*>(address);
  }
  uint8_t* Lds(uint32_t address, uint32_t bytes, LdsAccess access) {
    if (uint64_t{address} + bytes > group->lds.size()) FailLds(address, bytes);
    const std::string collision = group->races.Touch(index, address, bytes, access);
    if (!collision.empty()) throw Error(collision + ": " + current->text);
    return group->lds.data() + address;
  }

 private:
  void FindBuffer(uint64_t address, uint32_t bytes, bool store);
  [[noreturn]] void FailLds(uint32_t address, uint32_t bytes) const;
};

}  // namespace gfx950emu
