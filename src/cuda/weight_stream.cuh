// A product of weights with few rows of activations, as fast as the weights can be read.
//
// A slice of k belongs to one warp. The warp holds its slice of up to 8 * kCols activation rows in registers, as the
// right operand of mma.m16n8k16, and streams the weights past it, 16 rows (a tile) at a time, through a private ring of
// shared memory: a lane reads back only what it has itself requested, so the ring needs no barrier. The slices of a CTA
// meet in shared memory, those of a cluster's CTAs in the shared memory of the rank that owns the result, always in the
// order of k.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>
#include <utility>

#include "cuda/half_products.cuh"
#include "cuda/hopper_instructions.cuh"
#include "cuda/weight_fragments.cuh"

namespace mxmla::cuda {

constexpr int kTileRows = 16;
constexpr int kPartialPitch = 20;  // floats between the columns of a partial tile: no bank conflicts
constexpr int kPartialFloats = 8 * kPartialPitch;

// How a product is divided. `slice`, `warps`, `ranks` and `rounds` give the order of the sum and follow from the
// weights' shape and format alone, so that a row's sum does not depend on the other rows.
struct StreamSplit {
  int slice;             // elements of k of one warp at a time: 128 or 256
  int warps;             // slices of a round, a warp each
  int rounds;            // rounds of a rank, whose sums meet in their order
  int ranks;             // CTAs of a cluster; each has a contiguous part of k, `rounds` times `warps` slices
  int clusters;          // that share the tiles evenly
  int tiles;             // at most, of a cluster
  bool late;             // the ring is filled before the activations are waited for
  bool apart;            // the partial sums of all tiles find room: their slices meet once, at the end
  int scale_pitch;       // MXFP4: bytes of a row of scales in shared memory; FP8: squares along k
  int scale_squares;     // FP8: of a part's rows, at most
  int scale_vector;      // MXFP4: bytes of one copy of scales
  int scale_units_log2;  // MXFP4: copies of a row, rounded up to a power of two
  int ring_bytes, scale_bytes, partial_bytes, inbox_bytes, carried_bytes;

  __host__ __device__ int SharedBytes() const {
    return ring_bytes + scale_bytes + partial_bytes + inbox_bytes + carried_bytes;
  }
};

// How a warp reads its slice of a tile: in steps of kStep elements of k; a lane takes kLoads times 16 bytes of a row
// and a step, 64 bytes apart.
template <WeightKind kKind, int kSlice>
struct StreamFormat;
template <int kSlice>
struct StreamFormat<WeightKind::kMxfp4, kSlice> {
  static constexpr int kStep = kSlice;
  static constexpr int kLoadK = 32;       // elements of a load
  static constexpr int kLoadStepK = 128;  // elements from one load of a lane to the next
  __host__ __device__ static constexpr int64_t Bytes(int64_t k) { return k / 2; }
  // Where piece p (8 elements of k) of lane t lies in a step.
  __device__ static constexpr int Piece(int p, int t) { return 128 * (p / 4) + 32 * t + 8 * (p % 4); }
};
template <int kSlice>
struct StreamFormat<WeightKind::kFp8, kSlice> {
  static constexpr int kStep = 128;
  static constexpr int kLoadK = 16;
  static constexpr int kLoadStepK = 64;
  __host__ __device__ static constexpr int64_t Bytes(int64_t k) { return k; }
  __device__ static constexpr int Piece(int p, int t) { return 64 * (p / 2) + 16 * t + 8 * (p % 2); }
};
template <int kSlice>
struct StreamFormat<WeightKind::kBf16, kSlice> {
  static constexpr int kStep = 64;
  static constexpr int kLoadK = 8;
  static constexpr int kLoadStepK = 32;
  __host__ __device__ static constexpr int64_t Bytes(int64_t k) { return 2 * k; }
  __device__ static constexpr int Piece(int p, int t) { return 32 * p + 8 * t; }
};

__device__ __forceinline__ void Mma(float d[4], const uint32_t a0[2], const uint32_t a1[2], const uint32_t b[2]) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a0[0]), "r"(a1[0]), "r"(a0[1]), "r"(a1[1]), "r"(b[0]), "r"(b[1]));
}

// --- weights to fragments: the pairs of a piece that share a register are chosen for cheap decoding ---

// Eight E2M1 codes to the pairs (0, 4), (1, 5), (2, 6), (3, 7), each code's three bits of magnitude as the low bits of
// a bf16's exponent and the first of its mantissa: times 2^126 they are the values. A product with 2^a + 2^b puts a
// code where its sign belongs and where its magnitude belongs.
__device__ __forceinline__ void PlaceE2m1(uint32_t codes, uint32_t out[4]) {
  const uint32_t upper = codes >> 8;
  out[0] = ((codes & 0x000f000fu) * 0x1040u) & 0x81c081c0u;
  out[1] = ((codes & 0x00f000f0u) * 0x0104u) & 0x81c081c0u;
  out[2] = ((upper & 0x000f000fu) * 0x1040u) & 0x81c081c0u;
  out[3] = ((upper & 0x00f000f0u) * 0x0104u) & 0x81c081c0u;
}

// Two copies of what placed codes lack, 2^126 and their block's scale; kLarge: of the scale alone, since a scale above
// 2^1 has no room beside the 2^126.
template <bool kLarge>
__device__ __forceinline__ uint32_t MxFactor(uint32_t scale) {
  return kLarge ? E8m0Pair(scale) : scale * 0x00800080u + 0x3f003f00u;
}
// Eight E2M1 codes to their values, in the pairs of PlaceE2m1.
template <bool kLarge>
__device__ __forceinline__ void DecodeMxWord(uint32_t codes, uint32_t factor, uint32_t out[4]) {
  PlaceE2m1(codes, out);
#pragma unroll
  for (int i = 0; i < 4; ++i) out[i] = Times(kLarge ? Times(out[i], 0x7e807e80u) : out[i], factor);
}

// A piece of activations, (0, 1), (2, 3), (4, 5), (6, 7), to the pairs of the weights.
template <WeightKind kKind>
__device__ __forceinline__ void PairPiece(const uint4& x, uint32_t out[4]) {
  if constexpr (kKind == WeightKind::kMxfp4) {
    out[0] = Permute(x.x, x.z, 0x5410);
    out[1] = Permute(x.x, x.z, 0x7632);
    out[2] = Permute(x.y, x.w, 0x5410);
    out[3] = Permute(x.y, x.w, 0x7632);
  } else {
    out[0] = x.x, out[1] = x.y, out[2] = x.z, out[3] = x.w;
  }
}

__device__ __forceinline__ uint32_t WordOf(const uint4& v, int i) {
  return i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w;
}

// --- asynchronous copies ---

// 16 bytes, or zeros in place of what is not there; of weights, with their line into the L2.
__device__ __forceinline__ void CopyWeights(uint32_t to, const void* from, bool there) {
  asm volatile(
      "{.reg .pred p; setp.eq.b32 p, %2, 0;\n"
      "cp.async.cg.shared.global.L2::128B [%0], [%1], 16, p;}" ::"r"(to),
      "l"(from), "r"(static_cast<int>(there))
      : "memory");
}
__device__ __forceinline__ void Copy16(uint32_t to, const uint8_t* from, bool there) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(there ? 16 : 0) : "memory");
}
template <int kBytes>
__device__ __forceinline__ void CopySmall(uint32_t to, const void* from, int valid) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(to), "l"(from), "n"(kBytes), "r"(valid)
               : "memory");
}
__device__ __forceinline__ void CommitCopies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int kPending>
__device__ __forceinline__ void WaitForCopies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

// --- clusters ---

__device__ __forceinline__ uint32_t ClusterRank() {
  uint32_t rank;
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}
__device__ __forceinline__ void ClusterArrive() {
  asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory");
}
__device__ __forceinline__ void ClusterWait() { asm volatile("barrier.cluster.wait.aligned;" ::: "memory"); }
// A barrier of one arrival and the bytes that other ranks send.
__device__ __forceinline__ void InitBarrier(uint32_t barrier) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(barrier) : "memory");
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}
__device__ __forceinline__ void ExpectBytes(uint32_t barrier, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}
__device__ __forceinline__ void WaitForBytes(uint32_t barrier, int parity) {
  asm volatile(
      "{.reg .pred p;\n"
      "W: mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 p, [%0], %1;\n"
      "@!p bra W;}" ::"r"(barrier),
      "r"(parity)
      : "memory");
}
__device__ __forceinline__ void SendToRank(uint32_t address, uint32_t barrier, int rank, const float4& v) {
  uint32_t remote, remote_barrier;
  asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(remote) : "r"(address), "r"(rank));
  asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(remote_barrier) : "r"(barrier), "r"(rank));
  asm volatile(
      "st.async.shared::cluster.mbarrier::complete_tx::bytes.v4.f32 [%0], {%1, %2, %3, %4}, [%5];" ::"r"(remote),
      "f"(v.x), "f"(v.y), "f"(v.z), "f"(v.w), "r"(remote_barrier)
      : "memory");
}
__device__ __forceinline__ float4 Sum(const float4& a, const float4& b) {
  return make_float4(__fadd_rn(a.x, b.x), __fadd_rn(a.y, b.y), __fadd_rn(a.z, b.z), __fadd_rn(a.w, b.w));
}

// --- scales in shared memory ---

// The bytes of the CTA's rows and part of k; blocks beyond k are 0. `row_scales(r)` is where those of its row r begin.
template <int kVector, class RowScales>
__device__ __forceinline__ void CopyMxScales(const RowScales& row_scales, int rows, int block0, int blocks,
                                             int valid_blocks, const StreamSplit& split, uint8_t* to) {
  for (int id = static_cast<int>(threadIdx.x); id < rows << split.scale_units_log2;
       id += static_cast<int>(blockDim.x)) {
    const int r = id >> split.scale_units_log2, b = (id & ((1 << split.scale_units_log2) - 1)) * kVector;
    if (b >= blocks) continue;
    const int valid = min(max(valid_blocks - b, 0), kVector);
    const uint8_t* source = row_scales(r) + (valid > 0 ? block0 + b : 0);
    if constexpr (kVector == 1) {
      to[r * split.scale_pitch + b] = valid > 0 ? __ldg(source) : uint8_t{0};
    } else {
      CopySmall<kVector>(SharedAddress(to + r * split.scale_pitch + b), source, valid);
    }
  }
}

// What Columns (below) are unless they say otherwise.
struct PlainColumns {
  static constexpr bool kStaged = false, kPaired = false, kSets = false;
};

// kMoreStages: of the ring, beyond what hides memory's latency behind many tiles.
template <WeightKind kKind, int kSlice, int kCols, int kMoreStages = 0>
struct Stream {
  using Format = StreamFormat<kKind, kSlice>;
  static constexpr WeightKind kWeights = kKind;
  static constexpr int kSliceK = kSlice;
  static constexpr int kSteps = kSlice / Format::kStep;              // of a warp and a tile
  static constexpr int kPieces = Format::kStep / 32;                 // of a lane and a step
  static constexpr int kLoads = Format::kStep / Format::kLoadStepK;  // of 16 bytes, of a lane, a row and a step
  static constexpr int kStageBytes = kLoads * 1024;
  static constexpr int kStages = (kKind == WeightKind::kMxfp4 && kCols == 2 ? 3 : 4) + kMoreStages;
  static constexpr int kRingBytes = kStages * kStageBytes;  // of a warp
  static constexpr int kGroupTiles = kCols == 1 ? 2 : 1;    // tiles whose slices meet at one barrier
  static constexpr int kColumns = 8 * kCols;
  static constexpr int kColumnsLog2 = kCols == 1 ? 3 : kCols == 2 ? 4 : 5;
  static constexpr int kMostWarps = kSlice == 256 ? 8 : 12;  // of a round

  // Columns: the activation rows and where their results go.
  // `pass` counts the calls of a kernel, each of which begins when the one before has returned.
  //   static constexpr bool kStaged                whether there is, in place of Wait:
  //   void Stage()                                 begins copies (cp.async) of the activations to where Row finds them
  //   void Wait()                                  until the activations may be read
  //   int count() const                            rows, at most kColumns, after Wait
  //   const uint8_t* Row(int c) const              bf16 row c
  //   void Store(int c, int row, const float4&)    4 results of column c, rows below n
  // kPaired: tiles are taken in turn from the first and the second half of the weights' rows, n / 2 a multiple of 16,
  // tile0 and tiles even, and Store(c, row, first, second) takes 4 results of both.
  // kSets: one rank and one round, and behind `w` follow the weights of other sets of columns:
  //   int sets() const;  WeightPlanes Weights(int set) const;  void Select(int set)
  template <class Columns>
  __device__ static void Run(const WeightPlanes& w, int n, int k, const StreamSplit& split, int tile0, int tiles,
                             uint8_t* shared, Columns& columns, int pass) {
    const int lane = static_cast<int>(threadIdx.x) % 32, g = lane / 4, t = lane % 4;
    const int warp = static_cast<int>(threadIdx.x) / 32;
    const int rank = split.ranks > 1 ? static_cast<int>(ClusterRank()) : 0;
    uint8_t* const scales = shared + split.ring_bytes;
    float* const partials = reinterpret_cast<float*>(scales + split.scale_bytes);
    float* const inbox = partials + split.partial_bytes / 4;
    float* const carried = inbox + split.inbox_bytes / 4;
    __shared__ uint64_t inbox_barrier;  // the same in every call
    const uint32_t inbox_full = SharedAddress(&inbox_barrier);

    constexpr bool kPaired = Columns::kPaired, kSets = Columns::kSets;
    static_assert(!kPaired || kGroupTiles == 2);
    const int sets = [&] {
      if constexpr (kSets) return columns.sets();
      return 1;
    }();
    const int half = kPaired ? n / 2 : n;  // rows that tiles are taken from in turn
    const int row0 = (kPaired ? tile0 / 2 : tile0) * kTileRows;
    // Rows that lie together: those of a half, or of a set.
    const int parts = kPaired ? 2 : sets, part_rows = tiles * kTileRows / (kPaired ? 2 : 1);
    const int rank_k = split.rounds * split.warps * kSlice;
    const int rank_k0 = rank * rank_k;
    // In every round the warp's slice of all tiles, step by step. The steps of a tile are as many as a power of two, so
    // which step of its tile is fetched while step s is multiplied is known here.
    const int round_k = split.warps * kSlice;
    int slice_k0 = rank_k0 + warp * kSlice;
    const int64_t tile_bytes = kTileRows * w.row_bytes, half_bytes = 8 * w.row_bytes;
    const int64_t other_half = half * w.row_bytes;
    uint8_t* const ring = shared + warp * kRingBytes + lane * 16;
    const uint32_t ring_at = SharedAddress(ring);
    const uint8_t* next = w.values + (row0 + g) * w.row_bytes + Format::Bytes(slice_k0) + t * 16;
    int next_row = row0 + g, next_tile = 0, next_round = 0, next_slot = 0;
    int next_k = k - slice_k0 - t * Format::kLoadK;
    const auto fetch = [&](auto step) {
#pragma unroll
      for (int i = 0; i < kLoads; ++i) {
        const bool in_k = step * Format::kStep + i * Format::kLoadStepK < next_k;
        const uint8_t* const from = next + step * Format::Bytes(Format::kStep) + i * 64;
        CopyWeights(ring_at + next_slot + i * 1024, from, in_k && next_row < half);
        CopyWeights(ring_at + next_slot + i * 1024 + 512, from + half_bytes, in_k && next_row + 8 < half);
      }
      CommitCopies();
      next_slot = next_slot + kStageBytes == kRingBytes ? 0 : next_slot + kStageBytes;
      if constexpr (step + 1 == kSteps) {
        if (kPaired && next_tile % 2 == 0) {
          next += other_half;
        } else {
          next += kPaired ? tile_bytes - other_half : tile_bytes;
          next_row += kTileRows;
        }
        if (++next_tile == tiles) {
          next_tile = 0;
          ++next_round;
          if constexpr (kSets) {
            next_row = next_round < sets ? row0 + g : n;
            if (next_round < sets) {
              next = columns.Weights(next_round).values + (row0 + g) * w.row_bytes + Format::Bytes(slice_k0) + t * 16;
            }
          } else {
            next_row = next_round < split.rounds ? row0 + g : half;
            next += Format::Bytes(round_k) - part_rows / kTileRows * tile_bytes;
            next_k -= round_k;
          }
        }
      }
    };
    fetch(std::integral_constant<int, 0>{});  // the first request is on its way before all else
    if (split.ranks > 1) {
      if (pass == 0 && threadIdx.x == 0) InitBarrier(inbox_full);
      ClusterArrive();  // every rank runs, its barrier ready, before the first of another's results comes
    }
    if constexpr (kKind == WeightKind::kMxfp4) {
      const int valid = min(max(k - rank_k0, 0), rank_k) / 32;
      const int rows = (kPaired ? 1 : sets) * tiles * kTileRows;
      const auto row_scales = [&](int r) {
        const auto* scales_of = static_cast<const uint8_t*>(w.scales);
        int row = row0 + r;
        if constexpr (kPaired) {
          row = min(row0 + r / (2 * kTileRows) * kTileRows + r % kTileRows, half - 1) + r / kTileRows % 2 * half;
        } else if constexpr (kSets) {
          const int set = tiles == 1 ? r / kTileRows : r / part_rows;
          scales_of = static_cast<const uint8_t*>(columns.Weights(set).scales);
          row = min(row0 + r - set * part_rows, n - 1);
        } else {
          row = min(row, n - 1);
        }
        return scales_of + row * w.scale_row_stride;
      };
      if (split.scale_vector == 16) {
        CopyMxScales<16>(row_scales, rows, rank_k0 / 32, rank_k / 32, valid, split, scales);
      } else if (split.scale_vector == 8) {
        CopyMxScales<8>(row_scales, rows, rank_k0 / 32, rank_k / 32, valid, split, scales);
      } else if (split.scale_vector == 4) {
        CopyMxScales<4>(row_scales, rows, rank_k0 / 32, rank_k / 32, valid, split, scales);
      } else {
        CopyMxScales<1>(row_scales, rows, rank_k0 / 32, rank_k / 32, valid, split, scales);
      }
      CommitCopies();
    } else if constexpr (kKind == WeightKind::kFp8) {
      // A scale for each square of 128 x 128 that the CTA touches, those of a part together.
      const int columns_of_k = rank_k / 128;
#pragma unroll 1
      for (int part = 0; part < parts; ++part) {
        const WeightPlanes of_part = PartOf(w, columns, part);
        const int first = row0 + (kPaired ? part * half : 0);
        const int square0 = static_cast<int>((of_part.first_row + first) / 128);
        const int last = static_cast<int>((of_part.first_row + first + min(part_rows, half - row0) - 1) / 128);
        float* const to = reinterpret_cast<float*>(scales) + part * split.scale_squares * split.scale_pitch;
        for (int id = static_cast<int>(threadIdx.x); id < (last - square0 + 1) * columns_of_k;
             id += static_cast<int>(blockDim.x)) {
          const int square = id / columns_of_k, q = id % columns_of_k;
          float scale = 0;
          if (rank_k0 + q * 128 < k) {
            scale = __ldg(static_cast<const float*>(of_part.scales) + (square0 + square) * w.scale_row_stride +
                          (rank_k0 / 128 + q) * w.scale_column_stride);
          }
          to[square * split.scale_pitch + q] = scale;
        }
      }
    }

    int count = 0;
    uint32_t b[kCols][kSteps][4 * kPieces];
    float inverse[kCols][2];  // FP8: what sums of columns 2 * t and 2 * t + 1 are multiplied by
    const auto load_columns = [&] {
#pragma unroll
      for (int c = 0; c < kCols; ++c) {
        const bool used = c * 8 + g < count;
        const uint8_t* const x = columns.Row(used ? c * 8 + g : 0) + slice_k0 * 2;
#pragma unroll
        for (int s = 0; s < kSteps; ++s) {
#pragma unroll
          for (int p = 0; p < kPieces; ++p) {
            const int at = s * Format::kStep + Format::Piece(p, t);
            uint4 piece = make_uint4(0, 0, 0, 0);
            if (used && at < k - slice_k0) piece = *reinterpret_cast<const uint4*>(x + at * 2);
            uint32_t* const to = b[c][s] + 4 * p;
            to[0] = piece.x, to[1] = piece.y, to[2] = piece.z, to[3] = piece.w;
          }
        }
      }
    };
    const bool late = split.late;
    if constexpr (Columns::kStaged) {
      columns.Stage();
      CommitCopies();
    } else if (!late) {  // then the few activations need not queue behind many weights
      columns.Wait();
      count = columns.count();
      load_columns();
    }
    [&]<int... kStep>(std::integer_sequence<int, kStep...>) {
      (fetch(std::integral_constant<int, (kStep + 1) % kSteps>{}), ...);
    }
    (std::make_integer_sequence<int, kStages - 2>{});
    if (late && !Columns::kStaged) {
      columns.Wait();
      count = columns.count();
      load_columns();
    }
    const int rows_a_rank = split.tiles * kTileRows / split.ranks;
    const auto pair_columns = [&] {
#pragma unroll
      for (int c = 0; c < kCols; ++c) {
        if constexpr (kKind == WeightKind::kFp8) {
          ScaleColumns(b[c], inverse[c]);
        } else {
#pragma unroll
          for (int s = 0; s < kSteps; ++s) {
#pragma unroll
            for (int p = 0; p < kPieces; ++p) {
              uint32_t* const at = b[c][s] + 4 * p;
              PairPiece<kKind>(make_uint4(at[0], at[1], at[2], at[3]), at);
            }
          }
        }
      }
    };
    WaitForCopies<kStages - 2>();
    __syncthreads();  // the scales are there
    if constexpr (Columns::kStaged) {
      count = columns.count();
      load_columns();
    }
    if (split.ranks > 1 && threadIdx.x == 0) {
      const int rows_here = min(max(tiles * kTileRows - rank * rows_a_rank, 0), rows_a_rank);
      ExpectBytes(inbox_full, split.ranks * count * rows_here * 4);
    }
    if (split.ranks > 1) ClusterWait();
    pair_columns();

    const int part = warp * kCols * kPartialFloats;
    const int tile_partials = split.warps * kCols * kPartialFloats;
    const float ranks_a_row = 1.0f / static_cast<float>(rows_a_rank);
    const auto meet = [&](int place, int c, int r) {
      const float* from = partials + place * tile_partials + c / 8 * kPartialFloats + c % 8 * kPartialPitch + r;
      float4 sum = *reinterpret_cast<const float4*>(from);
#pragma unroll
      for (int i = 1; i < kMostWarps; ++i) {
        if (i < split.warps) sum = Sum(sum, *reinterpret_cast<const float4*>(from + i * kCols * kPartialFloats));
      }
      return sum;
    };
    // Whether all rounds' sums are in `sum`, of the CTA's row `local` of column c.
    const auto carry = [&](int round, int c, int local, float4* sum) {
      if (kSets || split.rounds == 1) return true;
      auto* const kept = reinterpret_cast<float4*>(carried + c * split.tiles * kTileRows + local);
      if (round > 0) *sum = Sum(*kept, *sum);
      if (round + 1 == split.rounds) return true;
      *kept = *sum;
      return false;
    };
    const auto send = [&](int c, int local, const float4& sum) {
      const int owner = static_cast<int>((static_cast<float>(local) + 0.5f) * ranks_a_row);
      SendToRank(SharedAddress(inbox + (rank * kColumns + c) * rows_a_rank + local - owner * rows_a_rank), inbox_full,
                 owner, sum);
    };
    // Column c of rows r .. r + 3 of a tile whose slices' sums begin at `place`; kPaired: and of the next tile.
    const auto finish = [&](int round, int place, int tile, int c, int r) {
      if (c >= count) return;
      const int local = tile * kTileRows + r;
      float4 sum = meet(place, c, r);
      const bool whole = carry(round, c, local, &sum);
      if constexpr (kPaired) {
        float4 second = meet(place + 1, c, r);
        if (!carry(round, c, local + kTileRows, &second) || !whole) return;
        if (split.ranks > 1) {
          send(c, local, sum);
          send(c, local + kTileRows, second);
        } else {
          columns.Store(c, row0 + tile / 2 * kTileRows + r, sum, second);
        }
      } else {
        if (!whole) return;
        if (split.ranks > 1) {
          send(c, local, sum);
        } else if (row0 + local < n) {
          columns.Store(c, row0 + local, sum);
        }
      }
    };
    int square_row = 0;  // FP8: of the part's first row in its square
    int slot = 0, buffer = 0;
    const int rounds = kSets ? sets : split.rounds;
#pragma unroll 1
    for (int round = 0; round < rounds; ++round) {
      if (round > 0) {
        if constexpr (kSets) {
          columns.Select(round);
          count = columns.count();
        } else {
          slice_k0 += round_k;
        }
        load_columns();
        pair_columns();
      }
      int scale_at = g * split.scale_pitch + (slice_k0 - rank_k0) / 32 + t;  // MXFP4
      if constexpr (kSets) scale_at += round * part_rows * split.scale_pitch;
      if constexpr (kKind == WeightKind::kFp8 && !kPaired) {
        square_row = static_cast<int>((PartOf(w, columns, kSets ? round : 0).first_row + row0) % 128);
      }
#pragma unroll 1
      for (int tile = 0; tile < tiles; ++tile) {
        float acc[kCols][2][4] = {};
        const auto multiply = [&](auto step) {
          constexpr int s = step;
          WaitForCopies<kStages - 2>();
          const uint8_t* const stage = ring + slot;
          slot = slot + kStageBytes == kRingBytes ? 0 : slot + kStageBytes;
          uint4 row[kLoads][2];
#pragma unroll
          for (int i = 0; i < kLoads; ++i) {
            row[i][0] = *reinterpret_cast<const uint4*>(stage + i * 1024);
            row[i][1] = *reinterpret_cast<const uint4*>(stage + i * 1024 + 512);
          }
          if constexpr (kKind == WeightKind::kMxfp4) {
            uint32_t scale[kLoads][2];
            uint32_t largest = 0;
#pragma unroll
            for (int i = 0; i < kLoads; ++i) {
              scale[i][0] = scales[scale_at + 4 * i];
              scale[i][1] = scales[scale_at + 8 * split.scale_pitch + 4 * i];
              largest = max(largest, max(scale[i][0], scale[i][1]));
            }
            fetch(std::integral_constant<int, (s + kStages - 1) % kSteps>{});
            // A scale above 2^1 has no room beside the 2^126: then the two are multiplied one after the other.
            if (__any_sync(~0u, largest > 128)) {
              MultiplyMxfp4<true>(row, scale, b, acc);
            } else {
              MultiplyMxfp4<false>(row, scale, b, acc);
            }
          } else if constexpr (kKind == WeightKind::kBf16) {
            fetch(std::integral_constant<int, (s + kStages - 1) % kSteps>{});
#pragma unroll
            for (int p = 0; p < kPieces; ++p) {
              const uint32_t a0[4] = {row[p][0].x, row[p][0].y, row[p][0].z, row[p][0].w};
              const uint32_t a1[4] = {row[p][1].x, row[p][1].y, row[p][1].z, row[p][1].w};
              MultiplyPiece(a0, a1, b, s, p, acc);
            }
          } else {
            float scale[2];
            const int part = kPaired ? tile % 2 : kSets ? round : 0;
            const int tile_row = (kPaired ? tile / 2 : tile) * kTileRows;
            if constexpr (kPaired) square_row = static_cast<int>((w.first_row + part * half + row0) % 128);
#pragma unroll
            for (int h = 0; h < 2; ++h) {
              const int square = (square_row + min(tile_row + g + 8 * h, half - 1 - row0)) / 128;
              scale[h] =
                  reinterpret_cast<const float*>(scales)[(part * split.scale_squares + square) * split.scale_pitch +
                                                         (slice_k0 - rank_k0 + s * Format::kStep) / 128];
            }
            fetch(std::integral_constant<int, (s + kStages - 1) % kSteps>{});
            float d[kCols][2][4] = {};
#pragma unroll
            for (int p = 0; p < kPieces; ++p) {
#pragma unroll
              for (int half = 0; half < 2; ++half) {
                uint32_t a[2][2];
#pragma unroll
                for (int h = 0; h < 2; ++h) HalvesOfE4m3(WordOf(row[p / 2][h], p % 2 * 2 + half), a[h]);
#pragma unroll
                for (int c = 0; c < kCols; ++c) MmaHalves(d[c][half], a[0], a[1], b[c][s] + 4 * p + 2 * half);
              }
            }
#pragma unroll
            for (int c = 0; c < kCols; ++c) {
#pragma unroll
              for (int j = 0; j < 4; ++j) {
                const float sum = __fmul_rn(__fadd_rn(d[c][0][j], d[c][1][j]), inverse[c][j % 2]);
                acc[c][0][j] = __fmaf_rn(sum, scale[j / 2], acc[c][0][j]);
              }
            }
          }
        };
        [&]<int... kStep>(std::integer_sequence<int, kStep...>) {
          (multiply(std::integral_constant<int, kStep>{}), ...);
        }
        (std::make_integer_sequence<int, kSteps>{});
        scale_at += kTileRows * split.scale_pitch;

        const int in_group = tile % kGroupTiles;
        const int place = split.apart ? (kSets ? round * tiles : 0) + tile : buffer * kGroupTiles + in_group;
        float* const to = partials + place * tile_partials + part + 2 * t * kPartialPitch + g;
#pragma unroll
        for (int c = 0; c < kCols; ++c) {
#pragma unroll
          for (int j = 0; j < 4; ++j) {
            const float sum = kKind == WeightKind::kFp8 ? acc[c][0][j] : __fadd_rn(acc[c][0][j], acc[c][1][j]);
            to[c * kPartialFloats + j % 2 * kPartialPitch + j / 2 * 8] = sum;
          }
        }
        if (split.apart || (in_group + 1 < kGroupTiles && tile + 1 < tiles)) continue;

        // The slices' sums of the group's tiles meet: 4 rows of a column at a time.
        __syncthreads();
        const int first = buffer * kGroupTiles;
        for (int id = static_cast<int>(threadIdx.x); id < (kPaired ? 1 : in_group + 1) * kColumns * 4;
             id += static_cast<int>(blockDim.x)) {
          const int which = id >> (kColumnsLog2 + 2);
          finish(round, first + which, tile - in_group + which, id / 4 % kColumns, id % 4 * 4);
        }
        buffer ^= 1;
      }
    }
    if (split.apart) {
      __syncthreads();
      constexpr int kTogether = kPaired ? 2 : 1;
      for (int id = static_cast<int>(threadIdx.x); id < rounds * tiles / kTogether * kColumns * 4;
           id += static_cast<int>(blockDim.x)) {
        const int place = (id >> (kColumnsLog2 + 2)) * kTogether;
        int tile = place;
        if constexpr (kSets) {
          columns.Select(place / tiles);
          count = columns.count();
          tile = place % tiles;
        }
        finish(0, place, tile, id / 4 % kColumns, id % 4 * 4);
      }
    }
    if (split.ranks == 1) return;
    WaitForBytes(inbox_full, pass % 2);
    const int first = rank * rows_a_rank;
    const auto gather = [&](int c, int r) {
      const float* const from = inbox + c * rows_a_rank + r;
      float4 sum = *reinterpret_cast<const float4*>(from);
#pragma unroll
      for (int i = 1; i < 8; ++i) {
        if (i < split.ranks) sum = Sum(sum, *reinterpret_cast<const float4*>(from + i * kColumns * rows_a_rank));
      }
      return sum;
    };
    for (int id = static_cast<int>(threadIdx.x); id < count * rows_a_rank / 4; id += static_cast<int>(blockDim.x)) {
      const int c = static_cast<int>((static_cast<float>(id * 4) + 0.5f) * ranks_a_row);
      const int r = id * 4 - c * rows_a_rank, local = first + r;
      if (local >= tiles * kTileRows) continue;
      if constexpr (kPaired) {  // a rank has whole pairs of tiles
        if (local / kTileRows % 2 == 1) continue;
        columns.Store(c, row0 + local / (2 * kTileRows) * kTileRows + local % kTileRows, gather(c, r),
                      gather(c, r + kTileRows));
      } else if (row0 + local < n) {
        columns.Store(c, row0 + local, gather(c, r));
      }
    }
  }

 private:
  template <class Columns>
  __device__ __forceinline__ static WeightPlanes PartOf(const WeightPlanes& w, const Columns& columns, int part) {
    if constexpr (Columns::kSets) return columns.Weights(part);
    return w;
  }

  // FP8: the lane's share of a column of the slice, which its quad has, to fp16.
  __device__ __forceinline__ static void ScaleColumns(uint32_t (&b)[kSteps][4 * kPieces], float (&inverse)[2]) {
    uint32_t largest = 0;
#pragma unroll
    for (int s = 0; s < kSteps; ++s) {
#pragma unroll
      for (int i = 0; i < 4 * kPieces; ++i) largest = LargerMagnitudes(largest, b[s][i]);
    }
    largest = LargerMagnitudes(largest, __shfl_xor_sync(~0u, largest, 1));
    largest = LargerMagnitudes(largest, __shfl_xor_sync(~0u, largest, 2));
    const HalfScale scale(largest);
#pragma unroll
    for (int s = 0; s < kSteps; ++s) {
#pragma unroll
      for (int i = 0; i < 4 * kPieces; ++i) b[s][i] = scale.Scaled(b[s][i]);
    }
    // Column g is lane 4 * g's.
    const int t = static_cast<int>(threadIdx.x) % 4;
#pragma unroll
    for (int i = 0; i < 2; ++i) inverse[i] = __shfl_sync(~0u, scale.inverse, (2 * t + i) * 4);
  }

  // Piece p of rows g and g + 8 against the lane's columns, the halves of the piece in sums of their own.
  __device__ __forceinline__ static void MultiplyPiece(const uint32_t a0[4], const uint32_t a1[4],
                                                       const uint32_t (&b)[kCols][kSteps][4 * kPieces], int s, int p,
                                                       float (&acc)[kCols][2][4]) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
#pragma unroll
      for (int c = 0; c < kCols; ++c) Mma(acc[c][half], a0 + 2 * half, a1 + 2 * half, b[c][s] + 4 * p + 2 * half);
    }
  }

  template <bool kLarge>
  __device__ __forceinline__ static void MultiplyMxfp4(const uint4 (&row)[kLoads][2],
                                                       const uint32_t (&scale)[kLoads][2],
                                                       const uint32_t (&b)[kCols][kSteps][4 * kPieces],
                                                       float (&acc)[kCols][2][4]) {
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      uint32_t factor[2];
#pragma unroll
      for (int h = 0; h < 2; ++h) factor[h] = MxFactor<kLarge>(scale[i][h]);
#pragma unroll
      for (int p = 0; p < 4; ++p) {
        uint32_t a[2][4];
#pragma unroll
        for (int h = 0; h < 2; ++h) DecodeMxWord<kLarge>(WordOf(row[i][h], p), factor[h], a[h]);
        MultiplyPiece(a[0], a[1], b, 0, 4 * i + p, acc);
      }
    }
  }
};

}  // namespace mxmla::cuda
