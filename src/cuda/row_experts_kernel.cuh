// The experts of one row, by CTAs that all run at once.
#pragma once

#include "cuda/expert_sets.cuh"
#include "cuda/weight_units.cuh"

namespace mxmla::cuda {

constexpr int kRowThreads = 512;
constexpr int kRowWarps = kRowThreads / 32;
constexpr int kMostSlots = 32;     // experts of a row
constexpr int kMostOfTable = 512;  // experts there are

// A product of every expert.
struct RowProduct {
  int n, k;
  int units;                   // of a tile
  int partials;                // of a tile's row: sums over slices of k
  int halves_apart;            // 1: a unit gives two of them
  int warps, rounds;           // the order in which they meet is StreamSplit's
  int all_slices;              // of all ranks: some may lie beyond k
  int next_tiles, next_units;  // what kRowWarps units are
  int64_t row_bytes;
  int64_t scale_row, scale_column;  // bytes
  const Expert* table;
};

struct RowExpertsParams {
  RowProduct gated, combined;
  int experts, slots;
  const int32_t* expert_begin;  // (experts + 1)
  const int32_t* pairs;         // (slots): those of chosen experts, in the order of experts
  const float* weights;         // (slots)
  int64_t weight_step;
  const uint8_t* x;     // (k) bf16
  StreamOutput hidden;  // (slots, n / 2) bf16: silu(gate) * up
  StreamOutput out;     // (1, n)
  int* counters;        // 2: arrivals at the barrier, departures; zeros before and after
  // Bytes of shared memory.
  int x_bytes, hidden_bytes, partial_bytes, result_bytes, table_bytes, inverse_bytes;
};

template <WeightKind kKind>
struct RowMemory {
  using Unit = WeightUnit<kKind>;
  static constexpr int kRingBytes = kRowWarps * Unit::kStages * Unit::kBytes;
  uint8_t *ring, *x, *hidden;
  float *partials, *results;
  Expert *gated, *combined;  // (experts)
  float* inverses;           // FP8: HalfScale's, of the units of the rows that are multiplied

  __device__ RowMemory(uint8_t* base, const RowExpertsParams& p)
      : ring(base),
        x(base + kRingBytes),
        hidden(x + p.x_bytes),
        partials(reinterpret_cast<float*>(hidden + p.hidden_bytes)),
        results(partials + p.partial_bytes / 4),
        gated(reinterpret_cast<Expert*>(results + p.result_bytes / 4)),
        combined(reinterpret_cast<Expert*>(reinterpret_cast<uint8_t*>(gated) + p.table_bytes)),
        inverses(reinterpret_cast<float*>(reinterpret_cast<uint8_t*>(combined) + p.table_bytes)) {}
  static int64_t Bytes(const RowExpertsParams& p) {
    return kRingBytes + int64_t{p.x_bytes} + p.hidden_bytes + p.partial_bytes + p.result_bytes + 2 * p.table_bytes +
           p.inverse_bytes;
  }
};

// A CTA's tiles of a product: of the gated one pairs of tiles of all chosen experts behind each other, of the second
// one the same tiles of every chosen expert.
struct TileShare {
  int begin;  // the first pair, or tile of an expert
  int tiles;
  int per;                  // pairs of an expert, or tiles of it that are the CTA's
  float of_units, of_sets;  // 1 / units of a tile, 1 / per
};

// One unit after another of those of a warp.
struct UnitCursor {
  int left, tile, u, set, r;  // r: of the set's pairs or tiles

  template <bool kPaired>
  __device__ __forceinline__ void Start(const RowProduct& p, const TileShare& share, int warp) {
    left = max((share.tiles * p.units - warp + kRowWarps - 1) / kRowWarps, 0);
    tile = static_cast<int>((static_cast<float>(warp) + 0.5f) * share.of_units);
    u = warp - tile * p.units;
    const int index = kPaired ? share.begin + tile / 2 : tile;
    set = static_cast<int>((static_cast<float>(index) + 0.5f) * share.of_sets);
    r = index - set * share.per;
  }
  template <bool kPaired>
  __device__ __forceinline__ void Next(const RowProduct& p, const TileShare& share) {
    --left;
    u += p.next_units;
    int next = tile + p.next_tiles;
    if (u >= p.units) u -= p.units, ++next;
    r += kPaired ? next / 2 - tile / 2 : next - tile;
    tile = next;
    while (r >= share.per) r -= share.per, ++set;
  }
};

// The chosen experts, in their order, and the slots that have chosen them.
struct RowSets {
  int32_t id[kMostSlots], slot[kMostSlots];
  float weight[kMostSlots];  // of slots
  int count;
};

template <WeightKind kKind>
class RowCta {
  using Unit = WeightUnit<kKind>;

 public:
  __device__ RowCta(const RowExpertsParams& p, const RowMemory<kKind>& memory, RowSets& sets)
      : p_(p),
        memory_(memory),
        sets_(sets),
        warp_(__shfl_sync(~0u, static_cast<int>(threadIdx.x) / 32, 0)),
        ring_(SharedAddress(memory.ring) + warp_ * Unit::kStages * Unit::kBytes) {}

  __device__ void Run() {
    Load();
    __syncthreads();
    Share();
    gated_next_.template Start<true>(p_.gated, gated_, warp_);
    combined_next_.template Start<false>(p_.combined, combined_, warp_);
#pragma unroll 1
    for (int i = 0; i < Unit::kStages - 1; ++i) Request();
    Multiply<true>(p_.gated, gated_);
    __syncthreads();
    StoreHidden();
    ArriveAndWait();
    LoadHidden();
    __syncthreads();
    Multiply<false>(p_.combined, combined_);
    __syncthreads();
    StoreOut();
  }

 private:
  // What the chosen experts are and the row, all on its way together.
  __device__ __forceinline__ void Load() {
    constexpr int kMost = (2 * kMostOfTable * static_cast<int>(sizeof(Expert)) / 16 + kRowThreads - 1) / kRowThreads;
    const int thread = static_cast<int>(threadIdx.x), words = p_.table_bytes / 16;
    const bool is_expert = thread < p_.experts, is_slot = thread < p_.slots;
    const int32_t begin = is_expert ? p_.expert_begin[thread] : 0, end = is_expert ? p_.expert_begin[thread + 1] : 0;
    const int32_t slot = is_slot ? p_.pairs[thread] : 0;
    const float weight = is_slot ? p_.weights[thread * p_.weight_step] : 0.0f;
    uint4 table[kMost];
#pragma unroll
    for (int i = 0; i < kMost; ++i) {
      const int at = thread + i * kRowThreads;
      if (at < words) table[i] = __ldg(reinterpret_cast<const uint4*>(p_.gated.table) + at);
      if (at >= words && at < 2 * words)
        table[i] = __ldg(reinterpret_cast<const uint4*>(p_.combined.table) + at - words);
    }
    Stage(p_.gated, memory_.x, 1, [&](int, int piece) { return p_.x + piece * 16; });
#pragma unroll
    for (int i = 0; i < kMost; ++i) {
      const int at = thread + i * kRowThreads;
      if (at < 2 * words) reinterpret_cast<uint4*>(memory_.gated)[at] = table[i];  // the tables lie together
    }
    if (end > begin) sets_.id[begin] = thread;  // a row chooses an expert at most once
    if (thread + 1 == p_.experts) sets_.count = end;
    if (is_slot) {
      sets_.slot[thread] = slot;
      sets_.weight[thread] = weight;
    }
  }
  // Rows of bf16 in the order of PairPiece, or, FP8, scaled to fp16 unit by unit, each of which a warp has; zeros where
  // the last unit goes beyond k.
  template <class From>
  __device__ __forceinline__ void Stage(const RowProduct& p, uint8_t* to, int rows, const From& from) const {
    const int pieces = p.units * kUnitK / 8, there = p.k / 8;
    const float a_row = 1.0f / static_cast<float>(pieces);
    constexpr int kTogether = 4;
#pragma unroll 1
    for (int first = static_cast<int>(threadIdx.x); first < rows * pieces; first += kTogether * kRowThreads) {
      uint4 v[kTogether];
#pragma unroll
      for (int i = 0; i < kTogether; ++i) {
        const int id = first + i * kRowThreads;
        const int row = static_cast<int>((static_cast<float>(id) + 0.5f) * a_row), piece = id - row * pieces;
        v[i] = make_uint4(0, 0, 0, 0);
        if (row < rows && piece < there) v[i] = __ldcg(reinterpret_cast<const uint4*>(from(row, piece)));
      }
#pragma unroll
      for (int i = 0; i < kTogether; ++i) {
        const int id = first + i * kRowThreads;
        if constexpr (kKind == WeightKind::kFp8) {
          const HalfScale scale(LargerMagnitudesOfWarp(LargerMagnitudes(v[i])));
          v[i] = scale.Scaled(v[i]);
          if (id % 32 == 0 && id < rows * pieces) memory_.inverses[id / 32] = scale.inverse;
        }
        uint32_t pairs[4];
        PairPiece<kKind>(v[i], pairs);
        if (id < rows * pieces) {
          *reinterpret_cast<uint4*>(to + id * 16) = make_uint4(pairs[0], pairs[1], pairs[2], pairs[3]);
        }
      }
    }
  }

  __device__ __forceinline__ void Share() {
    const auto begin = [](int all, uint32_t index) {
      return static_cast<int>(static_cast<uint32_t>(all) * index / gridDim.x);  // below 2^32
    };
    const int pairs = p_.gated.n / (2 * kTileRows), all = pairs * sets_.count;
    gated_.begin = begin(all, blockIdx.x);
    gated_.tiles = 2 * (begin(all, blockIdx.x + 1) - gated_.begin);
    gated_.per = pairs;
    const int tiles = (p_.combined.n + kTileRows - 1) / kTileRows;
    combined_.begin = begin(tiles, blockIdx.x);
    combined_.per = begin(tiles, blockIdx.x + 1) - combined_.begin;
    combined_.tiles = combined_.per * sets_.count;
    gated_.of_units = 1.0f / static_cast<float>(p_.gated.units);
    gated_.of_sets = 1.0f / static_cast<float>(pairs);
    combined_.of_units = 1.0f / static_cast<float>(p_.combined.units);
    combined_.of_sets = 1.0f / static_cast<float>(max(combined_.per, 1));
  }

  // The warp's next unit, of the first products and then of the second; a group of copies, which may be none.
  __device__ __forceinline__ void Request() {
    if (gated_next_.left > 0) {
      const int upper = gated_next_.tile % 2 == 0 ? 0 : p_.gated.n / 2;
      Request(p_.gated, memory_.gated, gated_next_, upper + gated_next_.r * kTileRows);
      gated_next_.template Next<true>(p_.gated, gated_);
    } else if (combined_next_.left > 0) {
      Request(p_.combined, memory_.combined, combined_next_, (combined_.begin + combined_next_.r) * kTileRows);
      combined_next_.template Next<false>(p_.combined, combined_);
    }
    CommitCopies();
    to_ = to_ + 1 == Unit::kStages ? 0 : to_ + 1;
  }
  __device__ __forceinline__ void Request(const RowProduct& p, const Expert* table, const UnitCursor& at, int row) {
    const int lane = static_cast<int>(threadIdx.x) % 32, k0 = at.u * kUnitK;
    const Expert& expert = table[sets_.id[at.set]];
    const uint8_t* const values = expert.values + int64_t{row + lane / 4} * p.row_bytes +
                                  ((kKind == WeightKind::kMxfp4 ? k0 / 2 : k0) + lane % 4 * 16);
    const auto* scales = static_cast<const uint8_t*>(expert.scales);
    if constexpr (kKind == WeightKind::kMxfp4) {
      scales += int64_t{row + lane / 2} * p.scale_row + (k0 / 32 + lane % 2 * 4);
    } else {
      scales += (expert.first_row + row + lane / 2) / 128 * p.scale_row + (k0 / 128 + lane % 2) * p.scale_column;
    }
    const uint32_t stage = ring_ + to_ * Unit::kBytes;
    Unit::Request(values, 8 * p.row_bytes, scales, p.n - row, p.k - k0, stage + lane * 16,
                  stage + Unit::kValueBytes + lane * 4);
  }

  // The warp's units; behind it and a barrier the sums of the CTA's tile i are partials' tile i.
  template <bool kPaired>
  __device__ __forceinline__ void Multiply(const RowProduct& p, const TileShare& share) {
    const int halves = p.halves_apart ? 2 : 1, row_bytes = p.units * kUnitK * 2;
    UnitCursor at{};
    at.Start<kPaired>(p, share, warp_);
#pragma unroll 1
    while (at.left > 0) {
      typename Unit::Columns columns;
      columns.Load((kPaired ? memory_.x : memory_.hidden + at.set * row_bytes) + at.u * kUnitK * 2);
      float inverse = 1;
      if constexpr (kKind == WeightKind::kFp8) inverse = memory_.inverses[(kPaired ? 0 : at.set * p.units) + at.u];
      WaitForCopies<Unit::kStages - 2>();
      __syncwarp();  // all lanes' copies, and all lanes have read the stage that is requested next
      Unit unit;
      unit.Load(memory_.ring + (warp_ * Unit::kStages + from_) * Unit::kBytes);
      from_ = from_ + 1 == Unit::kStages ? 0 : from_ + 1;
      Request();
      unit.Multiply(columns, inverse, p.halves_apart != 0,
                    memory_.partials + (at.tile * p.partials + at.u * halves) * kTileRows);
      at.Next<kPaired>(p, share);
    }
  }

  // A row's sums over slices of k meet in the order of StreamSplit.
  __device__ __forceinline__ float SumOf(const RowProduct& p, int tile, int row) const {
    const float* const from = memory_.partials + tile * p.partials * kTileRows + row;
    constexpr int kTogether = 8;
    float whole = 0, of_rank = 0, sum = 0;
    int w = 0, round = 0;
    bool first_rank = true;
#pragma unroll 1
    for (int first = 0; first < p.all_slices; first += kTogether) {
      float v[kTogether];
#pragma unroll
      for (int i = 0; i < kTogether; ++i) v[i] = first + i < p.partials ? from[(first + i) * kTileRows] : 0.0f;
#pragma unroll
      for (int i = 0; i < kTogether; ++i) {
        if (first + i >= p.all_slices) break;
        sum = w == 0 ? v[i] : __fadd_rn(sum, v[i]);
        if (++w < p.warps) continue;
        w = 0;
        of_rank = round == 0 ? sum : __fadd_rn(of_rank, sum);
        if (++round < p.rounds) continue;
        round = 0;
        whole = first_rank ? of_rank : __fadd_rn(whole, of_rank);
        first_rank = false;
      }
    }
    return whole;
  }

  __device__ __forceinline__ void StoreHidden() const {
#pragma unroll 1
    for (int id = static_cast<int>(threadIdx.x); id < gated_.tiles / 2 * kTileRows; id += kRowThreads) {
      const int i = id / kTileRows, r = id % kTileRows, pair = gated_.begin + i;
      const int set = static_cast<int>((static_cast<float>(pair) + 0.5f) * gated_.of_sets);
      const float gate = SumOf(p_.gated, 2 * i, r), up = SumOf(p_.gated, 2 * i + 1, r);
      const int64_t column = (pair - set * gated_.per) * kTileRows + r;
      reinterpret_cast<__nv_bfloat16*>(p_.hidden.data)[sets_.slot[set] * p_.hidden.stride + column] =
          __float2bfloat16_rn(Gated(gate, up));
    }
  }

  // All CTAs' writes so far are seen by all CTAs' threads behind it.
  __device__ __forceinline__ void ArriveAndWait() const {
    __syncthreads();
    if (threadIdx.x == 0) {
      __threadfence();
      asm volatile("red.release.gpu.global.add.s32 [%0], 1;" ::"l"(p_.counters) : "memory");
      int arrived;
      do {
        asm volatile("ld.acquire.gpu.global.s32 %0, [%1];" : "=r"(arrived) : "l"(p_.counters) : "memory");
      } while (arrived < static_cast<int>(gridDim.x));
      // Who leaves last has seen everyone pass.
      if (atomicAdd(p_.counters + 1, 1) == static_cast<int>(gridDim.x) - 1) p_.counters[0] = p_.counters[1] = 0;
    }
    __syncthreads();
  }

  __device__ __forceinline__ void LoadHidden() const {
    Stage(p_.combined, memory_.hidden, sets_.count,
          [&](int set, int piece) { return p_.hidden.data + sets_.slot[set] * p_.hidden.stride * 2 + piece * 16; });
  }

  __device__ __forceinline__ void StoreOut() const {
    const int rows = combined_.per * kTileRows;
    if (sets_.count < p_.slots) {  // a padding row's are not computed
      for (int id = static_cast<int>(threadIdx.x); id < p_.slots * rows; id += kRowThreads) memory_.results[id] = 0;
      __syncthreads();
    }
#pragma unroll 1
    for (int id = static_cast<int>(threadIdx.x); id < sets_.count * rows; id += kRowThreads) {
      const int set = id / rows;
      memory_.results[sets_.slot[set] * rows + id - set * rows] = SumOf(p_.combined, id / kTileRows, id % kTileRows);
    }
    __syncthreads();
#pragma unroll 1
    for (int at = static_cast<int>(threadIdx.x); at < rows; at += kRowThreads) {
      const int row = combined_.begin * kTileRows + at;
      if (row >= p_.combined.n) continue;
      float sum = 0;
      for (int slot = 0; slot < p_.slots; ++slot) {
        sum = fmaf(sets_.weight[slot], memory_.results[slot * rows + at], sum);
      }
      if (p_.out.is_float) {
        reinterpret_cast<float*>(p_.out.data)[row] = sum;
      } else {
        reinterpret_cast<__nv_bfloat16*>(p_.out.data)[row] = __float2bfloat16_rn(sum);
      }
    }
  }

  const RowExpertsParams& p_;
  const RowMemory<kKind>& memory_;
  RowSets& sets_;
  const int warp_;
  const uint32_t ring_;
  TileShare gated_, combined_;
  UnitCursor gated_next_, combined_next_;  // to request
  int to_ = 0, from_ = 0;                  // stages: to request to, to read from
};

template <WeightKind kKind>
__global__ void __launch_bounds__(kRowThreads, 1) RowExpertsKernel(const __grid_constant__ RowExpertsParams p) {
  extern __shared__ __align__(128) uint8_t shared[];
  __shared__ RowSets sets;
  const RowMemory<kKind> memory(shared, p);
  RowCta<kKind>(p, memory, sets).Run();
}

}  // namespace mxmla::cuda
