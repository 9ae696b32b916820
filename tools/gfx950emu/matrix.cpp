// Matrix operations: D = A * B + C, of which src0 holds rows of A and src1 columns of B.
//
// With n = 16 or 32 rows, G = 64 / n groups of lanes, g = lane / n and i = lane % n:
//   - a lane holds elements of row (column) i. 8-bit formats with 32 elements a lane lie in two runs of 16, k = 16 g
//   and
//     16 (G + g); the others in one run from g * elements.
//   - with block scales, lane (g, i) holds the scale of row i and k from 32 g to 32 g + 31, whatever the format: one
//   byte
//     of its register, which op_sel and op_sel_hi choose. It multiplies the block's sum.
//   - register r of lane (g, i) of C and D is row 4 G (r / 4) + 4 g + r % 4, column i.
// Sums are in float64 here and rounded once: silicon rounds between groups of products, so that tests of results need a
// tolerance relative to the sum of magnitudes.
#include <memory>

#include "number_formats.h"
#include "operands.h"
#include "operations.h"

namespace gfx950emu {
namespace {

enum class Format { kBf16, kHalf, kE4m3, kE5m2, kE2m1 };

constexpr int BitsOf(Format format) {
  return format == Format::kE2m1 ? 4 : format == Format::kE4m3 || format == Format::kE5m2 ? 8 : 16;
}

template <float (*kDecode)(uint32_t)>
const float* CodeTable() {
  static const auto table = [] {
    std::array<float, 256> made;
    for (uint32_t code = 0; code < 256; ++code) made[code] = kDecode(code);
    return made;
  }();
  return table.data();
}

float Element(Format format, uint32_t code) {
  switch (format) {
    case Format::kBf16:
      return Bf16ToFloat(code);
    case Format::kHalf:
      return HalfToFloat(code);
    case Format::kE4m3:
      return CodeTable<E4m3ToFloat>()[code];
    case Format::kE5m2:
      return CodeTable<E5m2ToFloat>()[code];
    case Format::kE2m1:
      return kE2m1[code];
  }
  return 0;
}

Format FormatOf(uint8_t code, const Instruction& i) {
  switch (code) {
    case 0:
      return Format::kE4m3;
    case 1:
      return Format::kE5m2;
    case 4:
      return Format::kE2m1;
    default:
      throw Error("the 6-bit formats are not modelled: " + i.text);
  }
}

// k of element j of a lane in group g.
constexpr int KOf(int j, int g, int groups, int elements, int bits) {
  return bits == 8 && elements == 32 ? j / 16 * 16 * groups + g * 16 + j % 16 : g * elements + j;
}

// Operand `source` as (n, K) by rows (kByRow) or by k.
template <int kN, int kK, bool kByRow>
void Gather(const Wave& w, const Operand& source, Format format, double* matrix) {
  constexpr int kGroups = kLanes / kN, kElements = kK / kGroups;
  const int bits = BitsOf(format), per_word = 32 / bits;
  const uint32_t mask = bits == 16 ? 0xffffu : (1u << bits) - 1;
  if (source.place != Place::kVector) throw Error("a matrix operand that is no vector register: " + w.current->text);
  for (int j = 0; j < kElements; ++j) {
    const uint32_t* words = w.v[source.index + j / per_word];
    const int shift = j % per_word * bits;
    for (int l = 0; l < kLanes; ++l) {
      const int k = KOf(j, l / kN, kGroups, kElements, bits), i = l % kN;
      matrix[kByRow ? i * kK + k : k * kN + i] = static_cast<double>(Element(format, words[l] >> shift & mask));
    }
  }
}

// Scales as (n, groups) or (groups, n).
template <int kN, bool kByRow>
void GatherScales(const Wave& w, const Operand& source, uint32_t byte, double* scales) {
  constexpr int kGroups = kLanes / kN;
  if (source.place != Place::kVector) throw Error("a block scale that is no vector register: " + w.current->text);
  for (int l = 0; l < kLanes; ++l) {
    const int i = l % kN, g = l / kN;
    scales[kByRow ? i * kGroups + g : g * kN + i] = E8m0ToDouble(w.v[source.index][l] >> (8 * byte) & 255);
  }
}

template <int kN, int kK, bool kScaled>
void MultiplyAdd(Wave& w, const Instruction& i, Format of_a, Format of_b) {
  constexpr int kGroups = kLanes / kN, kRegisters = kN * kN / kLanes;
  constexpr int kBlocks = kScaled ? kK / 32 : 1, kOfBlock = kK / kBlocks;
  alignas(64) double a[kN * kK], b[kK * kN], scale_a[kN * kGroups], scale_b[kGroups * kN];
  Gather<kN, kK, true>(w, i.operands[1], of_a, a);
  Gather<kN, kK, false>(w, i.operands[2], of_b, b);
  if constexpr (kScaled) {
    GatherScales<kN, true>(w, i.operands[4], (i.op_sel & 1u) | (i.op_sel_hi & 1u) << 1, scale_a);
    GatherScales<kN, false>(w, i.operands[5], (i.op_sel >> 1 & 1u) | (i.op_sel_hi >> 1 & 1u) << 1, scale_b);
  }
  alignas(64) double sum[kN][kN] = {};
  for (int row = 0; row < kN; ++row) {
    for (int block = 0; block < kBlocks; ++block) {
      double dot[kN] = {};
      for (int k = block * kOfBlock; k < (block + 1) * kOfBlock; ++k) {
        const double factor = a[row * kK + k];
        for (int column = 0; column < kN; ++column) dot[column] += factor * b[k * kN + column];
      }
      for (int column = 0; column < kN; ++column) {
        if constexpr (kScaled) {
          sum[row][column] += dot[column] * scale_a[row * kGroups + block] * scale_b[block * kN + column];
        } else {
          sum[row][column] += dot[column];
        }
      }
    }
  }
  // EXEC does not matter, and D may overlap the sources: all is read before anything is written.
  uint32_t result[kRegisters][kLanes];
  const Operand& c = i.operands[3];
  for (int r = 0; r < kRegisters; ++r) {
    for (int l = 0; l < kLanes; ++l) {
      const int row = 4 * kGroups * (r / 4) + 4 * (l / kN) + r % 4;
      const float added = AsFloat(c.place == Place::kVector ? w.v[c.index + r][l] : Scalar32(w, c));
      result[r][l] = AsBits(static_cast<float>(sum[row][l % kN] + static_cast<double>(added)));
    }
  }
  for (int r = 0; r < kRegisters; ++r) std::memcpy(Vector(w, i.operands[0], r), result[r], sizeof(result[r]));
  ++w.counters->matrix;
}

template <int kN, int kK, Format kFormat>
Operation Plain() {
  return {[](Wave& w, const Instruction& i) { MultiplyAdd<kN, kK, false>(w, i, kFormat, kFormat); }};
}
// Formats are modifiers of the instruction; with scales there are six operands.
template <int kN, int kK, bool kScaled>
Operation Mixed() {
  return {[](Wave& w, const Instruction& i) {
    MultiplyAdd<kN, kK, kScaled>(w, i, FormatOf(i.cbsz, i), FormatOf(i.blgp, i));
  }};
}

}  // namespace

void AddMatrix(OperationTable& table) {
  table["v_mfma_f32_16x16x32_bf16"] = Plain<16, 32, Format::kBf16>();
  table["v_mfma_f32_32x32x16_bf16"] = Plain<32, 16, Format::kBf16>();
  table["v_mfma_f32_16x16x16_bf16"] = Plain<16, 16, Format::kBf16>();
  table["v_mfma_f32_32x32x8_bf16"] = Plain<32, 8, Format::kBf16>();
  table["v_mfma_f32_16x16x32_f16"] = Plain<16, 32, Format::kHalf>();
  table["v_mfma_f32_32x32x16_f16"] = Plain<32, 16, Format::kHalf>();
  table["v_mfma_f32_16x16x128_f8f6f4"] = Mixed<16, 128, false>();
  table["v_mfma_f32_32x32x64_f8f6f4"] = Mixed<32, 64, false>();
  table["v_mfma_scale_f32_16x16x128_f8f6f4"] = Mixed<16, 128, true>();
  table["v_mfma_scale_f32_32x32x64_f8f6f4"] = Mixed<32, 64, true>();
}

}  // namespace gfx950emu
