// The indexer of sparse attention: keys, a wave a row; scores of a row's tokens as float32 in the workspace; and the k
// largest of them by a search for the k-th, a byte of its bits at a time.
#include <algorithm>
#include <cmath>

#include "gpu/norm_row.cuh"
#include "gpu/row_kernels.h"

namespace mxmla::gpu {
namespace {

constexpr int kThreads = 256;
constexpr int kTokens = 64;                  // of a block that scores
constexpr int kGroups = kThreads / kTokens;  // of heads: each thread scores a token for the heads of one
constexpr int kHeadsAtOnce = 4;
constexpr int kBins = 256;
constexpr int64_t kMostScores = int64_t{1} << 24;  // kept at once

// --- keys ---

struct KeyParams {
  FloatPlane<const void> x;    // (rows, n)
  FloatPlane<void> out;        // (.., n)
  FloatPlane<const void> cos;  // (rows, half)
  FloatPlane<const void> sin;  // (rows, half)
  Strided<const float> weight, bias;
  Strided<const int64_t> out_index;
  int n, half;
  float eps;
  bool interleaved;
};

__global__ void __launch_bounds__(kWave) IndexKeyKernel(const KeyParams p) {
  extern __shared__ __align__(16) float normed[];  // (n)
  WaitForPredecessor();
  const int64_t r = blockIdx.x;
  const int lane = static_cast<int>(threadIdx.x);
  float sum = 0;
  for (int i = lane; i < p.n; i += kWave) sum += normed[i] = Element(p.x, r * p.x.row + i * p.x.step);
  const float mean = WaveSum(sum) / static_cast<float>(p.n);
  float squares = 0;
  for (int i = lane; i < p.n; i += kWave) {
    normed[i] -= mean;
    squares = fmaf(normed[i], normed[i], squares);
  }
  const float factor = 1.0f / sqrtf(WaveSum(squares) / static_cast<float>(p.n) + p.eps);
  for (int i = lane; i < p.n; i += kWave) normed[i] = fmaf(p.weight(i), normed[i] * factor, p.bias(i));
  __syncthreads();
  for (int i = lane; i < p.half; i += kWave) {
    Turn(&normed[p.interleaved ? 2 * i : i], &normed[p.interleaved ? 2 * i + 1 : i + p.half],
         Element(p.cos, r * p.cos.row + i * p.cos.step), Element(p.sin, r * p.sin.row + i * p.sin.step));
  }
  __syncthreads();
  const int64_t to = p.out_index(r) * p.out.row;
  for (int i = lane; i < p.n; i += kWave) SetElement(p.out, to + i * p.out.step, normed[i]);
}

// --- choices ---

struct ChoiceParams {
  FloatPlane<const void> query;    // (rows, heads, n)
  FloatPlane<const void> weights;  // (rows, heads)
  FloatPlane<const void> keys;     // (pages, page_size, n)
  const int32_t* block_table;      // (sequences, max_pages)
  int64_t table_row, table_column;
  Strided<const int32_t> row_sequence, row_length;
  int64_t row_base;  // of the rows that are scored at once, the first
  int heads, n, page_size, k, tiles;
  float* scores;  // (rows at once, pitch)
  int64_t pitch;
  int32_t* chosen;  // (rows, k)
  int64_t chosen_row, chosen_column;
};

// Odd, so that the tokens of a wave lie in different banks.
__host__ __device__ constexpr int KeyPitch(int n) { return n | 1; }

__host__ __device__ constexpr size_t ScoreBytes(int64_t heads, int64_t n) {
  return static_cast<size_t>(heads * n + kTokens * KeyPitch(static_cast<int>(n)) + kThreads + heads) * sizeof(float);
}

// A block a tile of a row's tokens. A token's score is the sum of its heads' groups, each in the heads' order.
__global__ void __launch_bounds__(kThreads) ScoreKernel(const ChoiceParams p) {
  extern __shared__ __align__(16) float shared[];
  const int pitch = KeyPitch(p.n);
  float* const query = shared;                   // (heads, n)
  float* const key = query + p.heads * p.n;      // (kTokens, pitch)
  float* const partial = key + kTokens * pitch;  // (kGroups, kTokens)
  float* const weight = partial + kThreads;      // (heads)
  WaitForPredecessor();
  const int tile = static_cast<int>(blockIdx.x) % p.tiles, row = static_cast<int>(blockIdx.x) / p.tiles;
  const int64_t r = p.row_base + row;
  const int length = p.row_length(r);
  const int begin = tile * kTokens, tokens = min(kTokens, length - begin);
  if (length <= p.k || tokens <= 0) return;
  const int tid = static_cast<int>(threadIdx.x);
  const int pieces = (p.n + kPiece - 1) / kPiece;
  for (int id = tid; id < p.heads * pieces; id += kThreads) {
    const int h = id / pieces, at = id % pieces * kPiece, count = min(kPiece, p.n - at);
    float v[kPiece];
    LoadPiece<Access::kAny>(p.query, r, h, at, count, v);
    for (int i = 0; i < count; ++i) query[h * p.n + at + i] = v[i];
  }
  for (int h = tid; h < p.heads; h += kThreads) weight[h] = Element(p.weights, r * p.weights.row + h * p.weights.step);
  const int32_t* const table = p.block_table + p.row_sequence(r) * p.table_row;
  for (int id = tid; id < tokens * pieces; id += kThreads) {
    const int t = id / pieces, at = id % pieces * kPiece, count = min(kPiece, p.n - at);
    const int64_t page = table[(begin + t) / p.page_size * p.table_column];
    float v[kPiece];
    LoadPiece<Access::kAny>(p.keys, page, (begin + t) % p.page_size, at, count, v);
    for (int i = 0; i < count; ++i) key[t * pitch + at + i] = v[i];
  }
  __syncthreads();

  const int t = tid % kTokens, group = tid / kTokens;
  const int heads_of_group = (p.heads + kGroups - 1) / kGroups;
  const int last = min(p.heads, (group + 1) * heads_of_group);
  float score = 0;
  if (t < tokens) {
    for (int h = group * heads_of_group; h < last; h += kHeadsAtOnce) {
      float dot[kHeadsAtOnce] = {};
      const int count = min(kHeadsAtOnce, last - h);
      for (int i = 0; i < p.n; ++i) {
        const float element = key[t * pitch + i];
#pragma unroll
        for (int j = 0; j < kHeadsAtOnce; ++j) {
          if (j < count) dot[j] = fmaf(query[(h + j) * p.n + i], element, dot[j]);
        }
      }
#pragma unroll
      for (int j = 0; j < kHeadsAtOnce; ++j) {
        if (j < count) score = fmaf(weight[h + j], dot[j] < 0 ? 0.0f : dot[j], score);  // a NaN stays
      }
    }
  }
  partial[group * kTokens + t] = score;
  __syncthreads();
  if (tid >= tokens) return;
  float sum = 0;  // and no negative zero, which would be another key
  for (int g = 0; g < kGroups; ++g) sum += partial[g * kTokens + tid];
  p.scores[row * p.pitch + begin + tid] = sum != sum ? INFINITY : sum;
}

// A score's bits in an order of unsigned numbers.
__device__ __forceinline__ uint32_t KeyOf(float score) {
  const uint32_t bits = __float_as_uint(score);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

// How many threads of the block before this one say yes, and how many do in all. All threads call.
struct Rank {
  int before, all;
};
__device__ __forceinline__ Rank RankAmong(bool yes, int* counts /* shared, (kThreads / kWave) */) {
  const int lane = static_cast<int>(threadIdx.x) % kWave, wave = static_cast<int>(threadIdx.x) / kWave;
  const uint64_t those = Ballot(yes);
  __syncthreads();  // what was counted before has been read
  if (lane == 0) counts[wave] = __popcll(those);
  __syncthreads();
  Rank rank{__popcll(those & ((uint64_t{1} << lane) - 1)), 0};
  for (int w = 0; w < kThreads / kWave; ++w) {
    if (w < wave) rank.before += counts[w];
    rank.all += counts[w];
  }
  return rank;
}

// A block a row.
__global__ void __launch_bounds__(kThreads) ChooseKernel(const ChoiceParams p) {
  __shared__ int bins[kBins];
  __shared__ int counts[kThreads / kWave];
  __shared__ uint32_t found_bin;
  __shared__ int found_left;
  WaitForPredecessor();
  const int row = static_cast<int>(blockIdx.x), tid = static_cast<int>(threadIdx.x);
  const int64_t r = p.row_base + row;
  const int length = p.row_length(r);
  if (length <= p.k) return;
  const float* const scores = p.scores + row * p.pitch;

  // The k-th largest key, from its highest byte down; `left` of those that share its bytes so far are wanted.
  uint32_t key = 0;
  int left = p.k;
  for (int shift = 24; shift >= 0; shift -= 8) {
    static_assert(kBins == kThreads);
    bins[tid] = 0;
    __syncthreads();
    for (int t = tid; t < length; t += kThreads) {
      const uint32_t other = KeyOf(scores[t]);
      if (shift == 24 || (other ^ key) >> (shift + 8) == 0) atomicAdd(&bins[(other >> shift) & 0xffu], 1);
    }
    __syncthreads();
    if (tid == 0) {
      int bin = kBins - 1, rest = left;
      while (bins[bin] < rest) rest -= bins[bin--];
      found_bin = static_cast<uint32_t>(bin);
      found_left = rest;
    }
    __syncthreads();
    key |= found_bin << shift;
    left = found_left;
  }

  int taken = 0, equal = 0;
  for (int t0 = 0; t0 < length && taken < p.k; t0 += kThreads) {
    const int t = t0 + tid;
    const uint32_t other = t < length ? KeyOf(scores[t]) : 0;
    const bool is_equal = t < length && other == key;
    const Rank among_equal = RankAmong(is_equal, counts);
    const bool takes = t < length && (other > key || (is_equal && equal + among_equal.before < left));
    const Rank among_taken = RankAmong(takes, counts);
    if (takes) p.chosen[r * p.chosen_row + (taken + among_taken.before) * p.chosen_column] = t;
    taken += among_taken.all;
    equal += among_equal.all;
  }
}

int64_t MostTokens(const IndexTopKArgs& args) { return args.block_table.shape[1] * Extent(args.key_pages, 1); }

int64_t RowsAtOnce(const IndexTopKArgs& args) {
  const int64_t rows = Extent(args.query, 0);
  return std::clamp<int64_t>(kMostScores / std::max<int64_t>(MostTokens(args), 1), 1, std::max<int64_t>(rows, 1));
}

}  // namespace

void IndexKey(const ExecContext& context, const IndexKeyArgs& args) {
  KeyParams p{};
  p.x = FloatPlaneOf(args.x);
  p.out = FloatPlaneOf(args.out);
  p.cos = FloatPlaneOf(args.cos);
  p.sin = FloatPlaneOf(args.sin);
  p.weight = StridedOf(args.weight);
  p.bias = StridedOf(args.bias);
  p.out_index = StridedOf(args.out_index);
  p.n = static_cast<int>(Extent(args.x, 1));
  p.half = static_cast<int>(args.cos.shape[1]);
  p.eps = args.eps;
  p.interleaved = args.interleaved;
  Launch(context, "index_key", IndexKeyKernel, Extent(args.x, 0), kWave, static_cast<size_t>(p.n) * sizeof(float), p);
}

bool HonoursIndexTopK(const IndexTopKArgs& args) {
  const int64_t heads = Extent(args.query, 1), n = Extent(args.query, 2);
  return heads * n <= 16384 && n <= 256;
}

WorkspaceSize IndexTopKWorkspace(const IndexTopKArgs& args, int) {
  return {static_cast<size_t>(RowsAtOnce(args) * MostTokens(args)) * sizeof(float), 0};
}

void IndexTopK(const ExecContext& context, const IndexTopKArgs& args) {
  ChoiceParams p{};
  p.query = FloatPlaneOf(args.query);
  p.weights = FloatPlaneOf(args.weights);
  p.keys = FloatPlaneOf(args.key_pages);
  p.block_table = args.block_table.data;
  p.table_row = args.block_table.stride[0];
  p.table_column = args.block_table.stride[1];
  p.row_sequence = StridedOf(args.row_sequence);
  p.row_length = StridedOf(args.row_length);
  p.heads = static_cast<int>(Extent(args.query, 1));
  p.n = static_cast<int>(Extent(args.query, 2));
  p.page_size = static_cast<int>(Extent(args.key_pages, 1));
  p.k = static_cast<int>(args.chosen.shape[1]);
  p.pitch = MostTokens(args);
  p.tiles = static_cast<int>(DivideUp(p.pitch, kTokens));
  p.chosen = args.chosen.data;
  p.chosen_row = args.chosen.stride[0];
  p.chosen_column = args.chosen.stride[1];
  const int64_t rows = Extent(args.query, 0), at_once = RowsAtOnce(args);
  if (rows == 0 || p.pitch <= p.k) return;
  p.scores = context.SharedScratch<float>(0, static_cast<size_t>(at_once * p.pitch));
  const size_t bytes = ScoreBytes(p.heads, p.n);
  AllowSharedBytes(ScoreKernel, bytes, "index_top_k");
  for (int64_t row = 0; row < rows; row += at_once) {
    const int64_t count = std::min(at_once, rows - row);
    p.row_base = row;
    Launch(context, "index_top_k, scores", ScoreKernel, count * p.tiles, kThreads, bytes, p);
    Launch(context, "index_top_k", ChooseKernel, count, kThreads, 0, p);
  }
}

}  // namespace mxmla::gpu
