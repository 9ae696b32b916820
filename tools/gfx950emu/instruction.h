// A decoded instruction of gfx950: what a handler needs, with nothing left to parse when it runs.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace gfx950emu {

inline constexpr int kLanes = 64;
inline constexpr int kVectorRegisters = 512;  // 0..255 are v0.., 256..511 are a0..

struct Wave;
struct Instruction;
using Handler = void (*)(Wave&, const Instruction&);

enum class Place : uint8_t {
  kVector,    // VGPR or AccVGPR
  kScalar,    // SGPR; also vcc, m0 and exec
  kConstant,  // inline or literal
  kScc,
  kOff,   // "off" and "null": no register
  kText,  // anything else, which the handler parses when it is decoded
};

// Scalar registers beside s0..s101.
inline constexpr int kVcc = 106, kM0 = 124, kExec = 126;

enum class Part : uint8_t { kByte0, kByte1, kByte2, kByte3, kWord0, kWord1, kAll };  // of a register (SDWA)

struct Operand {
  Place place = Place::kText;
  uint16_t index = 0;  // first register
  uint16_t count = 1;  // registers
  uint32_t bits = 0;   // a constant as 32-bit operands see it
  uint64_t wide = 0;   // as 64-bit integers see it
  double real = 0;     // as float64 sees it
  bool is_real = false;
  bool negate = false, absolute = false, sign_extend = false;
  Part part = Part::kAll;

  bool plain() const { return !negate && !absolute && part == Part::kAll && !sign_extend; }
};

// What an instruction waits for or is waited for by s_waitcnt.
enum class Counted : uint8_t { kNo, kVector, kLds, kScalar };

struct Instruction {
  Handler run = nullptr;
  const Instruction* next = nullptr;    // null behind the last
  const Instruction* target = nullptr;  // of a branch
  std::vector<Operand> operands;        // as written: the destination first, where there is one

  uint32_t opcode = 0;  // an index of opcode names, for counters
  Counted counted = Counted::kNo;
  bool loads = false;                   // operand 0 is written later, and is not there before an s_waitcnt
  int wait_vector = -1, wait_lds = -1;  // of s_waitcnt: outstanding operations that may be left; -1: any number

  // Modifiers.
  bool dpp = false, sdwa = false, clamp = false, returns = false, preserve = false;
  uint8_t output_scale = 0;  // 1: times 2, 2: times 4, 3: half
  uint8_t op_sel = 0, op_sel_hi = 0, neg_lo = 0, neg_hi = 0;
  uint8_t cbsz = 0, blgp = 0, bitop3 = 0;
  int32_t offset = 0, offset0 = 0, offset1 = 0;
  Part destination_part = Part::kAll;
  std::array<int8_t, kLanes> from_lane{};  // DPP and ds_swizzle: the lane read, or -1
  uint64_t dpp_lanes = ~0ull;              // DPP: lanes that row_mask and bank_mask let write
  bool bound_control = false;

  uint64_t address = 0;
  uint32_t bytes = 0;
  std::string name;  // without _e32, _e64, _dpp and _sdwa
  std::string text;
};

}  // namespace gfx950emu
