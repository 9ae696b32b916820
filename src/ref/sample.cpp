// Sampling as its definition reads: everything in double, over the vocabulary sorted in full.
#include <algorithm>
#include <cmath>

#include "ref/kernels.h"

namespace mxmla::ref {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

void Adjust(const SampleArgs& args, int64_t r, float* logits /* (vocab) */) {
  const int64_t vocab = args.logits.shape[1];
  const SamplingOptions& options = args.options(r);
  const int32_t mask = args.allowed_index.empty() ? -1 : args.allowed_index(r);
  for (int64_t t = 0; t < vocab; ++t) {
    const bool allowed = mask < 0 || (static_cast<uint32_t>(args.allowed(mask, t / 32)) >> (t % 32) & 1) != 0;
    logits[t] = allowed ? args.logits(r, t) : -kInfinity;
  }
  if (!args.bias_begin.empty()) {
    for (int64_t i = args.bias_begin(r); i < args.bias_begin(r + 1); ++i) {
      float& logit = logits[args.bias_tokens(i)];
      logit = static_cast<float>(static_cast<double>(logit) + static_cast<double>(args.bias_values(i)));
    }
  }
  if (args.penalty_begin.empty()) return;
  for (int64_t i = args.penalty_begin(r); i < args.penalty_begin(r + 1); ++i) {
    float& logit = logits[args.penalty_tokens(i)];
    const int32_t count = args.penalty_counts(i);
    const double repetition = options.repetition_penalty;
    double x = logit;
    x = x > 0 ? x / repetition : x * repetition;
    x -= static_cast<double>(options.frequency_penalty) * count;
    if (count > 0) x -= static_cast<double>(options.presence_penalty);
    logit = static_cast<float>(x);
  }
}

// Of the logits in falling order, the first `count`: the draw is among these.
int64_t Kept(const float* logits, const int32_t* order /* (finite) */, int64_t finite, const SamplingOptions& options,
             const auto& mass) {
  const double largest = logits[order[0]];
  int64_t count = finite;
  if (options.min_p > 0) {
    const double floor = largest + static_cast<double>(options.temperature) *
                                       std::log(std::min(1.0, static_cast<double>(options.min_p)));
    count = 0;
    while (count < finite && (logits[order[count]] == logits[order[0]] || logits[order[count]] >= floor)) ++count;
  }
  if (options.top_k > 0) count = std::min(count, options.top_k);
  if (!(options.top_p < 1)) return count;
  double total = 0;
  for (int64_t i = 0; i < count; ++i) total += mass(order[i]);
  double nucleus = 0;
  int64_t kept = 0;
  while (kept < count && (kept == 0 || nucleus < static_cast<double>(options.top_p) * total)) {
    nucleus += mass(order[kept++]);
  }
  return kept;
}

void SampleRow(const SampleArgs& args, int64_t r, float* logits /* (2 * vocab) */) {
  const int64_t vocab = args.logits.shape[1];
  const SamplingOptions& options = args.options(r);
  int32_t* order = reinterpret_cast<int32_t*>(logits + vocab);
  Adjust(args, r, logits);
  if (std::count(logits, logits + vocab, kInfinity) > 0) {
    for (int64_t t = 0; t < vocab; ++t) {
      if (logits[t] < kInfinity) logits[t] = -kInfinity;  // NaN stays
    }
  }

  int64_t finite = 0;
  bool nan = false;
  for (int64_t t = 0; t < vocab; ++t) {
    nan = nan || std::isnan(logits[t]);
    if (logits[t] > -kInfinity) order[finite++] = static_cast<int32_t>(t);
  }
  const int64_t listed = args.top_tokens.empty() ? 0 : args.top_tokens.shape[1];
  for (int64_t i = 0; i < listed; ++i) {
    args.top_tokens(r, i) = -1;
    args.top_logprobs(r, i) = -kInfinity;
  }
  if (nan || finite == 0) {
    args.tokens(r) = nan ? kNanLogits : kNothingAllowed;
    if (!args.logprobs.empty()) args.logprobs(r) = std::numeric_limits<float>::quiet_NaN();
    return;
  }
  std::sort(order, order + finite,
            [&](int32_t a, int32_t b) { return logits[a] > logits[b] || (logits[a] == logits[b] && a < b); });
  const float largest = logits[order[0]];
  const auto below = [&](int32_t t) {  // 0 for the largest, an infinite one too
    return logits[t] == largest ? 0.0 : static_cast<double>(logits[t]) - static_cast<double>(largest);
  };
  double sum = 0;
  for (int64_t i = 0; i < finite; ++i) sum += std::exp(below(order[i]));
  const auto logprob = [&](int32_t t) { return static_cast<float>(below(t) - std::log(sum)); };
  for (int64_t i = 0; i < std::min({listed, static_cast<int64_t>(options.top_logprobs), finite}); ++i) {
    args.top_tokens(r, i) = order[i];
    args.top_logprobs(r, i) = logprob(order[i]);
  }

  int32_t token = order[0];
  if (options.temperature > 0) {
    const auto mass = [&](int32_t t) {
      return logits[t] == largest ? 1.0 : std::exp(below(t) / static_cast<double>(options.temperature));
    };
    const int64_t kept = Kept(logits, order, finite, options, mass);
    std::sort(order, order + kept);
    double total = 0;
    for (int64_t i = 0; i < kept; ++i) total += mass(order[i]);
    const double target = static_cast<double>(args.uniform(r)) * total;
    double passed = 0;
    for (int64_t i = 0; i < kept && !(passed > target); ++i) {
      if (mass(order[i]) == 0) continue;
      token = order[i];
      passed += mass(order[i]);
    }
  }
  args.tokens(r) = token;
  if (!args.logprobs.empty()) args.logprobs(r) = logprob(token);
}

}  // namespace

WorkspaceSize SampleWorkspace(const SampleArgs& args, int) {
  return {0, static_cast<size_t>(args.logits.shape[1]) * (sizeof(float) + sizeof(int32_t))};
}

void Sample(const ExecContext& context, const SampleArgs& args) {
  const auto floats = static_cast<size_t>(2 * args.logits.shape[1]);
  ParallelFor(context, args.logits.shape[0],
              [&](int64_t r, int worker) { SampleRow(args, r, context.Scratch<float>(worker, 0, floats)); });
}

}  // namespace mxmla::ref
