#include "core/scaled.h"

namespace mxmla {

std::string_view FormatName(const LinearWeight& weight) {
  if (const auto* fp8 = std::get_if<Fp8Block>(&weight)) {
    return fp8->in_squares() ? "fp8-block128" : fp8->scale_rows == 1 ? "fp8-channel" : "fp8-tensor";
  }
  constexpr std::string_view kNames[] = {"f32",      "bf16",  "fp8",  "mxfp4", "f16",  "mxfp8",
                                         "int4-g32", "nvfp4", "q8_0", "q4_k",  "q6_k", "ggml-mxfp4"};
  static_assert(std::size(kNames) == std::variant_size_v<LinearWeight>);
  return kNames[weight.index()];
}

int64_t ByteCount(const LinearWeight& weight) {
  int64_t bytes = 0;
  std::visit(
      [&](const auto& w) {
        using W = std::decay_t<decltype(w)>;
        if constexpr (std::is_same_v<W, Fp8Block>) {
          // Scales are read where they differ; a slice counts those of its own rows as if it began a square.
          const int64_t rows = w.scales.stride[0] == 0 ? 1 : (w.values.shape[0] + w.scale_rows - 1) / w.scale_rows;
          const int64_t columns = w.scales.stride[1] == 0 ? 1 : w.scales.shape[1];
          bytes = w.values.size() + rows * columns * 4;
        } else {
          ForEachPlane(w,
                       [&](const auto& plane) { bytes += plane.size() * static_cast<int64_t>(sizeof(*plane.data)); });
          if constexpr (std::is_same_v<W, Nvfp4>) bytes += 4;
        }
      },
      weight);
  return bytes;
}

void Dequantize(const Mxfp4<const e2m1x2, 2>& weight, int64_t row, int64_t begin, int64_t count, float* out) {
  for (int64_t i = 0; i < count; ++i) {
    const e2m1x2 pair = weight.values(row, (begin + i) / 2);
    out[i] = ((begin + i) % 2 ? pair.High() : pair.Low()) * weight.scales(row, (begin + i) / kMxBlock).ToFloat();
  }
}

void Dequantize(const LinearWeight& weight, int64_t row, int64_t begin, int64_t count, float* out) {
  std::visit([&](const auto& w) { Dequantize(w, row, begin, count, out); }, weight);
}

}  // namespace mxmla
