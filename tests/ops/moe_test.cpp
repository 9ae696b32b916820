#include <algorithm>
#include <numeric>

#include "harness.h"

namespace mxmla::test {
namespace {

using MoeTest = BackendTest;

struct RouterCase {
  RouterMethod method;
  int64_t experts, n_group, topk_group, top_k;
  bool norm;
  float factor;
};

// design.md section 4, with sorting instead of the kernels' selections.
void RouteNaively(const RouterCase& c, const std::vector<double>& logits, const std::vector<double>& bias,
                  std::vector<int32_t>* ids, std::vector<double>* weights) {
  std::vector<double> score(c.experts), choice(c.experts);
  if (c.method == RouterMethod::kNoauxTc) {
    for (int64_t e = 0; e < c.experts; ++e) score[e] = 1 / (1 + std::exp(-logits[e]));
  } else {
    double total = 0;
    for (int64_t e = 0; e < c.experts; ++e) total += score[e] = std::exp(logits[e]);
    for (double& s : score) s /= total;
  }
  for (int64_t e = 0; e < c.experts; ++e) choice[e] = score[e] + bias[e];
  if (c.method != RouterMethod::kGreedy) {
    const int64_t size = c.experts / c.n_group;
    std::vector<std::pair<double, int64_t>> groups;
    for (int64_t g = 0; g < c.n_group; ++g) {
      std::vector<double> members(choice.begin() + g * size, choice.begin() + (g + 1) * size);
      std::sort(members.rbegin(), members.rend());
      const bool two = c.method == RouterMethod::kNoauxTc && size > 1;
      groups.emplace_back(-(members[0] + (two ? members[1] : 0)), g);
    }
    std::sort(groups.begin(), groups.end());
    for (size_t i = c.topk_group; i < groups.size(); ++i) {
      std::fill_n(choice.begin() + groups[i].second * size, size, -INFINITY);
    }
  }
  std::vector<int32_t> order(c.experts);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return choice[a] > choice[b]; });
  double sum = 0;
  for (int64_t i = 0; i < c.top_k; ++i) sum += score[order[i]];
  for (int64_t i = 0; i < c.top_k; ++i) {
    ids->push_back(order[i]);
    weights->push_back(score[order[i]] / (c.norm ? sum + 1e-20 : 1) * static_cast<double>(c.factor));
  }
}

TEST_P(MoeTest, RouterChoosesAndWeighs) {
  const RouterCase cases[] = {{RouterMethod::kGreedy, 64, 1, 1, 6, false, 1.0f},
                              {RouterMethod::kGreedy, 7, 1, 1, 7, true, 2.0f},
                              {RouterMethod::kGroupLimitedGreedy, 40, 8, 3, 6, false, 16.0f},
                              {RouterMethod::kNoauxTc, 256, 8, 4, 8, true, 2.5f},
                              {RouterMethod::kNoauxTc, 384, 1, 1, 8, true, 2.827f},
                              {RouterMethod::kNoauxTc, 6, 3, 2, 2, false, 1.0f},
                              {RouterMethod::kNoauxTc, 5, 5, 4, 3, true, 1.0f}};
  const int64_t hidden = 96;
  for (const RouterCase& c : cases) {
    for (Format w_format : {Format::kF32, Format::kBf16}) {
      for (int64_t rows : {0, 1, 19}) {
        SCOPED_TRACE(testing::Message() << c.experts << " experts, method " << static_cast<int>(c.method) << " seed "
                                        << Seed());
        Tensor<2> x(rng_, backend().plain(), {rows, hidden});
        x.Randomize(rng_, 0.3);
        const Weight w(rng_, w_format, c.experts, hidden);
        Plane<float, 1> bias(rng_, {c.experts});
        bias.ForEach([&](float& v) { v = std::uniform_real_distribution<float>(-0.3f, 0.1f)(rng_); });
        Plane<float, 2> logits(rng_, {rows, c.experts}), weights(rng_, {rows, c.top_k});
        Plane<int32_t, 2> ids(rng_, {rows, c.top_k});
        RouterArgs args{
            x.In(),      w.View(), {},          {c.method, c.n_group, c.topk_group, c.top_k, c.norm, c.factor},
            logits.view, ids.view, weights.view};
        const bool biased = c.method == RouterMethod::kNoauxTc;
        if (biased) args.bias = View<const float, 1>(bias.view);
        Router(Machine(backend()).context(), args);
        ASSERT_TRUE(logits.UntouchedOutside() && ids.UntouchedOutside() && weights.UntouchedOutside());

        const std::vector<double> xs = x.Values(), ws = w.Values();
        std::vector<double> biases(c.experts);
        if (biased)
          std::transform(bias.view.data, bias.view.data + c.experts, biases.begin(), [](float v) { return v; });
        std::vector<int32_t> expected_ids;
        std::vector<double> expected, found;
        for (int64_t r = 0; r < rows; ++r) {
          std::vector<double> row(c.experts);
          for (int64_t e = 0; e < c.experts; ++e) {
            for (int64_t i = 0; i < hidden; ++i) row[e] += xs[r * hidden + i] * ws[e * hidden + i];
          }
          RouteNaively(c, row, biases, &expected_ids, &expected);
        }
        for (float weight : weights.Elements()) found.push_back(weight);
        // Random scores closer than float32's rounding are too rare to meet.
        ASSERT_EQ(ids.Elements(), expected_ids);
        ASSERT_TRUE(Close(expected, found, {1e-4, 1e-5}));
      }
    }
  }
}

// A row's choice and weights are the same bits in any batch; a padding row has none.
TEST_P(MoeTest, RouterRowsAreIndependentAndPaddingReadsNoExpert) {
  const int64_t experts = 72, hidden = 1096, rows = 37, top_k = 5;
  Tensor<2> x(rng_, backend().plain(), {rows, hidden});
  x.Randomize(rng_, 0.1);
  const Weight w(rng_, Format::kBf16, experts, hidden);
  Plane<int32_t, 1> length(rng_, {rows});
  for (int64_t r = 0; r < rows; ++r) length.view(r) = r % 7 == 3 ? 0 : 5;
  const auto run = [&](int64_t step, std::vector<int32_t>* ids) {
    const Plane<float, 2> logits(rng_, {rows, experts}), weights(rng_, {rows, top_k});
    const Plane<int32_t, 2> chosen(rng_, {rows, top_k});
    for (int64_t r = 0; r < rows; r += step) {
      const int64_t count = std::min(step, rows - r);
      RouterArgs args{std::visit([&](const auto& v) -> FloatInput<2> { return v.Rows(r, count); }, x.In()),
                      w.View(),
                      {},
                      {RouterMethod::kNoauxTc, 4, 2, top_k, true, 2.5f},
                      logits.view.Rows(r, count),
                      chosen.view.Rows(r, count),
                      weights.view.Rows(r, count)};
      args.row_length = View<const int32_t, 1>(length.view.Rows(r, count));
      Router(Machine(backend()).context(), args);
    }
    EXPECT_TRUE(chosen.UntouchedOutside() && weights.UntouchedOutside());
    *ids = chosen.Elements();
    return weights.Elements();
  };
  std::vector<int32_t> ids, again;
  const std::vector<float> weights = run(rows, &ids);
  for (int64_t i = 0; i < rows * top_k; ++i) {
    if (i / top_k % 7 == 3) {
      EXPECT_EQ(ids[i], -1);
      EXPECT_EQ(weights[i], 0);
    } else {
      EXPECT_GE(ids[i], 0);
      EXPECT_GT(weights[i], 0);
    }
  }
  for (const int64_t step : {1, 2, 6, 16}) {
    EXPECT_EQ(run(step, &again), weights) << step;
    EXPECT_EQ(again, ids) << step;
  }
}

TEST_P(MoeTest, RouterTiesGoToTheLowerExpert) {
  const int64_t experts = 8, hidden = 32;
  for (RouterMethod method : {RouterMethod::kGreedy, RouterMethod::kGroupLimitedGreedy, RouterMethod::kNoauxTc}) {
    const Tensor<2> x = std::move(Tensor<2>(rng_, backend().plain(), {1, hidden}).Randomize(rng_));
    const OperandVector<float> zeros(experts * hidden);
    OperandVector<float> logits(experts), weights(4);
    OperandVector<int32_t> ids(4);
    Router(Machine(backend()).context(), {x.In(),
                                          View<const float, 2>::Contiguous(zeros.data(), {experts, hidden}),
                                          {},
                                          {method, 4, 2, 4, false, 1},
                                          View<float, 2>::Contiguous(logits.data(), {1, experts}),
                                          View<int32_t, 2>::Contiguous(ids.data(), {1, 4}),
                                          View<float, 2>::Contiguous(weights.data(), {1, 4})});
    EXPECT_EQ(ids, (OperandVector<int32_t>{0, 1, 2, 3}));
  }
}

TEST_P(MoeTest, RouterOnNanStaysInRange) {
  const int64_t experts = 8, hidden = 32;
  Tensor<2> x(rng_, Format::kF32, {1, hidden});
  x.f32->ForEach([](float& v) { v = NAN; });
  for (RouterMethod method : {RouterMethod::kGreedy, RouterMethod::kGroupLimitedGreedy, RouterMethod::kNoauxTc}) {
    const Weight w(rng_, Format::kF32, experts, hidden);
    OperandVector<float> logits(experts), weights(4);
    OperandVector<int32_t> ids(4, -5);
    Router(Machine(backend()).context(), {x.In(),
                                          w.View(),
                                          {},
                                          {method, 4, 2, 4, false, 1},
                                          View<float, 2>::Contiguous(logits.data(), {1, experts}),
                                          View<int32_t, 2>::Contiguous(ids.data(), {1, 4}),
                                          View<float, 2>::Contiguous(weights.data(), {1, 4})});
    std::sort(ids.begin(), ids.end());
    EXPECT_GE(ids.front(), 0);
    EXPECT_LT(ids.back(), experts);
    EXPECT_EQ(std::unique(ids.begin(), ids.end()), ids.end());
    EXPECT_TRUE(std::isnan(weights[0]));
  }
}

TEST_P(MoeTest, GroupExpertsSortsPairs) {
  for (int64_t rows : {0, 1, 30}) {
    const int64_t experts = 9, top_k = 3;
    Plane<int32_t, 2> ids(rng_, {rows, top_k});
    ids.ForEach([&](int32_t& id) { id = static_cast<int32_t>(2 * Uniform(rng_, 0, 4)); });
    Plane<int32_t, 1> begin(rng_, {experts + 1}), pairs(rng_, {rows * top_k});
    GroupExperts(Machine(backend()).context(), {ids.view, begin.view, pairs.view});
    const std::vector<int32_t> expert_of = ids.Elements();
    std::vector<int32_t> expected(rows * top_k);
    std::iota(expected.begin(), expected.end(), 0);
    std::stable_sort(expected.begin(), expected.end(), [&](int a, int b) { return expert_of[a] < expert_of[b]; });
    EXPECT_EQ(pairs.Elements(), expected);
    for (int64_t e = 0; e <= experts; ++e) {
      EXPECT_EQ(begin.view(e), std::count_if(expert_of.begin(), expert_of.end(), [&](int32_t id) { return id < e; }));
    }
    EXPECT_TRUE(begin.UntouchedOutside() && pairs.UntouchedOutside());
  }
}

TEST_P(MoeTest, GroupExpertsLeavesPaddingOut) {
  const int64_t rows = 700, top_k = 8, experts = 257;
  Plane<int32_t, 2> ids(rng_, {rows, top_k});
  ids.ForEach([&](int32_t& id) { id = static_cast<int32_t>(Uniform(rng_, -1, experts - 1)); });
  const Plane<int32_t, 1> begin(rng_, {experts + 1}), pairs(rng_, {rows * top_k});
  GroupExperts(Machine(backend()).context(), {ids.view, begin.view, pairs.view});
  const std::vector<int32_t> expert_of = ids.Elements();
  const auto padding = static_cast<int64_t>(std::count(expert_of.begin(), expert_of.end(), -1));
  std::vector<int32_t> expected(rows * top_k);
  std::iota(expected.begin(), expected.end(), 0);
  std::stable_sort(expected.begin(), expected.end(), [&](int a, int b) { return expert_of[a] < expert_of[b]; });
  expected.erase(expected.begin(), expected.begin() + padding);
  std::vector<int32_t> found = pairs.Elements();
  found.resize(expected.size());
  EXPECT_EQ(found, expected);
  for (int64_t e = 0; e <= experts; ++e) {
    const auto before = std::count_if(expert_of.begin(), expert_of.end(), [&](int32_t id) { return id < e; });
    EXPECT_EQ(begin.view(e), before - padding);
  }
  EXPECT_TRUE(begin.UntouchedOutside() && pairs.UntouchedOutside());
}

TEST_P(MoeTest, CombineAddsSharedAndWeightedPairs) {
  const Format plain = backend().plain();
  for (int64_t rows : {0, 1, 8}) {
    for (int64_t top_k : {1, 6}) {
      for (bool with_shared : {false, true}) {
        for (int64_t n : {32, 150}) {
          Tensor<2> pairs(rng_, plain, {rows * top_k, n}), shared(rng_, plain, {rows, n});
          pairs.Randomize(rng_);
          shared.Randomize(rng_);
          Plane<float, 2> weights(rng_, {rows, top_k});
          weights.ForEach([&](float& v) { v = std::uniform_real_distribution<float>(0, 1)(rng_); });
          const Tensor<2> out(rng_, plain, {rows, n});
          CombineExpertsArgs args{pairs.In(), weights.view, {}, out.Out()};
          if (with_shared) args.shared = shared.In();
          CombineExperts(Machine(backend()).context(), args);
          const std::vector<double> ps = pairs.Values();
          std::vector<double> expected = with_shared ? shared.Values() : std::vector<double>(rows * n);
          for (int64_t p = 0; p < rows * top_k; ++p) {
            for (int64_t i = 0; i < n; ++i) {
              expected[p / top_k * n + i] += static_cast<double>(weights.view(p / top_k, p % top_k)) * ps[p * n + i];
            }
          }
          ASSERT_TRUE(Close(expected, out.Values(), backend().For(plain)));
          ASSERT_TRUE(out.UntouchedOutside());
        }
      }
    }
  }
}

MXMLA_INSTANTIATE_BACKENDS(MoeTest);

}  // namespace
}  // namespace mxmla::test
