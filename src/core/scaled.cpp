#include "core/scaled.h"

namespace mxmla {

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

}  // namespace mxmla
