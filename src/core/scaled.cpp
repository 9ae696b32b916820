#include "core/scaled.h"

#include <cstring>

namespace mxmla {
namespace {

void DequantizeRow(const View<const float, 2>& weight, int64_t row, float* out) {
  std::memcpy(out, &weight(row, 0), static_cast<size_t>(weight.shape[1]) * sizeof(float));
}

void DequantizeRow(const View<const bf16, 2>& weight, int64_t row, float* out) {
  const bf16* values = &weight(row, 0);
  for (int64_t k = 0; k < weight.shape[1]; ++k) out[k] = values[k].ToFloat();
}

void DequantizeRow(const Fp8Block& weight, int64_t row, float* out) {
  const e4m3* values = &weight.values(row, 0);
  const float* scales = &weight.scales((weight.first_row + row) / kFp8Block, 0);
  for (int64_t k = 0; k < weight.values.shape[1]; ++k) out[k] = values[k].ToFloat() * scales[k / kFp8Block];
}

void DequantizeRow(const Mxfp4<const e2m1x2, 2>& weight, int64_t row, float* out) {
  const e2m1x2* codes = &weight.values(row, 0);
  const e8m0* scales = &weight.scales(row, 0);
  for (int64_t pair = 0; pair < weight.values.shape[1]; ++pair) {
    const float scale = scales[2 * pair / kMxBlock].ToFloat();
    out[2 * pair] = codes[pair].Low() * scale;
    out[2 * pair + 1] = codes[pair].High() * scale;
  }
}

}  // namespace

std::string_view FormatName(const LinearWeight& weight) {
  constexpr std::string_view kNames[] = {"f32", "bf16", "fp8-block128", "mxfp4"};
  return kNames[weight.index()];
}

int64_t ByteCount(const LinearWeight& weight) {
  const int64_t n = RowCount(weight);
  const int64_t k = ColumnCount(weight);
  switch (weight.index()) {
    case 0:
      return n * k * 4;
    case 1:
      return n * k * 2;
    case 2:
      return n * k + ((n + kFp8Block - 1) / kFp8Block) * ((k + kFp8Block - 1) / kFp8Block) * 4;
    default:
      return n * k / 2 + n * k / kMxBlock;
  }
}

void DequantizeRow(const LinearWeight& weight, int64_t row, float* out) {
  std::visit([&](const auto& w) { DequantizeRow(w, row, out); }, weight);
}

}  // namespace mxmla
