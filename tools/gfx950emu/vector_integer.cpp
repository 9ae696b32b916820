// Vector operations on integers and bits.
#include "vector_lambdas.h"

namespace gfx950emu {
namespace {

using U = uint32_t;
using S = int32_t;
using UL = uint64_t;
using SL = int64_t;

U Reverse(U a) {
  U reversed = 0;
  for (int bit = 0; bit < 32; ++bit) reversed |= (a >> bit & 1u) << (31 - bit);
  return reversed;
}

// Sums and differences with a carry in each lane: operands are (out, carry out, a, b[, carry in]); f(a, b, carry) in 64
// bits, whose bit 32 is the carry.
template <class F>
Operation Carry(F) {
  return {[](Wave& w, const Instruction& i) {
    Lanes of_a, of_b, result;
    const U* a = Source(w, i, 2, of_a);
    const U* b = Source(w, i, 3, of_b);
    const UL in = i.operands.size() > 4 ? Scalar64(w, i.operands[4]) : 0;
    UL out = 0;
    for (int l = 0; l < kLanes; ++l) {
      const UL sum = F{}(UL{a[l]}, UL{b[l]}, in >> l & 1);
      result.lane[l] = static_cast<U>(sum);
      out |= (sum >> 32 & 1) << l;
    }
    Commit(w, i, result);
    CommitMask(w, i, 1, out);
  }};
}

// Bytes of {a, b} chosen by c: 0..7 a byte, 8..11 the sign of a 16-bit half, 12 zero, above it 0xff.
U Permute(U a, U b, U c) {
  const UL both = UL{a} << 32 | b;
  U result = 0;
  for (int byte = 0; byte < 4; ++byte) {
    const U select = c >> (8 * byte) & 0xff;
    U value = 0;
    if (select >= 13) {
      value = 0xff;
    } else if (select < 8) {
      value = static_cast<U>(both >> (8 * select)) & 0xff;
    } else if (select < 12) {
      value = both >> (16 * (select - 8) + 15) & 1 ? 0xff : 0;
    }
    result |= value << (8 * byte);
  }
  return result;
}

// Any function of three bits: bit 4a + 2b + c of the table.
U BitOperation(U a, U b, U c, U table) {
  U result = 0;
  for (U row = 0; row < 8; ++row) {
    if (table >> row & 1) result |= (row & 4 ? a : ~a) & (row & 2 ? b : ~b) & (row & 1 ? c : ~c);
  }
  return result;
}
template <U kMask>
Operation BitOperation() {
  return {[](Wave& w, const Instruction& i) {
    Lanes of_a, of_b, of_c, result;
    const U* a = Source(w, i, 1, of_a);
    const U* b = Source(w, i, 2, of_b);
    const U* c = Source(w, i, 3, of_c);
    for (int l = 0; l < kLanes; ++l) result.lane[l] = BitOperation(a[l], b[l], c[l], i.bitop3) & kMask;
    Commit(w, i, result);
  }};
}

// Bits of `mask` below this lane, counted.
template <bool kHigh>
Operation CountBelow() {
  return {[](Wave& w, const Instruction& i) {
    Lanes of_a, of_b, result;
    const U* a = Source(w, i, 1, of_a);
    const U* b = Source(w, i, 2, of_b);
    for (int l = 0; l < kLanes; ++l) {
      const UL below = (UL{1} << l) - 1;
      result.lane[l] = b[l] + static_cast<U>(std::popcount(a[l] & static_cast<U>(kHigh ? below >> 32 : below)));
    }
    Commit(w, i, result);
  }};
}

template <class F>
Operation Shift64(F) {
  return Wide([](const Wave& w, const Instruction& i, int l) {
    const Operand& count = i.operands[1];
    const U by = count.place == Place::kVector ? w.v[count.index][l] : Scalar32(w, count);
    return F{}(Source64(w, i.operands[2], l), by & 63);
  });
}

template <class T>
Operation MultiplyAdd64() {
  return {[](Wave& w, const Instruction& i) {
    Lanes of_a, of_b, low, high;
    const U* a = Source(w, i, 2, of_a);
    const U* b = Source(w, i, 3, of_b);
    UL carry = 0;
    for (int l = 0; l < kLanes; ++l) {
      const UL product = static_cast<UL>(SL{static_cast<T>(a[l])} * SL{static_cast<T>(b[l])});
      const UL exact = std::is_signed_v<T> ? product : UL{a[l]} * b[l];
      const UL sum = exact + Source64(w, i.operands[4], l);
      if (sum < exact) carry |= UL{1} << l;
      low.lane[l] = static_cast<U>(sum);
      high.lane[l] = static_cast<U>(sum >> 32);
    }
    Commit(w, i, low, 0);
    Commit(w, i, high, 1);
    CommitMask(w, i, 1, carry);
  }};
}

constexpr U Low24(U a) { return a & 0xffffffu; }
constexpr S Signed24(U a) { return static_cast<S>(a << 8) >> 8; }

void AddArithmetic(OperationTable& table) {
  table["v_add_u32"] = {[](Wave& w, const Instruction& i) {
    Lanes of_a, of_b, result;
    const U* a = Source(w, i, 1, of_a);
    const U* b = Source(w, i, 2, of_b);
    for (int l = 0; l < kLanes; ++l) result.lane[l] = i.clamp && a[l] + b[l] < a[l] ? ~0u : a[l] + b[l];
    Commit(w, i, result);
  }};
  table["v_sub_u32"] = {[](Wave& w, const Instruction& i) {
    Lanes of_a, of_b, result;
    const U* a = Source(w, i, 1, of_a);
    const U* b = Source(w, i, 2, of_b);
    for (int l = 0; l < kLanes; ++l) result.lane[l] = i.clamp && a[l] < b[l] ? 0u : a[l] - b[l];
    Commit(w, i, result);
  }};
  table["v_subrev_u32"] = Int2([](U a, U b) { return b - a; });
  table["v_add_i32"] = Int2([](U a, U b) { return a + b; });
  table["v_sub_i32"] = Int2([](U a, U b) { return a - b; });
  table["v_add3_u32"] = Int3([](U a, U b, U c) { return a + b + c; });
  table["v_lshl_add_u32"] = Int3([](U a, U b, U c) { return (a << (b & 31)) + c; });
  table["v_add_lshl_u32"] = Int3([](U a, U b, U c) { return (a + b) << (c & 31); });
  table["v_xad_u32"] = Int3([](U a, U b, U c) { return (a ^ b) + c; });
  table["v_mad_u32_u24"] = Int3([](U a, U b, U c) { return Low24(a) * Low24(b) + c; });
  table["v_mad_i32_i24"] =
      Int3([](U a, U b, U c) { return static_cast<U>(Signed24(a)) * static_cast<U>(Signed24(b)) + c; });
  table["v_mul_u32_u24"] = Int2([](U a, U b) { return Low24(a) * Low24(b); });
  table["v_mul_hi_u32_u24"] = Int2([](U a, U b) { return UL{Low24(a)} * Low24(b) >> 32; });
  table["v_mul_i32_i24"] = Int2([](U a, U b) { return static_cast<U>(Signed24(a)) * static_cast<U>(Signed24(b)); });
  table["v_mul_lo_u32"] = Int2([](U a, U b) { return a * b; });
  table["v_mul_hi_u32"] = Int2([](U a, U b) { return UL{a} * b >> 32; });
  table["v_mul_hi_i32"] = Int2([](U a, U b) { return SL{static_cast<S>(a)} * static_cast<S>(b) >> 32; });
  table["v_min_u32"] = Int2([](U a, U b) { return std::min(a, b); });
  table["v_max_u32"] = Int2([](U a, U b) { return std::max(a, b); });
  table["v_min_i32"] = Int2([](U a, U b) { return std::min(static_cast<S>(a), static_cast<S>(b)); });
  table["v_max_i32"] = Int2([](U a, U b) { return std::max(static_cast<S>(a), static_cast<S>(b)); });
  table["v_min3_u32"] = Int3([](U a, U b, U c) { return std::min({a, b, c}); });
  table["v_max3_u32"] = Int3([](U a, U b, U c) { return std::max({a, b, c}); });
  table["v_min3_i32"] = Int3([](U a, U b, U c) {
    return std::min({static_cast<S>(a), static_cast<S>(b), static_cast<S>(c)});
  });
  table["v_max3_i32"] = Int3([](U a, U b, U c) {
    return std::max({static_cast<S>(a), static_cast<S>(b), static_cast<S>(c)});
  });
  const auto median = []<class T>(T) {
    return Int3([](U x, U y, U z) {
      const auto a = static_cast<T>(x), b = static_cast<T>(y), c = static_cast<T>(z);
      return std::max(std::min(a, b), std::min(std::max(a, b), c));
    });
  };
  table["v_med3_u32"] = median(U{});
  table["v_med3_i32"] = median(S{});

  table["v_add_co_u32"] = Carry([](UL a, UL b, UL) { return a + b; });
  table["v_addc_co_u32"] = Carry([](UL a, UL b, UL carry) { return a + b + carry; });
  table["v_sub_co_u32"] = Carry([](UL a, UL b, UL) { return a - b; });
  table["v_subb_co_u32"] = Carry([](UL a, UL b, UL carry) { return a - b - carry; });
  table["v_subrev_co_u32"] = Carry([](UL a, UL b, UL) { return b - a; });
  table["v_subbrev_co_u32"] = Carry([](UL a, UL b, UL carry) { return b - a - carry; });
  table["v_mad_u64_u32"] = MultiplyAdd64<U>();
  table["v_mad_i64_i32"] = MultiplyAdd64<S>();
  table["v_lshl_add_u64"] = Wide([](const Wave& w, const Instruction& i, int l) {
    const Operand& count = i.operands[2];
    const U by = count.place == Place::kVector ? w.v[count.index][l] : Scalar32(w, count);
    return (Source64(w, i.operands[1], l) << (by & 7)) + Source64(w, i.operands[3], l);
  });

  // 16 bits; the upper half of the destination becomes 0.
  table["v_add_u16"] = Int2([](U a, U b) { return (a + b) & 0xffffu; });
  table["v_sub_u16"] = Int2([](U a, U b) { return (a - b) & 0xffffu; });
  table["v_mul_lo_u16"] = Int2([](U a, U b) { return (a * b) & 0xffffu; });
  table["v_lshlrev_b16"] = Int2([](U a, U b) { return (b << (a & 15)) & 0xffffu; });
  table["v_lshrrev_b16"] = Int2([](U a, U b) { return (b & 0xffffu) >> (a & 15); });
  table["v_ashrrev_i16"] =
      Int2([](U a, U b) { return static_cast<U>(static_cast<int16_t>(b & 0xffffu) >> (a & 15)) & 0xffffu; });
  table["v_min_u16"] = Int2([](U a, U b) { return std::min(a & 0xffffu, b & 0xffffu); });
  table["v_max_u16"] = Int2([](U a, U b) { return std::max(a & 0xffffu, b & 0xffffu); });
}

void AddBits(OperationTable& table) {
  table["v_mov_b32"] = {[](Wave& w, const Instruction& i) {
    Lanes buffer, result;
    const U* a = SourceFloat(w, i, 1, buffer);
    std::memcpy(result.lane, a, sizeof(result.lane));
    Commit(w, i, result);
  }};
  for (const char* name : {"v_accvgpr_read_b32", "v_accvgpr_write_b32", "v_accvgpr_mov_b32"}) {
    table[name] = Int1([](U a) { return a; });
  }
  table["v_mov_b64"] = Wide([](const Wave& w, const Instruction& i, int l) { return Source64(w, i.operands[1], l); });
  table["v_not_b32"] = Int1([](U a) { return ~a; });
  table["v_bfrev_b32"] = Int1([](U a) { return Reverse(a); });
  table["v_ffbh_u32"] = Int1([](U a) { return a ? static_cast<U>(std::countl_zero(a)) : ~0u; });
  table["v_ffbl_b32"] = Int1([](U a) { return a ? static_cast<U>(std::countr_zero(a)) : ~0u; });
  table["v_and_b32"] = Int2([](U a, U b) { return a & b; });
  table["v_or_b32"] = Int2([](U a, U b) { return a | b; });
  table["v_xor_b32"] = Int2([](U a, U b) { return a ^ b; });
  table["v_xnor_b32"] = Int2([](U a, U b) { return ~(a ^ b); });
  table["v_lshlrev_b32"] = Int2([](U a, U b) { return b << (a & 31); });
  table["v_lshrrev_b32"] = Int2([](U a, U b) { return b >> (a & 31); });
  table["v_ashrrev_i32"] = Int2([](U a, U b) { return static_cast<S>(b) >> (a & 31); });
  table["v_lshlrev_b64"] = Shift64([](UL value, U by) { return value << by; });
  table["v_lshrrev_b64"] = Shift64([](UL value, U by) { return value >> by; });
  table["v_ashrrev_i64"] = Shift64([](UL value, U by) { return static_cast<UL>(static_cast<SL>(value) >> by); });
  table["v_bfm_b32"] = Int2([](U a, U b) { return ((1u << (a & 31)) - 1) << (b & 31); });
  table["v_bcnt_u32_b32"] = Int2([](U a, U b) { return static_cast<U>(std::popcount(a)) + b; });
  table["v_mbcnt_lo_u32_b32"] = CountBelow<false>();
  table["v_mbcnt_hi_u32_b32"] = CountBelow<true>();
  table["v_bfe_u32"] = Int3([](U a, U b, U c) { return (a >> (b & 31)) & ((1u << (c & 31)) - 1); });
  table["v_bfe_i32"] = Int3([](U a, U b, U c) -> U {
    const U offset = b & 31, width = std::min(c & 31, 32 - offset);
    return width == 0 ? 0 : static_cast<U>(static_cast<S>(a << (32 - offset - width)) >> (32 - width));
  });
  table["v_bfi_b32"] = Int3([](U a, U b, U c) { return (a & b) | (~a & c); });
  table["v_and_or_b32"] = Int3([](U a, U b, U c) { return (a & b) | c; });
  table["v_or3_b32"] = Int3([](U a, U b, U c) { return a | b | c; });
  table["v_lshl_or_b32"] = Int3([](U a, U b, U c) { return (a << (b & 31)) | c; });
  table["v_alignbit_b32"] = Int3([](U a, U b, U c) { return (UL{a} << 32 | b) >> (c & 31); });
  table["v_alignbyte_b32"] = Int3([](U a, U b, U c) { return (UL{a} << 32 | b) >> (8 * (c & 3)); });
  table["v_perm_b32"] = Int3([](U a, U b, U c) { return Permute(a, b, c); });
  table["v_bitop3_b32"] = BitOperation<~0u>();
  table["v_bitop3_b16"] = BitOperation<0xffffu>();
  table["v_cndmask_b32"] = {[](Wave& w, const Instruction& i) {
    Lanes of_a, of_b, result;
    const U* a = SourceFloat(w, i, 1, of_a);
    const U* b = SourceFloat(w, i, 2, of_b);
    const UL mask = Scalar64(w, i.operands[3]);
    for (int l = 0; l < kLanes; ++l) result.lane[l] = mask >> l & 1 ? b[l] : a[l];
    Commit(w, i, result);
  }};
}

}  // namespace

void AddVectorInteger(OperationTable& table) {
  AddArithmetic(table);
  AddBits(table);
}

}  // namespace gfx950emu
