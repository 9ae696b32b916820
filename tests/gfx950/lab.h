// A wave of the emulator with chosen registers, in which a test runs instructions by their text.
#pragma once

#include <array>
#include <bit>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "disassembly.h"
#include "operands.h"

namespace gfx950emu {

inline constexpr uint32_t kUntouched = 0xffdeadbe;  // what every register begins with

// The opcodes that a Lab has run: opcode_coverage.cpp asks for all of them.
inline std::set<std::string>& RunOpcodes() {
  static std::set<std::string> names;
  return names;
}

class Lab {
 public:
  Lab() : group_(kLdsBytes), wave_(std::make_unique<Wave>()) {
    Wave& w = *wave_;
    for (auto& reg : w.v) std::fill(std::begin(reg), std::end(reg), kUntouched);
    std::fill(std::begin(w.s), std::end(w.s), kUntouched);
    counters_.by_opcode.resize(4096);
    w.scc = w.done = w.at_barrier = false;
    w.index = 0;
    w.group = &group_;
    w.memory = &memory_;
    w.counters = &counters_;
    w.scratch_bytes = 0;
    w.SetExec(~0ull);
  }

  Wave& wave() { return *wave_; }
  DeviceMemory& memory() { return memory_; }
  Workgroup& group() { return group_; }
  Counters& counters() { return counters_; }

  // The same in every lane, or value(lane).
  void Set(int reg, uint32_t value) { std::fill_n(wave_->v[reg], kLanes, value); }
  template <class F>
  void SetLanes(int reg, const F& value) {
    for (int l = 0; l < kLanes; ++l) wave_->v[reg][l] = static_cast<uint32_t>(value(l));
  }
  uint32_t Get(int reg, int lane = 0) const { return wave_->v[reg][lane]; }
  float GetFloat(int reg, int lane = 0) const { return AsFloat(Get(reg, lane)); }
  uint32_t s(int reg) const { return wave_->s[reg]; }

  void Run(const std::string& text) {
    code_.push_back(std::make_unique<Instruction>(ParseInstruction(text)));
    const Instruction& i = *code_.back();
    wave_->current = &i;
    RunOpcodes().insert(i.name);
    i.run(*wave_, i);
  }

 private:
  static constexpr uint32_t kLdsBytes = 1024;

  DeviceMemory memory_;
  Workgroup group_;
  Counters counters_;
  std::unique_ptr<Wave> wave_;
  std::vector<std::unique_ptr<Instruction>> code_;
};

// --- what cases are written with ---

using Words = std::array<uint32_t, 6>;

constexpr uint32_t F(float value) { return std::bit_cast<uint32_t>(value); }
constexpr uint64_t D(double value) { return std::bit_cast<uint64_t>(value); }
constexpr Words In(uint64_t a, uint64_t b = 0, uint64_t c = 0) {
  return {static_cast<uint32_t>(a),       static_cast<uint32_t>(a >> 32), static_cast<uint32_t>(b),
          static_cast<uint32_t>(b >> 32), static_cast<uint32_t>(c),       static_cast<uint32_t>(c >> 32)};
}

// Inputs in v2 .. v7 and in s2 .. s7; SCC is 1, and of VCC the odd lanes' bits are.
struct LabWith : Lab {
  explicit LabWith(const Words& in) {
    for (int i = 0; i < 6; ++i) {
      Set(2 + i, in[static_cast<size_t>(i)]);
      wave().s[2 + i] = in[static_cast<size_t>(i)];
    }
    wave().s[kVcc] = wave().s[kVcc + 1] = 0xaaaaaaaa;
    wave().scc = true;
  }
};

// `count` vector registers, as an instruction names them.
inline std::string Registers(int first, int count) {
  if (count == 1) return "v" + std::to_string(first);
  return "v[" + std::to_string(first) + ":" + std::to_string(first + count - 1) + "]";
}

}  // namespace gfx950emu
