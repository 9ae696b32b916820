// Token embedding: a row of the table for each token.
#include "gpu/row_io.cuh"
#include "gpu/row_kernels.h"

namespace mxmla::gpu {
namespace {

struct Params {
  Strided<const int32_t> tokens;    // (rows)
  Strided<const int32_t> previous;  // (sampled rows) or absent
  FloatPlane<const void> table;     // (vocab, n)
  FloatPlane<void> out;             // (rows, n)
  float scale;
  Pieces pieces;
};

__global__ void __launch_bounds__(Pieces::kThreads) EmbeddingKernel(const Params p) {
  WaitForPredecessor();
  const Piece piece(p.pieces);
  if (piece.count == 0) return;
  int32_t token = p.tokens(piece.vector);
  if (token < 0) token = p.previous(-1 - token);
  float v[kPiece] = {};
  if (token >= 0) LoadPiece<Access::kAny>(p.table, token, 0, piece.begin, piece.count, v);
#pragma unroll
  for (int i = 0; i < kPiece; ++i) v[i] *= p.scale;
  StorePiece<Access::kAny>(p.out, piece.vector, 0, piece.begin, piece.count, v);
}

FloatPlane<const void> TablePlane(const LinearWeight& table) {
  if (const auto* plain = std::get_if<View<const float, 2>>(&table)) return FloatPlaneOf(*plain);
  return FloatPlaneOf(std::get<View<const bf16, 2>>(table));
}

}  // namespace

void Embedding(const ExecContext& context, const EmbeddingArgs& args) {
  Params p{};
  p.tokens = StridedOf(args.tokens);
  p.previous = StridedOf(args.previous);
  p.table = TablePlane(args.table);
  p.out = FloatPlaneOf(args.out);
  p.scale = args.scale;
  p.pieces = Pieces("embedding", args.tokens.shape[0], Extent(args.out, 1));
  Launch(context, "embedding", EmbeddingKernel, p.pieces.blocks(), Pieces::kThreads, 0, p);
}

}  // namespace mxmla::gpu
