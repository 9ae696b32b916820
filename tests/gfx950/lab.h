// A wave of the emulator with chosen registers, in which a test runs instructions by their text.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "disassembly.h"
#include "operands.h"

namespace gfx950emu {

class Lab {
 public:
  Lab() : group_(kLdsBytes), wave_(std::make_unique<Wave>()) {
    Wave& w = *wave_;
    for (auto& reg : w.v) std::fill(std::begin(reg), std::end(reg), 0xffdeadbeu);
    std::fill(std::begin(w.s), std::end(w.s), 0xffdeadbeu);
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

}  // namespace gfx950emu
