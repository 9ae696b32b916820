// Rotary position embedding. A thread reads its pairs before it writes them, so that `out` may be `x`.
#include "gpu/norm_row.cuh"
#include "gpu/row_kernels.h"

namespace mxmla::gpu {
namespace {

constexpr int kThreads = 128;

struct Params {
  FloatPlane<const void> x;    // (rows, heads, 2 * pairs)
  FloatPlane<void> out;        // (.., heads, 2 * pairs)
  FloatPlane<const void> cos;  // (rows, pairs)
  FloatPlane<const void> sin;  // (rows, pairs)
  Strided<const int64_t> out_index;
  uint32_t total;  // threads: rows * heads * (pairs, or pieces)
  uint32_t heads, pairs;
  bool interleaved;
};

// A thread's place: part `part` of `parts` of a head.
struct Place {
  uint32_t r, h, part;

  __device__ Place(const Params& p, uint32_t index, uint32_t parts) {
    const uint32_t vector = index / parts;
    part = index - vector * parts;
    r = vector / p.heads;
    h = vector - r * p.heads;
  }
};

// A thread a pair.
__global__ void __launch_bounds__(kThreads) RopeKernel(const Params p) {
  WaitForPredecessor();
  const uint32_t index = blockIdx.x * kThreads + threadIdx.x;
  if (index >= p.total) return;
  const Place at(p, index, p.pairs);
  const int64_t i = at.part;
  const int64_t to = p.out_index ? p.out_index(at.r) : at.r;
  const int64_t first = p.interleaved ? 2 * i : i;
  const int64_t second = p.interleaved ? 2 * i + 1 : i + p.pairs;
  const int64_t x = at.r * p.x.row + at.h * p.x.head;
  const int64_t out = to * p.out.row + at.h * p.out.head;
  float a = Element(p.x, x + first * p.x.step);
  float b = Element(p.x, x + second * p.x.step);
  Turn(&a, &b, Element(p.cos, at.r * p.cos.row + i * p.cos.step), Element(p.sin, at.r * p.sin.row + i * p.sin.step));
  SetElement(p.out, out + first * p.out.step, a);
  SetElement(p.out, out + second * p.out.step, b);
}

// A thread four interleaved pairs: x and out are whole pieces of bf16, cos and sin of float32.
__global__ void __launch_bounds__(kThreads) RopePiecesKernel(const Params p) {
  WaitForPredecessor();
  const uint32_t index = blockIdx.x * kThreads + threadIdx.x;
  if (index >= p.total) return;
  const Place at(p, index, 2 * p.pairs / kPiece);
  const int64_t begin = int64_t{at.part} * kPiece;
  const int64_t to = p.out_index ? p.out_index(at.r) : at.r;
  float v[kPiece];
  LoadPiece<Access::kHalf>(p.x, at.r, at.h, begin, kPiece, v);
  const auto four = [&](const FloatPlane<const void>& angles) {
    return static_cast<const float*>(angles.data) + at.r * angles.row + begin / 2;
  };
  TurnPiece(v, four(p.cos), four(p.sin));
  StorePiece<Access::kHalf>(p.out, to, at.h, begin, kPiece, v);
}

struct AngleParams {
  Strided<const int32_t> positions;          // (rows)
  Strided<const float> inverse_frequencies;  // (pairs)
  View<float, 2> cos, sin;                   // (rows, pairs)
  int64_t total;
  uint32_t pairs;
  float factor;
};

// Once a step: the angle is float32's, its cosine is rounded from float64's.
__global__ void __launch_bounds__(kThreads) RopeAnglesKernel(const AngleParams p) {
  WaitForPredecessor();
  const int64_t index = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (index >= p.total) return;
  const int64_t r = index / p.pairs;
  const int64_t i = index - r * p.pairs;
  const double angle = static_cast<float>(p.positions(r)) * p.inverse_frequencies(i);
  p.cos.data[r * p.cos.stride[0] + i * p.cos.stride[1]] = static_cast<float>(cos(angle)) * p.factor;
  p.sin.data[r * p.sin.stride[0] + i * p.sin.stride[1]] = static_cast<float>(sin(angle)) * p.factor;
}

}  // namespace

void Rope(const ExecContext& context, const RopeArgs& args) {
  const int64_t pairs = Extent(args.x, 2) / 2;
  Params p{};
  p.x = FloatPlaneOf(args.x);
  p.out = FloatPlaneOf(args.out);
  p.cos = FloatPlaneOf(args.cos);
  p.sin = FloatPlaneOf(args.sin);
  p.out_index = StridedOf(args.out_index);
  p.heads = static_cast<uint32_t>(Extent(args.x, 1));
  p.pairs = static_cast<uint32_t>(pairs);
  p.interleaved = args.interleaved;
  const bool pieces = args.interleaved && Has(p.x, Access::kHalf, 2 * pairs) && Has(p.out, Access::kHalf, 2 * pairs) &&
                      Has(p.cos, Access::kFull, pairs) && Has(p.sin, Access::kFull, pairs);
  const int64_t total = Extent(args.x, 0) * Extent(args.x, 1) * (pieces ? 2 * pairs / kPiece : pairs);
  if (total > 0xffffff00) {
    Fail(ErrorCode::kLayout, "rope", "at most 2^32 pairs", std::to_string(total), "choose a smaller batch");
  }
  p.total = static_cast<uint32_t>(total);
  Launch(context, "rope", pieces ? RopePiecesKernel : RopeKernel, DivideUp(total, kThreads), kThreads, 0, p);
}

void RopeAngles(const ExecContext& context, const RopeAnglesArgs& args) {
  AngleParams p{};
  p.positions = StridedOf(args.positions);
  p.inverse_frequencies = StridedOf(args.inverse_frequencies);
  p.cos = args.cos;
  p.sin = args.sin;
  p.total = args.cos.size();
  p.pairs = static_cast<uint32_t>(args.inverse_frequencies.shape[0]);
  p.factor = args.factor;
  Launch(context, "rope_angles", RopeAnglesKernel, DivideUp(p.total, kThreads), kThreads, 0, p);
}

}  // namespace mxmla::gpu
