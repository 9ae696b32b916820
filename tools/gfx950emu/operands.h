// Reading operands as 64 lanes and writing results under EXEC. A source register without modifiers is read in place;
// everything else (constants, scalars, DPP, SDWA, neg, abs) is put into a buffer first, before any lane is written, so
// that the loops of handlers are over plain arrays.
#pragma once

#include <bit>
#include <cmath>

#include "wave.h"

namespace gfx950emu {

inline float AsFloat(uint32_t bits) { return std::bit_cast<float>(bits); }
inline uint32_t AsBits(float value) { return std::bit_cast<uint32_t>(value); }
inline double AsDouble(uint64_t bits) { return std::bit_cast<double>(bits); }
inline uint64_t AsBits(double value) { return std::bit_cast<uint64_t>(value); }

// --- scalar operands ---

inline uint32_t Scalar32(const Wave& w, const Operand& o, int word = 0) {
  switch (o.place) {
    case Place::kScalar:
      return w.s[o.index + word];
    case Place::kConstant:
      return word == 0 ? o.bits : static_cast<uint32_t>(o.wide >> 32);
    case Place::kScc:
      return w.scc;
    case Place::kOff:
      return 0;
    default:
      throw Error("a scalar operand expected: " + w.current->text);
  }
}
inline uint64_t Scalar64(const Wave& w, const Operand& o) {
  switch (o.place) {
    case Place::kScalar:
      return w.s[o.index] | uint64_t{w.s[o.index + 1]} << 32;
    case Place::kConstant:
      return o.wide;
    case Place::kScc:
      return w.scc;
    case Place::kOff:
      return 0;
    default:
      throw Error("a scalar operand expected: " + w.current->text);
  }
}
inline void SetScalar32(Wave& w, const Operand& o, uint32_t value) {
  if (o.place == Place::kScalar) {
    w.s[o.index] = value;
  } else if (o.place != Place::kOff) {
    throw Error("a scalar destination expected: " + w.current->text);
  }
}
inline void SetScalar64(Wave& w, const Operand& o, uint64_t value) {
  if (o.place == Place::kScalar) {
    w.s[o.index] = static_cast<uint32_t>(value);
    w.s[o.index + 1] = static_cast<uint32_t>(value >> 32);
  } else if (o.place != Place::kOff) {
    throw Error("a scalar destination expected: " + w.current->text);
  }
}

// --- vector operands ---

inline uint32_t* Vector(Wave& w, const Operand& o, int word = 0) { return w.v[o.index + word]; }

// Operand k's register `word` in every lane, as it is or through `buffer`; integer modifiers applied.
inline const uint32_t* Source(const Wave& w, const Instruction& i, int k, Lanes& buffer, int word = 0) {
  const Operand& o = i.operands[static_cast<size_t>(k)];
  if (o.place == Place::kVector) {
    const uint32_t* from = w.v[o.index + word];
    if (i.dpp && k == 1) {
      const uint64_t exec = w.exec();
      for (int l = 0; l < kLanes; ++l) {
        const int lane = i.from_lane[static_cast<size_t>(l)];
        buffer.lane[l] = lane >= 0 && (exec >> lane & 1) ? from[lane] : 0;
      }
      return buffer.lane;
    }
    if (o.part == Part::kAll) return from;
    const int shift = o.part < Part::kWord0 ? 8 * static_cast<int>(o.part) : 16 * (static_cast<int>(o.part) - 4);
    const int bits = o.part < Part::kWord0 ? 8 : 16;
    for (int l = 0; l < kLanes; ++l) {
      const uint32_t value = from[l] << (32 - bits - shift);
      buffer.lane[l] =
          o.sign_extend ? static_cast<uint32_t>(static_cast<int32_t>(value) >> (32 - bits)) : value >> (32 - bits);
    }
    return buffer.lane;
  }
  const uint32_t value = Scalar32(w, o, word);
  for (uint32_t& lane : buffer.lane) lane = value;
  return buffer.lane;
}

// The same with neg and abs.
inline const uint32_t* SourceFloat(const Wave& w, const Instruction& i, int k, Lanes& buffer) {
  const Operand& o = i.operands[static_cast<size_t>(k)];
  const uint32_t* from = Source(w, i, k, buffer);
  if (!o.negate && !o.absolute) return from;
  const uint32_t clear = o.absolute ? 0x7fffffffu : ~0u, flip = o.negate ? 0x80000000u : 0u;
  for (int l = 0; l < kLanes; ++l) buffer.lane[l] = (from[l] & clear) ^ flip;
  return buffer.lane;
}

// A pair of registers as 64 bits of lane l. `real`: constants are float64's.
inline uint64_t Source64(const Wave& w, const Operand& o, int l) {
  if (o.place == Place::kVector) return w.v[o.index][l] | uint64_t{w.v[o.index + 1][l]} << 32;
  return Scalar64(w, o);
}
inline double SourceDouble(const Wave& w, const Operand& o, int l) {
  double value = 0;
  if (o.place == Place::kConstant) {
    value = o.real;
  } else {
    value = AsDouble(Source64(w, o, l));
  }
  if (o.absolute) value = std::fabs(value);
  return o.negate ? -value : value;
}

// The lanes that an instruction writes.
inline uint64_t WrittenLanes(const Wave& w, const Instruction& i) {
  uint64_t mask = w.exec();
  if (i.dpp) {
    mask &= i.dpp_lanes;
    if (!i.bound_control) {
      const uint64_t exec = w.exec();
      for (int l = 0; l < kLanes; ++l) {
        const int lane = i.from_lane[static_cast<size_t>(l)];
        if (lane < 0 || !(exec >> lane & 1)) mask &= ~(1ull << l);
      }
    }
  }
  return mask;
}

// Writes a register of operand `k` (0 unless said) in those lanes.
inline void Commit(Wave& w, const Instruction& i, const Lanes& result, int word = 0, int k = 0) {
  uint32_t* to = Vector(w, i.operands[static_cast<size_t>(k)], word);
  const uint64_t mask = WrittenLanes(w, i);
  if (i.sdwa && i.destination_part != Part::kAll) {
    const int part = static_cast<int>(i.destination_part);
    const uint32_t shift = static_cast<uint32_t>(part < 4 ? 8 * part : 16 * (part - 4));
    const uint32_t field = (part < 4 ? 0xffu : 0xffffu) << shift;
    for (int l = 0; l < kLanes; ++l) {
      if (mask >> l & 1) to[l] = (i.preserve ? to[l] & ~field : 0) | ((result.lane[l] << shift) & field);
    }
    return;
  }
  if (mask == ~0ull) {
    std::memcpy(to, result.lane, sizeof(result.lane));
    return;
  }
  for (int l = 0; l < kLanes; ++l) to[l] = mask >> l & 1 ? result.lane[l] : to[l];
}

// The same of floats: clamp and output scale first.
inline void CommitFloat(Wave& w, const Instruction& i, Lanes& result) {
  if (i.output_scale != 0 || i.clamp) {
    const float scale = i.output_scale == 1 ? 2.0f : i.output_scale == 2 ? 4.0f : i.output_scale == 3 ? 0.5f : 1.0f;
    for (uint32_t& bits : result.lane) {
      float value = AsFloat(bits) * scale;
      if (i.clamp) value = std::isnan(value) ? 0.0f : std::min(std::max(value, 0.0f), 1.0f);
      bits = AsBits(value);
    }
  }
  Commit(w, i, result);
}

}  // namespace gfx950emu
