// Comparisons: a bit for each lane in a scalar pair.
#include "vector_lambdas.h"

namespace gfx950emu {
namespace {

template <class T, class F>
Operation Compare(F) {
  return {[](Wave& w, const Instruction& i) {
    uint64_t mask = 0;
    if constexpr (std::is_same_v<T, double>) {
      for (int l = 0; l < kLanes; ++l) {
        mask |= uint64_t{F{}(SourceDouble(w, i.operands[1], l), SourceDouble(w, i.operands[2], l))} << l;
      }
    } else if constexpr (sizeof(T) == 8) {
      for (int l = 0; l < kLanes; ++l) {
        const auto a = static_cast<T>(Source64(w, i.operands[1], l)), b = static_cast<T>(Source64(w, i.operands[2], l));
        mask |= uint64_t{F{}(a, b)} << l;
      }
    } else {
      Lanes of_a, of_b;
      constexpr bool kFloat = std::is_same_v<T, float>;
      const uint32_t* a = kFloat ? SourceFloat(w, i, 1, of_a) : Source(w, i, 1, of_a);
      const uint32_t* b = kFloat ? SourceFloat(w, i, 2, of_b) : Source(w, i, 2, of_b);
      for (int l = 0; l < kLanes; ++l) {
        if constexpr (kFloat) {
          mask |= uint64_t{F{}(AsFloat(a[l]), AsFloat(b[l]))} << l;
        } else {
          mask |= uint64_t{F{}(static_cast<T>(a[l]), static_cast<T>(b[l]))} << l;
        }
      }
    }
    CommitMask(w, i, 0, mask);
  }};
}

template <class T>
void AddIntegers(OperationTable& table, const std::string& type) {
  table["v_cmp_eq_" + type] = Compare<T>([](T a, T b) { return a == b; });
  table["v_cmp_ne_" + type] = Compare<T>([](T a, T b) { return a != b; });
  table["v_cmp_lt_" + type] = Compare<T>([](T a, T b) { return a < b; });
  table["v_cmp_le_" + type] = Compare<T>([](T a, T b) { return a <= b; });
  table["v_cmp_gt_" + type] = Compare<T>([](T a, T b) { return a > b; });
  table["v_cmp_ge_" + type] = Compare<T>([](T a, T b) { return a >= b; });
}

template <class T>
void AddFloats(OperationTable& table, const std::string& type) {
  table["v_cmp_eq_" + type] = Compare<T>([](T a, T b) { return a == b; });
  table["v_cmp_lg_" + type] = Compare<T>([](T a, T b) { return a < b || a > b; });
  table["v_cmp_lt_" + type] = Compare<T>([](T a, T b) { return a < b; });
  table["v_cmp_le_" + type] = Compare<T>([](T a, T b) { return a <= b; });
  table["v_cmp_gt_" + type] = Compare<T>([](T a, T b) { return a > b; });
  table["v_cmp_ge_" + type] = Compare<T>([](T a, T b) { return a >= b; });
  table["v_cmp_neq_" + type] = Compare<T>([](T a, T b) { return !(a == b); });
  table["v_cmp_nlg_" + type] = Compare<T>([](T a, T b) { return !(a < b || a > b); });
  table["v_cmp_nlt_" + type] = Compare<T>([](T a, T b) { return !(a < b); });
  table["v_cmp_nle_" + type] = Compare<T>([](T a, T b) { return !(a <= b); });
  table["v_cmp_ngt_" + type] = Compare<T>([](T a, T b) { return !(a > b); });
  table["v_cmp_nge_" + type] = Compare<T>([](T a, T b) { return !(a >= b); });
  table["v_cmp_o_" + type] = Compare<T>([](T a, T b) { return a == a && b == b; });
  table["v_cmp_u_" + type] = Compare<T>([](T a, T b) { return a != a || b != b; });
}

// The bit of v_cmp_class that names what a value is.
template <class T>
uint32_t ClassBit(T value, bool quiet) {
  const bool negative = std::signbit(value);
  switch (std::fpclassify(value)) {
    case FP_NAN:
      return quiet ? 1u << 1 : 1u << 0;
    case FP_INFINITE:
      return negative ? 1u << 2 : 1u << 9;
    case FP_NORMAL:
      return negative ? 1u << 3 : 1u << 8;
    case FP_SUBNORMAL:
      return negative ? 1u << 4 : 1u << 7;
    default:
      return negative ? 1u << 5 : 1u << 6;
  }
}

}  // namespace

void AddVectorCompare(OperationTable& table) {
  AddIntegers<int16_t>(table, "i16");
  AddIntegers<uint16_t>(table, "u16");
  AddIntegers<int32_t>(table, "i32");
  AddIntegers<uint32_t>(table, "u32");
  AddIntegers<int64_t>(table, "i64");
  AddIntegers<uint64_t>(table, "u64");
  AddFloats<float>(table, "f32");
  AddFloats<double>(table, "f64");
  table["v_cmp_class_f32"] = {[](Wave& w, const Instruction& i) {
    Lanes of_a, of_b;
    const uint32_t* a = SourceFloat(w, i, 1, of_a);
    const uint32_t* classes = Source(w, i, 2, of_b);
    uint64_t mask = 0;
    for (int l = 0; l < kLanes; ++l) {
      if (classes[l] & ClassBit(AsFloat(a[l]), a[l] >> 22 & 1)) mask |= 1ull << l;
    }
    CommitMask(w, i, 0, mask);
  }};
  table["v_cmp_class_f64"] = {[](Wave& w, const Instruction& i) {
    Lanes of_b;
    const uint32_t* classes = Source(w, i, 2, of_b);
    uint64_t mask = 0;
    for (int l = 0; l < kLanes; ++l) {
      const double a = SourceDouble(w, i.operands[1], l);
      if (classes[l] & ClassBit(a, AsBits(a) >> 51 & 1)) mask |= 1ull << l;
    }
    CommitMask(w, i, 0, mask);
  }};
}

}  // namespace gfx950emu
