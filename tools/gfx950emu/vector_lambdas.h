// Handlers of a vector operation from what it does to one lane.
#pragma once

#include "operands.h"
#include "operations.h"

namespace gfx950emu {

// f(a) and so on of 32-bit integers.
template <class F>
Operation Int1(F) {
  return {[](Wave& w, const Instruction& i) {
    Lanes buffer, result;
    const uint32_t* a = Source(w, i, 1, buffer);
    for (int l = 0; l < kLanes; ++l) result.lane[l] = static_cast<uint32_t>(F{}(a[l]));
    Commit(w, i, result);
  }};
}
template <class F>
Operation Int2(F) {
  return {[](Wave& w, const Instruction& i) {
    Lanes of_a, of_b, result;
    const uint32_t* a = Source(w, i, 1, of_a);
    const uint32_t* b = Source(w, i, 2, of_b);
    for (int l = 0; l < kLanes; ++l) result.lane[l] = static_cast<uint32_t>(F{}(a[l], b[l]));
    Commit(w, i, result);
  }};
}
template <class F>
Operation Int3(F) {
  return {[](Wave& w, const Instruction& i) {
    Lanes of_a, of_b, of_c, result;
    const uint32_t* a = Source(w, i, 1, of_a);
    const uint32_t* b = Source(w, i, 2, of_b);
    const uint32_t* c = Source(w, i, 3, of_c);
    for (int l = 0; l < kLanes; ++l) result.lane[l] = static_cast<uint32_t>(F{}(a[l], b[l], c[l]));
    Commit(w, i, result);
  }};
}

// The same of float32, with modifiers of sources and result.
template <class F>
Operation Float1(F) {
  return {[](Wave& w, const Instruction& i) {
    Lanes buffer, result;
    const uint32_t* a = SourceFloat(w, i, 1, buffer);
    for (int l = 0; l < kLanes; ++l) result.lane[l] = AsBits(static_cast<float>(F{}(AsFloat(a[l]))));
    CommitFloat(w, i, result);
  }};
}
template <class F>
Operation Float2(F) {
  return {[](Wave& w, const Instruction& i) {
    Lanes of_a, of_b, result;
    const uint32_t* a = SourceFloat(w, i, 1, of_a);
    const uint32_t* b = SourceFloat(w, i, 2, of_b);
    for (int l = 0; l < kLanes; ++l) result.lane[l] = AsBits(static_cast<float>(F{}(AsFloat(a[l]), AsFloat(b[l]))));
    CommitFloat(w, i, result);
  }};
}
template <class F>
Operation Float3(F) {
  return {[](Wave& w, const Instruction& i) {
    Lanes of_a, of_b, of_c, result;
    const uint32_t* a = SourceFloat(w, i, 1, of_a);
    const uint32_t* b = SourceFloat(w, i, 2, of_b);
    const uint32_t* c = SourceFloat(w, i, 3, of_c);
    for (int l = 0; l < kLanes; ++l) {
      result.lane[l] = AsBits(static_cast<float>(F{}(AsFloat(a[l]), AsFloat(b[l]), AsFloat(c[l]))));
    }
    CommitFloat(w, i, result);
  }};
}

// A result of 64 bits in two registers: f(wave, instruction, lane).
template <class F>
Operation Wide(F) {
  return {[](Wave& w, const Instruction& i) {
    Lanes low, high;
    for (int l = 0; l < kLanes; ++l) {
      const uint64_t value = F{}(w, i, l);
      low.lane[l] = static_cast<uint32_t>(value);
      high.lane[l] = static_cast<uint32_t>(value >> 32);
    }
    Commit(w, i, low, 0);
    Commit(w, i, high, 1);
  }};
}

// A bit a lane into the scalar pair of operand k; lanes that are off give 0.
inline void CommitMask(Wave& w, const Instruction& i, int k, uint64_t mask) {
  SetScalar64(w, i.operands[static_cast<size_t>(k)], mask & w.exec());
}

}  // namespace gfx950emu
