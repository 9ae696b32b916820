#include "core/weight_formats.h"

namespace mxmla {
namespace {

template <class T>
void DequantizePlain(const View<const T, 2>& weight, int64_t row, int64_t begin, int64_t count, float* out) {
  const T* values = weight.data + row * weight.stride[0] + begin * weight.stride[1];
  for (int64_t i = 0; i < count; ++i) out[i] = ToFloat(values[i * weight.stride[1]]);
}

// Calls value(block, i) for each element, i counted within its block.
template <class Block, class Value>
void EachElement(const GgmlMatrix<Block>& weight, int64_t row, int64_t begin, int64_t count, float* out,
                 const Value& value) {
  for (int64_t i = 0; i < count; ++i) {
    const Block& block = weight.values(row, (begin + i) / Block::kElements);
    out[i] = value(block, static_cast<int>((begin + i) % Block::kElements));
  }
}

}  // namespace

void Dequantize(const View<const float, 2>& weight, int64_t row, int64_t begin, int64_t count, float* out) {
  DequantizePlain(weight, row, begin, count, out);
}
void Dequantize(const View<const bf16, 2>& weight, int64_t row, int64_t begin, int64_t count, float* out) {
  DequantizePlain(weight, row, begin, count, out);
}
void Dequantize(const View<const f16, 2>& weight, int64_t row, int64_t begin, int64_t count, float* out) {
  DequantizePlain(weight, row, begin, count, out);
}

void Dequantize(const Fp8Block& weight, int64_t row, int64_t begin, int64_t count, float* out) {
  const int64_t scale_row = weight.ScaleRow(row);
  for (int64_t i = 0; i < count; ++i) {
    out[i] = weight.values(row, begin + i).ToFloat() * weight.scales(scale_row, (begin + i) / kFp8Block);
  }
}

void Dequantize(const Mxfp8& weight, int64_t row, int64_t begin, int64_t count, float* out) {
  for (int64_t i = 0; i < count; ++i) {
    out[i] = weight.values(row, begin + i).ToFloat() * weight.scales(row, (begin + i) / kMxBlock).ToFloat();
  }
}

void Dequantize(const Int4Group& weight, int64_t row, int64_t begin, int64_t count, float* out) {
  for (int64_t i = 0; i < count; ++i) {
    const int4x2 pair = weight.values(row, (begin + i) / 2);
    const int value = (begin + i) % 2 ? pair.High() : pair.Low();
    out[i] = static_cast<float>(value) * weight.scales(row, (begin + i) / kInt4Group).ToFloat();
  }
}

void Dequantize(const Nvfp4& weight, int64_t row, int64_t begin, int64_t count, float* out) {
  for (int64_t i = 0; i < count; ++i) {
    const e2m1x2 pair = weight.values(row, (begin + i) / 2);
    out[i] = ((begin + i) % 2 ? pair.High() : pair.Low()) * weight.Scale(row, (begin + i) / kNvBlock);
  }
}

void Dequantize(const GgmlMatrix<q8_0>& weight, int64_t row, int64_t begin, int64_t count, float* out) {
  EachElement(weight, row, begin, count, out,
              [](const q8_0& block, int i) { return block.d.ToFloat() * static_cast<float>(block.q[i]); });
}

void Dequantize(const GgmlMatrix<q4_k>& weight, int64_t row, int64_t begin, int64_t count, float* out) {
  EachElement(weight, row, begin, count, out, [](const q4_k& block, int i) {
    const int group = i / 32;
    const int code = (block.q[32 * (group / 2) + i % 32] >> (4 * (group % 2))) & 15;
    const float scale = block.d.ToFloat() * static_cast<float>(block.Scale(group));
    const float minimum = block.dmin.ToFloat() * static_cast<float>(block.Minimum(group));
    return scale * static_cast<float>(code) - minimum;
  });
}

void Dequantize(const GgmlMatrix<q6_k>& weight, int64_t row, int64_t begin, int64_t count, float* out) {
  EachElement(weight, row, begin, count, out, [](const q6_k& block, int i) {
    return block.d.ToFloat() * static_cast<float>(block.scales[i / 16]) * static_cast<float>(block.Code(i));
  });
}

void Dequantize(const GgmlMatrix<ggml_mxfp4>& weight, int64_t row, int64_t begin, int64_t count, float* out) {
  EachElement(weight, row, begin, count, out, [](const ggml_mxfp4& block, int i) {
    return kE2m1Values[(block.q[i % 16] >> (i < 16 ? 0 : 4)) & 15] * block.scale.ToFloat();
  });
}

}  // namespace mxmla
