// SOP1, SOP2, SOPC and SOPK.
#include "operands.h"
#include "operations.h"

namespace gfx950emu {
namespace {

// Result and SCC of an operation; kKeep leaves SCC as it is.
template <class T>
struct Result {
  T value;
  bool scc;
};

template <class T>
T Read(const Wave& w, const Operand& o) {
  if constexpr (sizeof(T) == 8) {
    return static_cast<T>(Scalar64(w, o));
  } else {
    return static_cast<T>(Scalar32(w, o));
  }
}
template <class T>
void Write(Wave& w, const Operand& o, T value) {
  if constexpr (sizeof(T) == 8) {
    SetScalar64(w, o, static_cast<uint64_t>(value));
  } else {
    SetScalar32(w, o, static_cast<uint32_t>(value));
  }
}

// f(a, b) or f(a, b, scc), which returns a value or a Result.
template <class T, class F>
Operation Binary(F) {
  return {[](Wave& w, const Instruction& i) {
    const T a = Read<T>(w, i.operands[1]), b = Read<T>(w, i.operands[2]);
    const auto result = [&] {
      if constexpr (requires { F{}(a, b, true); }) {
        return F{}(a, b, w.scc);
      } else {
        return F{}(a, b);
      }
    }();
    if constexpr (requires { result.scc; }) {
      w.scc = result.scc;
      Write(w, i.operands[0], result.value);
    } else {
      Write(w, i.operands[0], result);
    }
  }};
}
template <class T, class F>
Operation Unary(F) {
  return {[](Wave& w, const Instruction& i) {
    const auto result = F{}(Read<T>(w, i.operands[1]));
    if constexpr (requires { result.scc; }) {
      w.scc = result.scc;
      Write(w, i.operands[0], result.value);
    } else {
      Write(w, i.operands[0], result);
    }
  }};
}
template <class T, class F>
Operation Compare(F) {
  return {[](Wave& w, const Instruction& i) { w.scc = F{}(Read<T>(w, i.operands[0]), Read<T>(w, i.operands[1])); }};
}
// The constant of SOPK is 16 bits: `T` says how it is extended.
template <class T>
uint32_t Short(const Operand& o) {
  if constexpr (std::is_signed_v<T>) {
    return static_cast<uint32_t>(static_cast<int32_t>(static_cast<int16_t>(o.bits)));
  } else {
    return o.bits & 0xffffu;
  }
}
template <class T, class F>
Operation CompareShort(F) {
  return {[](Wave& w, const Instruction& i) {
    w.scc = F{}(Read<T>(w, i.operands[0]), static_cast<T>(Short<T>(i.operands[1])));
  }};
}
template <class F>
Operation SaveExec(F) {
  return {[](Wave& w, const Instruction& i) {
    const uint64_t source = Scalar64(w, i.operands[1]), exec = w.exec();
    const uint64_t result = F{}(source, exec);
    SetScalar64(w, i.operands[0], exec);
    w.SetExec(result);
    w.scc = result != 0;
  }};
}

template <class T>
Result<T> NonZero(T value) {
  return {value, value != 0};
}
Result<uint32_t> Wide(uint64_t sum) { return {static_cast<uint32_t>(sum), (sum >> 32) != 0}; }

template <class T>
void AddLogic(OperationTable& table, const std::string& type) {
  table["s_and_" + type] = Binary<T>([](T a, T b) { return NonZero(a & b); });
  table["s_or_" + type] = Binary<T>([](T a, T b) { return NonZero(a | b); });
  table["s_xor_" + type] = Binary<T>([](T a, T b) { return NonZero(a ^ b); });
  table["s_andn2_" + type] = Binary<T>([](T a, T b) { return NonZero(a & ~b); });
  table["s_orn2_" + type] = Binary<T>([](T a, T b) { return NonZero(a | ~b); });
  table["s_nand_" + type] = Binary<T>([](T a, T b) { return NonZero(~(a & b)); });
  table["s_nor_" + type] = Binary<T>([](T a, T b) { return NonZero(~(a | b)); });
  table["s_xnor_" + type] = Binary<T>([](T a, T b) { return NonZero(~(a ^ b)); });
  table["s_not_" + type] = Unary<T>([](T a) { return NonZero(~a); });
  table["s_mov_" + type] = Unary<T>([](T a) { return a; });
  table["s_cselect_" + type] = Binary<T>([](T a, T b, bool scc) { return scc ? a : b; });
}

template <class T>
void AddCompares(OperationTable& table, const std::string& type) {
  const auto add = [&]<class F>(const char* name, F f) {
    table[std::string("s_cmp_") + name + "_" + type] = Compare<T>(f);
    if constexpr (sizeof(T) == 4) table[std::string("s_cmpk_") + name + "_" + type] = CompareShort<T>(f);
  };
  add("eq", [](T a, T b) { return a == b; });
  add("lg", [](T a, T b) { return a != b; });
  if constexpr (sizeof(T) == 4) {
    add("gt", [](T a, T b) { return a > b; });
    add("ge", [](T a, T b) { return a >= b; });
    add("lt", [](T a, T b) { return a < b; });
    add("le", [](T a, T b) { return a <= b; });
  }
}

template <int kShift>
Operation ShiftAdd() {
  return {[](Wave& w, const Instruction& i) {
    const auto sum = Wide((uint64_t{Scalar32(w, i.operands[1])} << kShift) + Scalar32(w, i.operands[2]));
    w.scc = sum.scc;
    SetScalar32(w, i.operands[0], sum.value);
  }};
}

}  // namespace

void AddScalarAlu(OperationTable& table) {
  using U = uint32_t;
  using S = int32_t;
  using UL = uint64_t;
  using SL = int64_t;
  AddLogic<U>(table, "b32");
  AddLogic<UL>(table, "b64");
  AddCompares<U>(table, "u32");
  AddCompares<S>(table, "i32");
  AddCompares<UL>(table, "u64");

  table["s_add_u32"] = Binary<U>([](U a, U b) { return Wide(UL{a} + b); });
  table["s_addc_u32"] = Binary<U>([](U a, U b, bool scc) { return Wide(UL{a} + b + scc); });
  table["s_sub_u32"] = Binary<U>([](U a, U b) { return Result<U>{a - b, a < b}; });
  table["s_subb_u32"] = Binary<U>([](U a, U b, bool scc) { return Wide(UL{a} - b - scc); });
  table["s_add_i32"] = Binary<U>([](U a, U b) { return Result<U>{a + b, ((~(a ^ b) & (a ^ (a + b))) >> 31) != 0}; });
  table["s_sub_i32"] = Binary<U>([](U a, U b) { return Result<U>{a - b, (((a ^ b) & (a ^ (a - b))) >> 31) != 0}; });
  table["s_mul_i32"] = Binary<U>([](U a, U b) { return a * b; });
  table["s_mul_hi_u32"] = Binary<U>([](U a, U b) { return static_cast<U>(UL{a} * b >> 32); });
  table["s_mul_hi_i32"] = Binary<S>([](S a, S b) { return static_cast<S>(SL{a} * b >> 32); });
  table["s_lshl_b32"] = Binary<U>([](U a, U b) { return NonZero(a << (b & 31)); });
  table["s_lshr_b32"] = Binary<U>([](U a, U b) { return NonZero(a >> (b & 31)); });
  table["s_ashr_i32"] = Binary<S>([](S a, S b) { return NonZero(a >> (b & 31)); });
  // The count of a 64-bit shift is one register.
  const auto shift64 = []<class F>(F) {
    return Operation{[](Wave& w, const Instruction& i) {
      const UL result = F{}(Scalar64(w, i.operands[1]), Scalar32(w, i.operands[2]) & 63);
      SetScalar64(w, i.operands[0], result);
      w.scc = result != 0;
    }};
  };
  table["s_lshl_b64"] = shift64([](UL a, U b) { return a << b; });
  table["s_lshr_b64"] = shift64([](UL a, U b) { return a >> b; });
  table["s_ashr_i64"] = shift64([](UL a, U b) { return static_cast<UL>(static_cast<SL>(a) >> b); });
  table["s_lshl1_add_u32"] = ShiftAdd<1>();
  table["s_lshl2_add_u32"] = ShiftAdd<2>();
  table["s_lshl3_add_u32"] = ShiftAdd<3>();
  table["s_lshl4_add_u32"] = ShiftAdd<4>();
  table["s_min_u32"] = Binary<U>([](U a, U b) { return Result<U>{std::min(a, b), a < b}; });
  table["s_max_u32"] = Binary<U>([](U a, U b) { return Result<U>{std::max(a, b), a > b}; });
  table["s_min_i32"] = Binary<S>([](S a, S b) { return Result<S>{std::min(a, b), a < b}; });
  table["s_max_i32"] = Binary<S>([](S a, S b) { return Result<S>{std::max(a, b), a > b}; });
  table["s_bfe_u32"] = Binary<U>([](U a, U b) {
    const U offset = b & 31, width = b >> 16 & 127;
    return NonZero(width >= 32 ? a >> offset : (a >> offset) & ((1u << width) - 1));
  });
  table["s_bfe_i32"] = Binary<U>([](U a, U b) {
    const U offset = b & 31, width = std::min(b >> 16 & 127, 32 - offset);
    if (width == 0) return NonZero(0u);
    return NonZero(static_cast<U>(static_cast<S>(a << (32 - offset - width)) >> (32 - width)));
  });
  table["s_bfm_b32"] = Binary<U>([](U a, U b) { return ((1u << (a & 31)) - 1) << (b & 31); });
  table["s_pack_ll_b32_b16"] = Binary<U>([](U a, U b) { return (a & 0xffffu) | b << 16; });
  table["s_pack_lh_b32_b16"] = Binary<U>([](U a, U b) { return (a & 0xffffu) | (b & 0xffff0000u); });
  table["s_pack_hh_b32_b16"] = Binary<U>([](U a, U b) { return a >> 16 | (b & 0xffff0000u); });

  table["s_abs_i32"] = Unary<U>([](U a) { return NonZero(static_cast<S>(a) < 0 ? 0u - a : a); });
  table["s_sext_i32_i8"] = Unary<U>([](U a) { return static_cast<U>(static_cast<S>(static_cast<int8_t>(a))); });
  table["s_sext_i32_i16"] = Unary<U>([](U a) { return static_cast<U>(static_cast<S>(static_cast<int16_t>(a))); });
  table["s_brev_b32"] = Unary<U>([](U a) {
    U reversed = 0;
    for (int bit = 0; bit < 32; ++bit) reversed |= (a >> bit & 1u) << (31 - bit);
    return reversed;
  });
  const auto count = []<class T, class F>(T, F) {
    return Operation{
        [](Wave& w, const Instruction& i) { SetScalar32(w, i.operands[0], F{}(Read<T>(w, i.operands[1]))); }};
  };
  table["s_ff1_i32_b32"] = count(U{}, [](U a) { return a ? static_cast<U>(std::countr_zero(a)) : ~0u; });
  table["s_ff1_i32_b64"] = count(UL{}, [](UL a) { return a ? static_cast<U>(std::countr_zero(a)) : ~0u; });
  table["s_flbit_i32_b32"] = count(U{}, [](U a) { return a ? static_cast<U>(std::countl_zero(a)) : ~0u; });
  table["s_flbit_i32_b64"] = count(UL{}, [](UL a) { return a ? static_cast<U>(std::countl_zero(a)) : ~0u; });
  // Leading bits that equal the sign.
  table["s_flbit_i32"] = count(U{}, [](U a) {
    const U other = static_cast<S>(a) < 0 ? ~a : a;
    return other ? static_cast<U>(std::countl_zero(other)) : ~0u;
  });
  table["s_flbit_i32_i64"] = count(UL{}, [](UL a) {
    const UL other = static_cast<SL>(a) < 0 ? ~a : a;
    return other ? static_cast<U>(std::countl_zero(other)) : ~0u;
  });
  table["s_bcnt1_i32_b32"] = Unary<U>([](U a) { return NonZero(static_cast<U>(std::popcount(a))); });
  table["s_bcnt1_i32_b64"] = {[](Wave& w, const Instruction& i) {
    const auto bits = static_cast<U>(std::popcount(Scalar64(w, i.operands[1])));
    w.scc = bits != 0;
    SetScalar32(w, i.operands[0], bits);
  }};
  table["s_bitcmp0_b32"] = Compare<U>([](U a, U b) { return (a >> (b & 31) & 1) == 0; });
  table["s_bitcmp1_b32"] = Compare<U>([](U a, U b) { return (a >> (b & 31) & 1) == 1; });
  table["s_bitset0_b32"] = {[](Wave& w, const Instruction& i) {
    SetScalar32(w, i.operands[0], Scalar32(w, i.operands[0]) & ~(1u << (Scalar32(w, i.operands[1]) & 31)));
  }};
  table["s_bitset1_b32"] = {[](Wave& w, const Instruction& i) {
    SetScalar32(w, i.operands[0], Scalar32(w, i.operands[0]) | 1u << (Scalar32(w, i.operands[1]) & 31));
  }};

  table["s_movk_i32"] = {[](Wave& w, const Instruction& i) { SetScalar32(w, i.operands[0], Short<S>(i.operands[1])); }};
  table["s_addk_i32"] = {[](Wave& w, const Instruction& i) {
    const U a = Scalar32(w, i.operands[0]), b = Short<S>(i.operands[1]), sum = a + b;
    w.scc = ((~(a ^ b) & (a ^ sum)) >> 31) != 0;
    SetScalar32(w, i.operands[0], sum);
  }};
  table["s_mulk_i32"] = {[](Wave& w, const Instruction& i) {
    SetScalar32(w, i.operands[0], Scalar32(w, i.operands[0]) * Short<S>(i.operands[1]));
  }};

  table["s_and_saveexec_b64"] = SaveExec([](UL s, UL exec) { return s & exec; });
  table["s_or_saveexec_b64"] = SaveExec([](UL s, UL exec) { return s | exec; });
  table["s_xor_saveexec_b64"] = SaveExec([](UL s, UL exec) { return s ^ exec; });
  table["s_andn2_saveexec_b64"] = SaveExec([](UL s, UL exec) { return s & ~exec; });
  table["s_orn2_saveexec_b64"] = SaveExec([](UL s, UL exec) { return s | ~exec; });
  table["s_andn1_saveexec_b64"] = SaveExec([](UL s, UL exec) { return ~s & exec; });
  table["s_nor_saveexec_b64"] = SaveExec([](UL s, UL exec) { return ~(s | exec); });
}

}  // namespace gfx950emu
