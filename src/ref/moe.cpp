#include <cmath>
#include <limits>

#include "ref/kernels.h"
#include "ref/values.h"

namespace mxmla::ref {
namespace {

// An item of a ranking: larger scores first, the lower number on a tie.
struct Ranked {
  float score = std::numeric_limits<float>::infinity();
  int64_t number = -1;
};

bool Before(const Ranked& a, const Ranked& b) {
  return a.score > b.score || (a.score == b.score && a.number < b.number);
}

// The item of begin..end-1 that follows `previous` in the ranking, among those that `eligible` lets through. NaN ranks
// with the lowest, so that there is always an answer.
template <class Score, class Eligible>
Ranked Next(const Ranked& previous, int64_t begin, int64_t end, const Score& score, const Eligible& eligible) {
  Ranked best{-std::numeric_limits<float>::infinity(), end};
  for (int64_t i = begin; i < end; ++i) {
    if (!eligible(i)) continue;
    Ranked item{score(i), i};
    if (std::isnan(item.score)) item.score = -std::numeric_limits<float>::infinity();
    if (Before(previous, item) && Before(item, best)) best = item;
  }
  return best;
}

void Softmax(const View<float, 1>& row) {
  float maximum = row(0);
  for (int64_t e = 1; e < row.shape[0]; ++e) maximum = std::max(maximum, row(e));
  double total = 0;
  for (int64_t e = 0; e < row.shape[0]; ++e) total += std::exp(static_cast<double>(row(e)) - maximum);
  for (int64_t e = 0; e < row.shape[0]; ++e) {
    row(e) = static_cast<float>(std::exp(static_cast<double>(row(e)) - maximum) / total);
  }
}

void RouteRow(const RouterArgs& args, int64_t r) {
  const RouterOptions& options = args.options;
  const View<float, 1> scores = args.logits.Select(0, r);
  const int64_t experts = scores.shape[0];
  const bool noaux_tc = options.method == RouterMethod::kNoauxTc;
  if (noaux_tc) {
    for (int64_t e = 0; e < experts; ++e) {
      scores(e) = static_cast<float>(1.0 / (1.0 + std::exp(-static_cast<double>(scores(e)))));
    }
  } else {
    Softmax(scores);
  }
  const auto choice = [&](int64_t e) { return noaux_tc && args.bias ? scores(e) + (*args.bias)(e) : scores(e); };

  // The lowest of the kept groups in the ranking of groups.
  const bool grouped = options.method != RouterMethod::kGreedy;
  const int64_t group_size = grouped ? experts / options.n_group : experts;
  const auto any = [](int64_t) { return true; };
  const auto group_score = [&](int64_t g) {
    const int64_t begin = g * group_size;
    const Ranked first = Next({}, begin, begin + group_size, choice, any);
    if (!noaux_tc || group_size == 1) return first.score;
    return first.score + Next(first, begin, begin + group_size, choice, any).score;
  };
  Ranked last_group;
  if (grouped) {
    for (int64_t i = 0; i < options.topk_group; ++i) {
      last_group = Next(last_group, 0, options.n_group, group_score, any);
    }
  }
  const auto group_kept = [&](int64_t g) {
    Ranked group{group_score(g), g};
    if (std::isnan(group.score)) group.score = -std::numeric_limits<float>::infinity();
    return !Before(last_group, group);
  };

  Ranked expert;
  double sum = 0;
  for (int64_t i = 0; i < options.top_k; ++i) {
    expert = Next(expert, 0, experts, choice, [&](int64_t e) { return !grouped || group_kept(e / group_size); });
    args.expert_ids(r, i) = static_cast<int32_t>(expert.number);
    args.expert_weights(r, i) = scores(expert.number);
    sum += static_cast<double>(scores(expert.number));
  }
  const double factor = options.routed_scaling_factor / (options.norm_topk_prob ? sum + 1e-20 : 1.0);
  for (int64_t i = 0; i < options.top_k; ++i) {
    args.expert_weights(r, i) = static_cast<float>(static_cast<double>(args.expert_weights(r, i)) * factor);
  }
}

}  // namespace

void Router(const ExecContext& context, const RouterArgs& args) {
  const Activation<2> x = std::visit([](const auto& v) -> Activation<2> { return v; }, args.x);
  ref::Linear(context, {x, args.weight, args.logits});
  const auto body = [&](int64_t r, int) {
    if (!args.row_length || (*args.row_length)(r) > 0) return RouteRow(args, r);
    for (int64_t s = 0; s < args.options.top_k; ++s) {
      args.expert_ids(r, s) = -1;
      args.expert_weights(r, s) = 0;
    }
  };
  ParallelFor(context, Extent(args.x, 0), body);
}

// A counting sort; expert_begin serves as the cursors while the pairs are placed.
void GroupExperts(const ExecContext&, const GroupExpertsArgs& args) {
  const int64_t experts = args.expert_begin.shape[0] - 1;
  const int64_t top_k = args.expert_ids.shape[1];
  for (int64_t e = 0; e <= experts; ++e) args.expert_begin(e) = 0;
  const auto expert_of = [&](int64_t p) { return args.expert_ids(p / top_k, p % top_k); };
  for (int64_t p = 0; p < args.pairs.shape[0]; ++p) {
    if (expert_of(p) >= 0) ++args.expert_begin(expert_of(p) + 1);
  }
  for (int64_t e = 0; e < experts; ++e) args.expert_begin(e + 1) += args.expert_begin(e);
  for (int64_t p = 0; p < args.pairs.shape[0]; ++p) {
    if (expert_of(p) >= 0) args.pairs(args.expert_begin(expert_of(p))++) = static_cast<int32_t>(p);
  }
  for (int64_t e = experts; e > 0; --e) args.expert_begin(e) = args.expert_begin(e - 1);
  args.expert_begin(0) = 0;
}

void SiluMul(const ExecContext& context, const SiluMulArgs& args) {
  const int64_t n = Extent(args.gate, 1);
  const auto body = [&](int64_t r, int) {
    float gate[kFp8Group];
    float up[kFp8Group];
    for (int64_t begin = 0; begin < n; begin += kFp8Group) {
      const int64_t count = std::min(kFp8Group, n - begin);
      LoadRow(args.gate, r, begin, count, gate);
      LoadRow(args.up, r, begin, count, up);
      for (int64_t i = 0; i < count; ++i) {
        const double g = gate[i];
        up[i] = static_cast<float>(g / (1.0 + std::exp(-g)) * static_cast<double>(up[i]));
      }
      StoreRow(args.out, r, begin, count, up, args.scale_mode);
    }
  };
  ParallelFor(context, Extent(args.gate, 0), body);
}

void CombineExperts(const ExecContext& context, const CombineExpertsArgs& args) {
  const int64_t n = Extent(args.out, 1);
  const int64_t top_k = args.expert_weights.shape[1];
  const auto body = [&](int64_t r, int) {
    for (int64_t begin = 0; begin < n; begin += kFp8Group) {
      const int64_t count = std::min(kFp8Group, n - begin);
      double sum[kFp8Group] = {};
      float values[kFp8Group];
      const auto add = [&](double weight) {
        for (int64_t i = 0; i < count; ++i) sum[i] += weight * static_cast<double>(values[i]);
      };
      if (args.shared) {
        LoadRow(*args.shared, r, begin, count, values);
        add(1.0);
      }
      for (int64_t s = 0; s < top_k; ++s) {
        LoadRow(args.pairs, r * top_k + s, begin, count, values);
        add(args.expert_weights(r, s));
      }
      for (int64_t i = 0; i < count; ++i) values[i] = static_cast<float>(sum[i]);
      StoreRow(args.out, r, begin, count, values);
    }
  };
  ParallelFor(context, Extent(args.out, 0), body);
}

}  // namespace mxmla::ref
