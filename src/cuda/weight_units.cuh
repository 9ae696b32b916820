// Weights for one row of activations, as they stream through a warp: units of 16 rows by 256 of k, which the warp
// requests ahead into a ring of its own in shared memory.
#pragma once

#include "cuda/stream_plan.cuh"

namespace mxmla::cuda {

constexpr int kUnitK = 256;

template <WeightKind kKind>
struct WeightUnit {
  static_assert(kKind == WeightKind::kMxfp4 || kKind == WeightKind::kFp8);
  static constexpr bool kMx = kKind == WeightKind::kMxfp4;
  using Format = StreamFormat<kKind, kUnitK>;
  static constexpr int kSteps = kMx ? 1 : 2;  // of Format::kStep elements of k
  static constexpr int kPieces = 8 / kSteps;  // of a lane and a step
  static constexpr int kValueBytes = kMx ? 2048 : 4096;
  static constexpr int kBytes = kValueBytes + 128;  // and 4 bytes of scales a lane
  static constexpr int kStages = kMx ? 4 : 2;       // of a ring

  // A lane's share of a unit: of rows g and g + 8, with g = lane / 4.
  uint4 values[kSteps][2][2];
  uint32_t scales[2][2];  // of the unit's halves of k and of the two rows

  // Requests a unit of `rows` rows and `k` elements, from what the lane copies of it on; what lies behind these is read
  // as zeros. A lane reads back the values that it has requested itself, and every lane reads scales.
  __device__ __forceinline__ static void Request(const uint8_t* values, int64_t half_bytes, const uint8_t* scales,
                                                 int rows, int k, uint32_t to /* shared, of the lane */,
                                                 uint32_t scales_to) {
    if (rows >= kTileRows && k >= kUnitK) {
#pragma unroll
      for (int i = 0; i < 2 * kSteps; ++i) {
        CopyWhole(to + i * 1024, values + i * 64);
        CopyWhole(to + i * 1024 + 512, values + half_bytes + i * 64);
      }
      CopySmall<4>(scales_to, scales, 4);
    } else {
      const int lane = static_cast<int>(threadIdx.x) % 32, g = lane / 4, t = lane % 4;
#pragma unroll 1
      for (int i = 0; i < 2 * kSteps; ++i) {
        const bool in_k = i / 2 * Format::kStep + i % 2 * Format::kLoadStepK + t * Format::kLoadK < k;
        CopyWeights(to + i * 1024, values + i * 64, in_k && g < rows);
        CopyWeights(to + i * 1024 + 512, values + half_bytes + i * 64, in_k && g + 8 < rows);
      }
      const int valid = kMx ? min(max(k / 32 - lane % 2 * 4, 0), 4) : lane % 2 * 128 < k ? 4 : 0;
      CopySmall<4>(scales_to, scales, lane / 2 < rows ? valid : 0);
    }
  }

  // The whole warp calls, behind a barrier of the warp that follows the copies' end.
  __device__ __forceinline__ void Load(const uint8_t* stage) {
    const int lane = static_cast<int>(threadIdx.x) % 32, g = lane / 4, t = lane % 4;
#pragma unroll
    for (int s = 0; s < kSteps; ++s) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          values[s][i][h] = *reinterpret_cast<const uint4*>(stage + s * 2048 + i * 1024 + h * 512 + lane * 16);
        }
      }
    }
    const uint8_t* const at = stage + kValueBytes;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const int row = g + 8 * h;
        scales[half][h] = kMx ? at[row * 8 + half * 4 + t] : reinterpret_cast<const uint32_t*>(at)[row * 2 + half];
      }
    }
  }

  // The row's elements of the unit as the right operand, of which one column is used; `x` is in the order of PairPiece,
  // or, FP8, scaled to fp16.
  struct Columns {
    uint32_t b[8][4];
    __device__ __forceinline__ void Load(const uint8_t* x /* shared, of the unit's first k */) {
      const int lane = static_cast<int>(threadIdx.x) % 32, t = lane % 4;
#pragma unroll
      for (int p = 0; p < 8; ++p) {
        const int at = p / kPieces * Format::kStep + Format::Piece(p % kPieces, t);
        uint4 piece = make_uint4(0, 0, 0, 0);
        if (lane < 4) piece = *reinterpret_cast<const uint4*>(x + at * 2);
        b[p][0] = piece.x, b[p][1] = piece.y, b[p][2] = piece.z, b[p][3] = piece.w;
      }
    }
  };

  // The sums over k of the unit's rows, in the order of Stream::Run: whole, or those of its halves apart. FP8:
  // `inverse` is that of the row's HalfScale.
  __device__ __forceinline__ void Multiply(const Columns& x, float inverse, bool halves_apart,
                                           float* to /* shared, (1 or 2, 16) */) const {
    if constexpr (kMx) {
      const uint32_t largest = max(max(scales[0][0], scales[0][1]), max(scales[1][0], scales[1][1]));
      if (__any_sync(~0u, largest > 128)) {
        MultiplyMxfp4<true>(x, halves_apart, to);
      } else {
        MultiplyMxfp4<false>(x, halves_apart, to);
      }
    } else {
      float sum[2] = {0, 0};
#pragma unroll
      for (int s = 0; s < kSteps; ++s) {
        float d[2][4] = {};
#pragma unroll
        for (int p = 0; p < kPieces; ++p) {
#pragma unroll
          for (int half = 0; half < 2; ++half) {
            uint32_t a[2][2];
#pragma unroll
            for (int h = 0; h < 2; ++h) HalvesOfE4m3(WordOf(values[s][p / 2][h], p % 2 * 2 + half), a[h]);
            MmaHalves(d[half], a[0], a[1], x.b[s * kPieces + p] + 2 * half);
          }
        }
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          const float of_square = __fmul_rn(__fadd_rn(d[0][2 * h], d[1][2 * h]), inverse);
          sum[h] = __fmaf_rn(of_square, __uint_as_float(scales[s][h]), sum[h]);
        }
        if (halves_apart || s + 1 == kSteps) {
          Put(to + (halves_apart ? s * kTileRows : 0), sum[0], sum[1]);
          sum[0] = sum[1] = 0;
        }
      }
    }
  }

 private:
  __device__ __forceinline__ static void CopyWhole(uint32_t to, const uint8_t* from) {
    asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16;" ::"r"(to), "l"(from) : "memory");
  }
  __device__ __forceinline__ static void Put(float* to, float upper, float lower) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    if (lane % 4 == 0) to[lane / 4] = upper, to[lane / 4 + 8] = lower;
  }

  template <bool kLarge>
  __device__ __forceinline__ void MultiplyMxfp4(const Columns& x, bool halves_apart, float* to) const {
    float acc[2][4] = {};
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      uint32_t factor[2];
#pragma unroll
      for (int h = 0; h < 2; ++h) factor[h] = MxFactor<kLarge>(scales[i][h]);
#pragma unroll
      for (int p = 0; p < 4; ++p) {
        uint32_t a[2][4];
#pragma unroll
        for (int h = 0; h < 2; ++h) DecodeMxWord<kLarge>(WordOf(values[0][i][h], p), factor[h], a[h]);
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          Mma(acc[half], a[0] + 2 * half, a[1] + 2 * half, x.b[4 * i + p] + 2 * half);
        }
      }
      if (halves_apart || i == 1) {
        Put(to + (halves_apart ? i * kTileRows : 0), __fadd_rn(acc[0][0], acc[1][0]), __fadd_rn(acc[0][2], acc[1][2]));
#pragma unroll
        for (int j = 0; j < 4; ++j) acc[0][j] = acc[1][j] = 0;
      }
    }
  }
};

}  // namespace mxmla::cuda
