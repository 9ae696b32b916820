// Token embedding from a table of any format, whose rows are dequantised.
#include "gpu/pieces.cuh"
#include "gpu/row_kernels.h"

namespace mxmla::gpu {
namespace {

constexpr int kThreadsOfEmbedding = 128;

struct RowsParams {
  const int32_t* tokens;  // (rows)
  int64_t token_step;
  const int32_t* previous;  // (sampled rows) or null
  int64_t previous_step;
  Operand table;  // (vocab, n)
  void* out;      // (rows, n)
  int64_t out_row, out_column;
  bool out_float;
  float scale;
  int rows, n, pieces;  // of a row
};

template <Format kFormat>
__global__ void __launch_bounds__(kThreadsOfEmbedding) EmbeddingRowsKernel(const RowsParams p) {
  WaitForPredecessor();
  const int64_t index = int64_t{blockIdx.x} * kThreadsOfEmbedding + threadIdx.x;
  const int64_t row = index / p.pieces;
  if (row >= p.rows) return;
  const int begin = static_cast<int>(index - row * p.pieces) * kPiece;
  const int count = min(kPiece, p.n - begin);
  int32_t token = p.tokens[row * p.token_step];
  if (token < 0) token = p.previous[(-1 - token) * p.previous_step];
  float values[kPiece] = {};
  if (token >= 0) {
    Piece<kFormat> piece;
    piece.Load(RowAt<kFormat>(p.table, token, 0), begin, count, p.table.whole_pieces, p.table.scale_column);
    piece.Decode(values);
  }
#pragma unroll
  for (int i = 0; i < kPiece; ++i) {
    if (i < count) {
      StoreFloat(p.out, row * p.out_row + (begin + i) * p.out_column, values[i] * p.scale, p.out_float);
    }
  }
}

}  // namespace

void EmbeddingRows(const ExecContext& context, const EmbeddingArgs& args) {
  RowsParams p{};
  p.tokens = args.tokens.data;
  p.token_step = args.tokens.stride[0];
  p.previous = args.previous.data;
  p.previous_step = args.previous.stride[0];
  p.table = OperandOf(args.table);
  std::visit(
      [&](const auto& out) {
        p.out = out.data;
        p.out_row = out.stride[0];
        p.out_column = out.stride[1];
        p.out_float = std::is_same_v<typename std::decay_t<decltype(out)>::Element, float>;
      },
      args.out);
  p.scale = args.scale;
  p.rows = static_cast<int>(args.tokens.shape[0]);
  p.n = static_cast<int>(Extent(args.out, 1));
  p.pieces = (p.n + kPiece - 1) / kPiece;
  const int64_t blocks = (int64_t{p.rows} * p.pieces + kThreadsOfEmbedding - 1) / kThreadsOfEmbedding;
  // Tables in float32 and bf16 are gpu::Embedding's, which the table of kernels lists first.
  ForFormat<static_cast<int>(Format::kBf16) + 1, kWeightFormats>(p.table.format, [&](auto format) {
    Launch(context, "embedding", EmbeddingRowsKernel<format()>, blocks, kThreadsOfEmbedding, 0, p);
  });
}

}  // namespace mxmla::gpu
