// Rotary position embedding: a thread a pair, which it reads before it writes, so that `out` may be `x`.
#include "gpu/row_io.cuh"
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
  int64_t total;  // rows * heads * pairs
  uint32_t heads, pairs;
  bool interleaved;
};

__device__ __forceinline__ float Element(const FloatPlane<const void>& x, int64_t at) {
  return x.half ? FromHalf(static_cast<const uint16_t*>(x.data)[at]) : static_cast<const float*>(x.data)[at];
}
__device__ __forceinline__ void SetElement(const FloatPlane<void>& out, int64_t at, float value) {
  if (out.half) {
    static_cast<uint16_t*>(out.data)[at] = static_cast<uint16_t>(ToHalf(value));
  } else {
    static_cast<float*>(out.data)[at] = value;
  }
}

__global__ void __launch_bounds__(kThreads) RopeKernel(const Params p) {
  WaitForPredecessor();
  const int64_t index = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (index >= p.total) return;
  const int64_t vector = index < 0x7fffffff ? static_cast<uint32_t>(index) / p.pairs : index / p.pairs;
  const int64_t i = index - vector * p.pairs;
  const int64_t r = vector < 0x7fffffff ? static_cast<uint32_t>(vector) / p.heads : vector / p.heads;
  const int64_t h = vector - r * p.heads;
  const int64_t to = p.out_index ? p.out_index(r) : r;
  const int64_t first = p.interleaved ? 2 * i : i;
  const int64_t second = p.interleaved ? 2 * i + 1 : i + p.pairs;
  const int64_t x = r * p.x.row + h * p.x.head;
  const int64_t out = to * p.out.row + h * p.out.head;
  const float a = Element(p.x, x + first * p.x.step);
  const float b = Element(p.x, x + second * p.x.step);
  const float cosine = Element(p.cos, r * p.cos.row + i * p.cos.step);
  const float sine = Element(p.sin, r * p.sin.row + i * p.sin.step);
  SetElement(p.out, out + first * p.out.step, fmaf(a, cosine, -(b * sine)));
  SetElement(p.out, out + second * p.out.step, fmaf(b, cosine, a * sine));
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
  p.total = Extent(args.x, 0) * Extent(args.x, 1) * pairs;
  p.heads = static_cast<uint32_t>(Extent(args.x, 1));
  p.pairs = static_cast<uint32_t>(pairs);
  p.interleaved = args.interleaved;
  Launch(context, "rope", RopeKernel, DivideUp(p.total, kThreads), kThreads, 0, p);
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
