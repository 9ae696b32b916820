// Quantising activations, and the copy.
#include "gpu/quantized_rows.cuh"
#include "gpu/row_kernels.h"

namespace mxmla::gpu {
namespace {

struct QuantizeParams {
  FloatPlane<const void> x;  // (rows, heads, n)
  QuantizedPlane out;        // (rows, heads, n)
  Pieces pieces;             // of rows * heads vectors
  uint32_t heads;
};

template <Access kAccess>
__global__ void __launch_bounds__(Pieces::kThreads) QuantizeKernel(const QuantizeParams p) {
  WaitForPredecessor();
  const Piece piece(p.pieces);
  const uint32_t r = piece.vector / p.heads;
  const uint32_t h = piece.vector - r * p.heads;
  float v[kPiece] = {};
  if (piece.count > 0) LoadPiece<kAccess>(p.x, r, h, piece.begin, piece.count, v);
  StoreQuantized(p.out, r, h, piece.begin, piece.count, v);
}

struct FlattenParams {
  FloatPlane<const void> x;  // (rows, heads, n)
  QuantizedPlane out;        // (rows, heads * n)
  Pieces pieces;             // of rows vectors
  uint32_t n;
};

// A piece lies in one head where n is a multiple of 8; else its elements are looked for one by one.
template <Access kAccess>
__global__ void __launch_bounds__(Pieces::kThreads) FlattenQuantizeKernel(const FlattenParams p) {
  WaitForPredecessor();
  const Piece piece(p.pieces);
  float v[kPiece] = {};
  if (piece.count > 0 && (kAccess != Access::kAny || p.n % kPiece == 0)) {
    const int64_t h = static_cast<uint32_t>(piece.begin) / p.n;
    LoadPiece<kAccess>(p.x, piece.vector, h, piece.begin - h * p.n, piece.count, v);
  } else {
    for (int i = 0; i < piece.count; ++i) {
      const int64_t h = static_cast<uint32_t>(piece.begin + i) / p.n;
      float one[kPiece];
      LoadPiece<Access::kAny>(p.x, piece.vector, h, piece.begin + i - h * p.n, 1, one);
      v[i] = one[0];
    }
  }
  StoreQuantized(p.out, piece.vector, 0, piece.begin, piece.count, v);
}

// T has the size of the elements; their bits are copied.
template <class T>
struct CopyParams {
  const T* x;  // (rows, heads, n)
  T* out;      // (rows, heads, n)
  int64_t x_row, x_head, x_step, out_row, out_head, out_step;
  Pieces pieces;
  uint32_t heads;
};

template <class T>
__global__ void __launch_bounds__(Pieces::kThreads) CopyKernel(const CopyParams<T> p) {
  WaitForPredecessor();
  const Piece piece(p.pieces);
  const uint32_t r = piece.vector / p.heads;
  const uint32_t h = piece.vector - r * p.heads;
  const T* from = p.x + r * p.x_row + h * p.x_head + piece.begin * p.x_step;
  T* to = p.out + r * p.out_row + h * p.out_head + piece.begin * p.out_step;
  const bool aligned = (reinterpret_cast<uintptr_t>(from) | reinterpret_cast<uintptr_t>(to)) % 16 == 0;
  if (piece.count == kPiece && p.x_step == 1 && p.out_step == 1 && aligned) {
    constexpr int kWords = kPiece * sizeof(T) / sizeof(uint4);
#pragma unroll
    for (int i = 0; i < kWords; ++i) reinterpret_cast<uint4*>(to)[i] = reinterpret_cast<const uint4*>(from)[i];
    return;
  }
  for (int i = 0; i < piece.count; ++i) to[i * p.out_step] = from[i * p.x_step];
}

template <class T, class Element>
void CopyElements(const ExecContext& context, const View<const Element, 3>& x, const View<Element, 3>& out) {
  static_assert(sizeof(T) == sizeof(Element));
  CopyParams<T> p{};
  p.x = reinterpret_cast<const T*>(x.data);
  p.out = reinterpret_cast<T*>(out.data);
  p.x_row = x.stride[0], p.x_head = x.stride[1], p.x_step = x.stride[2];
  p.out_row = out.stride[0], p.out_head = out.stride[1], p.out_step = out.stride[2];
  p.pieces = Pieces("copy", x.shape[0] * x.shape[1], x.shape[2]);
  p.heads = static_cast<uint32_t>(x.shape[1]);
  Launch(context, "copy", CopyKernel<T>, p.pieces.blocks(), Pieces::kThreads, 0, p);
}

}  // namespace

void Quantize(const ExecContext& context, const QuantizeArgs& args) {
  QuantizeParams p{};
  p.x = FloatPlaneOf(args.x);
  p.out = QuantizedPlaneOf(args.out, args.scale_mode);
  const int64_t n = Extent(args.x, 2);
  p.pieces = Pieces("quantize", Extent(args.x, 0) * Extent(args.x, 1), n);
  p.heads = static_cast<uint32_t>(Extent(args.x, 1));
  const auto kernel = Has(p.x, Access::kHalf, n) ? QuantizeKernel<Access::kHalf> : QuantizeKernel<Access::kAny>;
  Launch(context, "quantize", kernel, p.pieces.blocks(), Pieces::kThreads, 0, p);
}

void FlattenQuantize(const ExecContext& context, const FlattenQuantizeArgs& args) {
  FlattenParams p{};
  p.x = FloatPlaneOf(args.x);
  p.out = QuantizedPlaneOf(args.out, args.scale_mode);
  const int64_t n = Extent(args.x, 2);
  p.n = static_cast<uint32_t>(n);
  p.pieces = Pieces("flatten_quantize", Extent(args.x, 0), Extent(args.x, 1) * n);
  const auto kernel =
      Has(p.x, Access::kHalf, n) ? FlattenQuantizeKernel<Access::kHalf> : FlattenQuantizeKernel<Access::kAny>;
  Launch(context, "flatten_quantize", kernel, p.pieces.blocks(), Pieces::kThreads, 0, p);
}

void Copy(const ExecContext& context, const CopyArgs& args) {
  if (const auto* x = std::get_if<View<const float, 3>>(&args.x)) {
    CopyElements<uint32_t>(context, *x, std::get<View<float, 3>>(args.out));
  } else {
    CopyElements<uint16_t>(context, std::get<View<const bf16, 3>>(args.x), std::get<View<bf16, 3>>(args.out));
  }
}

}  // namespace mxmla::gpu
