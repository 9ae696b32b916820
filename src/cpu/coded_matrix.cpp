#include "cpu/coded_matrix.h"

namespace mxmla::cpu::MXMLA_CPU_ISA {
namespace {

// Lanes 0..7 are `first`, the others `last`: what the halves of a block's even (and odd) elements are scaled by.
MXMLA_INLINE F32x16 Halves(float first, float last) {
  alignas(64) float lanes[16];
  for (int i = 0; i < 8; ++i) {
    lanes[i] = first;
    lanes[8 + i] = last;
  }
  return Load(lanes);
}

// The lower 8 bits of each lane as a signed integer's value.
MXMLA_INLINE F32x16 SignedByte(U32x16 lanes) { return ToFloat(AsSigned(lanes << 24) >> 24); }

MXMLA_INLINE F32x16 HalfValue(U32x16 bits /* the low 16 of each lane; above is anything */) {
  const U32x16 magnitude = bits & Splat(0x7fffu);
  // The exponents' biases differ by 112; subnormals come out right as well.
  const F32x16 finite = FromBits(magnitude << 13) * Splat(0x1p112f);
  const U32x16 special = Splat(0x7f800000u) | (magnitude << 13);
  const U32x16 value = Select(AsSigned(magnitude) >= Splat(int32_t{0x7c00}), special, BitsOf(finite));
  return FromBits(value | ((bits & Splat(0x8000u)) << 16));
}

MXMLA_INLINE Block DecodeBlock(const View<const f16, 2>& weight, int64_t row, int64_t block) {
  const U32x16 pairs = LoadWords(weight.data + row * weight.stride[0] + block * kBlock);
  return {HalfValue(pairs), HalfValue(pairs >> 16)};
}

MXMLA_INLINE Block DecodeBlock(const Mxfp8& weight, int64_t row, int64_t block) {
  return DecodeFp8(&weight.values(row, block * kBlock), weight.scales(row, block).ToFloat());
}

MXMLA_INLINE Block DecodeBlock(const Nvfp4& weight, int64_t row, int64_t block) {
  const Block codes = DecodeMxfp4(&weight.values(row, block * (kBlock / 2)), 1.0f);
  const F32x16 scale = Halves(weight.Scale(row, 2 * block), weight.Scale(row, 2 * block + 1));
  return {codes.even * scale, codes.odd * scale};
}

MXMLA_INLINE Block DecodeBlock(const GgmlMatrix<q8_0>& weight, int64_t row, int64_t block) {
  const q8_0& from = weight.values(row, block);
  const F32x16 scale = Splat(from.d.ToFloat());
  const U32x16 pairs = WidenShorts(from.q);
  return {SignedByte(pairs) * scale, SignedByte(pairs >> 8) * scale};
}

MXMLA_INLINE Block DecodeBlock(const GgmlMatrix<q4_k>& weight, int64_t row, int64_t block) {
  const q4_k& from = weight.values(row, block / 8);
  const auto group = static_cast<int>(block % 8);
  const F32x16 scale = Splat(from.d.ToFloat() * static_cast<float>(from.Scale(group)));
  const F32x16 minimum = Splat(from.dmin.ToFloat() * static_cast<float>(from.Minimum(group)));
  const U32x16 pairs = WidenShorts(from.q + 32 * (group / 2)) >> (4 * (group % 2));
  const auto value = [&](U32x16 codes) __attribute__((always_inline)) {
    return ToFloat(AsSigned(codes & Splat(15u))) * scale - minimum;  // the product is exact
  };
  return {value(pairs), value(pairs >> 8)};
}

MXMLA_INLINE Block DecodeBlock(const GgmlMatrix<q6_k>& weight, int64_t row, int64_t block) {
  const q6_k& from = weight.values(row, block / 8);
  const auto half = static_cast<int>(block % 8 / 4);
  const auto quarter = static_cast<int>(block % 4);
  const float d = from.d.ToFloat();
  const int8_t* scales = from.scales + 8 * half + 2 * quarter;
  const F32x16 scale = Halves(d * static_cast<float>(scales[0]), d * static_cast<float>(scales[1]));
  const U32x16 low = WidenShorts(from.low + 64 * half + 32 * (quarter % 2)) >> (quarter < 2 ? 0 : 4);
  const U32x16 high = WidenShorts(from.high + 32 * half) >> (2 * quarter);
  const auto value = [&](int shift) __attribute__((always_inline)) {
    const U32x16 code = ((low >> shift) & Splat(15u)) | (((high >> shift) & Splat(3u)) << 4);
    return ToFloat(AsSigned(code) - Splat(int32_t{32})) * scale;
  };
  return {value(0), value(8)};
}

MXMLA_INLINE Block DecodeBlock(const GgmlMatrix<ggml_mxfp4>& weight, int64_t row, int64_t block) {
  const ggml_mxfp4& from = weight.values(row, block);
  const Block halves = DecodeMxfp4(from.q, from.scale.ToFloat());  // the first 16 elements and the last
  alignas(64) float ordered[kBlock];
  Store(ordered, halves.even);
  Store(ordered + 16, halves.odd);
  return Deinterleave(ordered);
}

MXMLA_INLINE void StoreBlock(const Block& block, float* to) {
  Store(to, block.even);
  Store(to + 16, block.odd);
}

template <class Weight>
void Decode(const void* any, int64_t row, const Stretch& stretch, float* to, int64_t step) {
  const Weight& weight = *static_cast<const Weight*>(any);
  for (int64_t i = 0; i < stretch.blocks; ++i) {
    StoreBlock(DecodeBlock(weight, row, stretch.first_block + i), to + i * step);
  }
  if (stretch.tail == 0) return;
  alignas(64) float padded[kBlock] = {};
  Dequantize(weight, row, (stretch.first_block + stretch.blocks) * kBlock, stretch.tail, padded);
  StoreBlock(Deinterleave(padded), to + stretch.blocks * step);
}

}  // namespace

CodedMatrix Coded(const View<const f16, 2>& weight) { return {&weight, &Decode<View<const f16, 2>>}; }
CodedMatrix Coded(const Mxfp8& weight) { return {&weight, &Decode<Mxfp8>}; }
CodedMatrix Coded(const Nvfp4& weight) { return {&weight, &Decode<Nvfp4>}; }
CodedMatrix Coded(const GgmlMatrix<q8_0>& weight) { return {&weight, &Decode<GgmlMatrix<q8_0>>}; }
CodedMatrix Coded(const GgmlMatrix<q4_k>& weight) { return {&weight, &Decode<GgmlMatrix<q4_k>>}; }
CodedMatrix Coded(const GgmlMatrix<q6_k>& weight) { return {&weight, &Decode<GgmlMatrix<q6_k>>}; }
CodedMatrix Coded(const GgmlMatrix<ggml_mxfp4>& weight) { return {&weight, &Decode<GgmlMatrix<ggml_mxfp4>>}; }

}  // namespace mxmla::cpu::MXMLA_CPU_ISA
