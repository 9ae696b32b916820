// Choosing tokens from logits: a cluster of blocks a row, which reads its slices again and again, from the L1 after the
// first time. Cuts are found by histograms, nothing is sorted but the few tokens that are listed.
#include "gpu/row_io.cuh"
#include "gpu/row_kernels.h"
#include "gpu/sample_row.cuh"

namespace mxmla::gpu {
namespace {

struct Params {
  const float* logits;  // (rows, vocab)
  int64_t logit_row;
  Strided<const SamplingOptions> options;  // (rows)
  Strided<const float> uniform;            // (rows)
  Strided<const int64_t> penalty_begin;    // (rows + 1) or absent
  Strided<const int32_t> penalty_tokens, penalty_counts;
  Strided<const int64_t> bias_begin;  // (rows + 1) or absent
  Strided<const int32_t> bias_tokens;
  Strided<const float> bias_values;
  Strided<const int32_t> allowed_index;  // (rows) or absent
  const int32_t* allowed;                // (masks, words)
  int64_t allowed_row;
  Strided<int32_t> tokens;  // (rows)
  Strided<float> logprobs;  // (rows) or absent
  int32_t* top_tokens;      // (rows, listed)
  float* top_logprobs;      // (rows, listed)
  int64_t top_token_row, top_token_step, top_logprob_row, top_logprob_step;
  int listed;
  float* adjusted;  // (rows, vocab), workspace
  int vocab;
};

constexpr int kMostListed = static_cast<int>(kMaxTopLogprobs);

struct Lists {
  uint64_t own[kMostListed];
  int count;
  uint64_t all[kBlocks * kMostListed];
};

__device__ __forceinline__ float PlusBias(float logit, float bias) {
  return static_cast<float>(static_cast<double>(logit) + static_cast<double>(bias));
}

// Biases by tiles, in order: of a token that a tile names more than once the first entry's thread adds all.
__device__ void AddBiases(const Params& p, int64_t r, const Row& row, float* adjusted /* (vocab) */) {
  __shared__ int32_t tile[kSampleThreads];
  const int64_t end = p.bias_begin(r + 1);
  const int thread = static_cast<int>(threadIdx.x);
  for (int64_t base = p.bias_begin(r); base < end; base += kSampleThreads) {
    const int count = static_cast<int>(min(end - base, int64_t{kSampleThreads}));
    __syncthreads();
    if (thread < count) tile[thread] = p.bias_tokens(base + thread);
    __syncthreads();
    const int32_t token = thread < count ? tile[thread] : -1;
    bool first = token >= row.begin && token < row.end;
    for (int i = 0; first && i < thread; ++i) first = tile[i] != token;
    if (!first) continue;
    float logit = adjusted[token];
    for (int i = thread; i < count; ++i) {
      if (tile[i] == token) logit = PlusBias(logit, p.bias_values(base + i));
    }
    adjusted[token] = logit;
  }
  __syncthreads();
}

__device__ void AddPenalties(const Params& p, int64_t r, const Row& row, float* adjusted /* (vocab) */) {
  const SamplingOptions& options = p.options(r);
  const double repetition = options.repetition_penalty;
  for (int64_t i = p.penalty_begin(r) + threadIdx.x; i < p.penalty_begin(r + 1); i += kSampleThreads) {
    const int32_t token = p.penalty_tokens(i);
    if (token < row.begin || token >= row.end) continue;
    const int32_t count = p.penalty_counts(i);
    double x = adjusted[token];
    x = x > 0 ? x / repetition : x * repetition;
    x -= static_cast<double>(options.frequency_penalty) * count;
    if (count > 0) x -= static_cast<double>(options.presence_penalty);
    adjusted[token] = static_cast<float>(x);
  }
  __syncthreads();
}

// Points row.logits at the logits after mask, bias and penalties; where there are none, at those given.
__device__ void Adjust(const Params& p, int64_t r, Row* row) {
  row->logits = p.logits + r * p.logit_row;
  const int32_t mask = p.allowed_index ? p.allowed_index(r) : -1;
  const bool biased = p.bias_begin && p.bias_begin(r) < p.bias_begin(r + 1);
  const bool penalised = p.penalty_begin && p.penalty_begin(r) < p.penalty_begin(r + 1);
  if (mask < 0 && !biased && !penalised) return;
  float* adjusted = p.adjusted + r * p.vocab;
  for (int t = row->begin + static_cast<int>(threadIdx.x); t < row->end; t += kSampleThreads) {
    const bool allowed = mask < 0 || (static_cast<uint32_t>(p.allowed[mask * p.allowed_row + t / 32]) >> (t % 32) & 1);
    adjusted[t] = allowed ? row->logits[t] : -INFINITY;
  }
  __syncthreads();
  if (biased) AddBiases(p, r, *row, adjusted);
  if (penalised) AddPenalties(p, r, *row, adjusted);
  row->logits = adjusted;
}

constexpr uint64_t kNan = ~uint64_t{0};  // above every order

struct Range {
  uint64_t first;  // the largest order of a logit above -inf, or kNan; 0: none
  float lowest;    // the smallest logit above -inf
  uint32_t count;  // logits above -inf
};

__device__ Range FindRange(const Row& row, int* half) {
  float largest = -INFINITY, lowest = INFINITY;
  int at = -1;
  uint32_t count = 0;
  bool nan = false;
  row.ForEach([&](float x, int t) {
    if (x > largest) {
      largest = x;
      at = t;
    }
    nan = nan || x != x;
    count += x > -INFINITY ? 1 : 0;
    lowest = fminf(lowest, x > -INFINITY ? x : INFINITY);
  });
  const Range range{nan ? kNan : at < 0 ? 0 : OrderOf(largest, at), lowest, count};
  return ClusterReduce(half, range, [](const Range& a, const Range& b) {
    return Range{max(a.first, b.first), fminf(a.lowest, b.lowest), a.count + b.count};
  });
}

// Fills in what the row is after its range is known.
__device__ void Describe(const Range& range, const SamplingOptions& options, Row* row, int* half) {
  constexpr float kLog2E = 1.44269504088896f;
  row->temperature = options.temperature;
  row->scale = fminf(kLog2E / options.temperature, kMost);  // finite, so that the largest weighs 1
  row->largest = LogitOfOrder(range.first);
  row->smallest = range.lowest;
  row->count = range.count;
  if (row->largest < INFINITY) return;
  row->infinite = true;
  row->largest = row->smallest = 0;
  uint32_t count = 0;
  row->ForEach([&](float x, int) { count += x == 0 ? 1 : 0; });
  row->count = ClusterReduce(half, count, [](uint32_t a, uint32_t b) { return a + b; });
}

// The order from which on min_p and top_k keep tokens; 0: all of them.
__device__ uint64_t Truncate(const SamplingOptions& options, const Row& row, Exchange* exchange, int* half) {
  uint64_t from = 0;
  if (options.min_p > 0) {
    const double floor = static_cast<double>(row.largest) +
                         static_cast<double>(row.temperature) * log(fmin(1.0, static_cast<double>(options.min_p)));
    auto logit = static_cast<float>(floor);
    if (static_cast<double>(logit) < floor) logit = nextafterf(logit, INFINITY);
    from = uint64_t{KeyOf(fminf(logit, row.largest))} << 32;
  }
  if (options.top_k > 0 && options.top_k < static_cast<int64_t>(row.count)) {
    const auto wanted = static_cast<uint64_t>(options.top_k);
    from = max(from, Selection<false>(exchange, half, row).Find(Cut(), [=](uint64_t) { return wanted; }));
  }
  return from;
}

__device__ __forceinline__ float Logprob(const Row& row, float logit, double log_sum) {
  return static_cast<float>(static_cast<double>(logit) - static_cast<double>(row.largest) - log_sum);
}

// Lists the row's `wanted` largest tokens, which exist.
__device__ void ListTop(const Params& p, int64_t r, const Row& row, int wanted, double log_sum, Exchange* exchange,
                        int* half) {
  __shared__ Lists lists;
  const int thread = static_cast<int>(threadIdx.x);
  const auto write = [&](int at, int32_t token, float logprob) {
    p.top_tokens[r * p.top_token_row + at * p.top_token_step] = token;
    p.top_logprobs[r * p.top_logprob_row + at * p.top_logprob_step] = logprob;
  };
  if (BlockRank() == 0 && thread >= wanted && thread < p.listed) write(thread, -1, -INFINITY);
  if (wanted <= 0) return;
  uint64_t from = 0;
  if (wanted < static_cast<int>(row.count)) {
    from = Selection<false>(exchange, half, row).Find(Cut(), [=](uint64_t) { return static_cast<uint64_t>(wanted); });
  }
  const Cut cut(from);
  if (thread == 0) lists.count = 0;
  __syncthreads();
  row.ForEach([&](float logit, int t) {
    if (cut.Keeps(logit, t)) lists.own[atomicAdd(&lists.count, 1)] = OrderOf(logit, t);
  });
  ClusterBarrier();
  if (BlockRank() != 0) return;
  for (int i = thread; i < kBlocks * kMostListed; i += kSampleThreads) {
    const Lists* other = InBlock(&lists, i / kMostListed);
    lists.all[i] = i % kMostListed < other->count ? other->own[i % kMostListed] : 0;
  }
  __syncthreads();
  for (int i = thread; i < kBlocks * kMostListed; i += kSampleThreads) {
    const uint64_t order = lists.all[i];
    if (order == 0) continue;
    int at = 0;
    for (const uint64_t other : lists.all) at += other > order;
    write(at, TokenOfOrder(order), Logprob(row, LogitOfOrder(order), log_sum));
  }
}

__device__ void SampleRow(const Params& p, int64_t r, Exchange* exchange) {
  int half = 0;
  const SamplingOptions options = p.options(r);
  Row row{};
  const int slice = (p.vocab + kBlocks * kTogether - 1) / (kBlocks * kTogether) * kTogether;
  row.begin = min(BlockRank() * slice, p.vocab);
  row.end = min(row.begin + slice, p.vocab);
  Adjust(p, r, &row);
  const Range range = FindRange(row, &half);
  if (range.first == kNan || range.first == 0) {
    if (BlockRank() == 0 && threadIdx.x == 0) {
      p.tokens(r) = range.first == kNan ? kNanLogits : kNothingAllowed;
      if (p.logprobs) p.logprobs(r) = NAN;
    }
    ListTop(p, r, row, 0, 0, exchange, &half);
    return;
  }
  Describe(range, options, &row, &half);

  const int wanted = min(min(options.top_logprobs, p.listed), static_cast<int>(min(row.count, uint32_t{kMostListed})));
  const bool logprobs = p.logprobs || wanted > 0;
  uint64_t softmax = 0;
  int token = BlockRank() == 0 && threadIdx.x == 0 ? TokenOfOrder(range.first) : -1;
  if (options.temperature > 0) {
    uint64_t from = Truncate(options, row, exchange, &half);
    Draw draw(exchange, &half, row);
    if (options.top_p < 1) {
      const uint64_t order = Selection<true>(exchange, &half, row).Find(Cut(from), [&](uint64_t all) {
        const double need = ceil(static_cast<double>(options.top_p) * static_cast<double>(all));
        return max(static_cast<uint64_t>(need), uint64_t{1});
      });
      from = max(from, order);
    }
    const uint64_t total = draw.Sum(Cut(from), logprobs ? &softmax : nullptr);
    token = draw.Find(static_cast<uint64_t>(static_cast<double>(p.uniform(r)) * static_cast<double>(total)));
  } else if (logprobs) {
    row.ForEach([&](float logit, int) { softmax += row.SoftmaxWeight(logit); });
  }
  double log_sum = 0;
  if (logprobs) {
    softmax = ClusterReduce(&half, softmax, [](uint64_t a, uint64_t b) { return a + b; });
    log_sum = log(static_cast<double>(softmax) / kWeightOne);
  }
  // The one thread that knows it: the draw's wave agrees.
  if (token >= 0 && threadIdx.x == 0) {
    p.tokens(r) = token;
    if (p.logprobs) {
      p.logprobs(r) = Logprob(row, options.temperature > 0 ? row.Logit(token) : row.largest, log_sum);
    }
  }
  ListTop(p, r, row, wanted, log_sum, exchange, &half);
}

__global__ void MXMLA_CLUSTER __launch_bounds__(kSampleThreads, 2) SampleKernel(const Params p) {
  __shared__ Exchange exchange;
  WaitForPredecessor();
  SampleRow(p, blockIdx.x / kBlocks, &exchange);
  ClusterBarrier();  // no block ends while another reads its shared memory
}

size_t AdjustedFloats(const SampleArgs& args) {
  return static_cast<size_t>(args.logits.shape[0]) * static_cast<size_t>(args.logits.shape[1]);
}

}  // namespace

WorkspaceSize SampleWorkspace(const SampleArgs& args, int) { return {AdjustedFloats(args) * sizeof(float), 0}; }

void Sample(const ExecContext& context, const SampleArgs& args) {
  Params p{};
  p.logits = args.logits.data;
  p.logit_row = args.logits.stride[0];
  p.options = StridedOf(args.options);
  p.uniform = StridedOf(args.uniform);
  p.penalty_begin = StridedOf(args.penalty_begin);
  p.penalty_tokens = StridedOf(args.penalty_tokens);
  p.penalty_counts = StridedOf(args.penalty_counts);
  p.bias_begin = StridedOf(args.bias_begin);
  p.bias_tokens = StridedOf(args.bias_tokens);
  p.bias_values = StridedOf(args.bias_values);
  p.allowed_index = StridedOf(args.allowed_index);
  p.allowed = args.allowed.data;
  p.allowed_row = args.allowed.stride[0];
  p.tokens = StridedOf(args.tokens);
  p.logprobs = StridedOf(args.logprobs);
  if (!args.top_tokens.empty()) {
    p.top_tokens = args.top_tokens.data;
    p.top_token_row = args.top_tokens.stride[0];
    p.top_token_step = args.top_tokens.stride[1];
    p.top_logprobs = args.top_logprobs.data;
    p.top_logprob_row = args.top_logprobs.stride[0];
    p.top_logprob_step = args.top_logprobs.stride[1];
    p.listed = static_cast<int>(args.top_tokens.shape[1]);
  }
  p.adjusted = context.SharedScratch<float>(0, AdjustedFloats(args));
  p.vocab = static_cast<int>(args.logits.shape[1]);
  Launch(context, "sample", SampleKernel, args.logits.shape[0] * kBlocks, kSampleThreads, 0, p);
}

}  // namespace mxmla::gpu
