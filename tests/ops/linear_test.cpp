#include "harness.h"

namespace mxmla::test {
namespace {

using LinearTest = BackendTest;

std::vector<double> Product(const std::vector<double>& x, const std::vector<double>& w, int64_t k) {
  std::vector<double> out;
  for (size_t r = 0; r < x.size(); r += k) {
    for (size_t j = 0; j < w.size(); j += k) {
      double sum = 0;
      for (int64_t i = 0; i < k; ++i) sum += x[r + i] * w[j + i];
      out.push_back(sum);
    }
  }
  return out;
}

TEST_P(LinearTest, EveryFormatAgainstFloat64) {
  MXMLA_NEEDS(linear);
  struct Size {
    int64_t rows, n, k;
  };
  for (const Size size : {Size{1, 5, 32}, {1, 130, 288}, {3, 33, 160}, {9, 300, 416}, {17, 64, 1056}, {0, 8, 64}}) {
    for (Format x_format : kFormats) {
      for (Format w_format : kFormats) {
        for (Format out_format : {Format::kF32, Format::kBf16}) {
          SCOPED_TRACE(testing::Message() << size.rows << " x " << size.n << " x " << size.k << " " << Name(x_format)
                                          << " * " << Name(w_format) << " -> " << Name(out_format));
          Tensor<2> x(rng_, x_format, {size.rows, size.k});
          x.Randomize(rng_);
          const Weight w(rng_, w_format, size.n, size.k);
          const Tensor<2> out(rng_, out_format, {size.rows, size.n});
          const Machine machine(backend());
          Linear(machine.context(), {x.AnyIn(), w.View(), out.Out()});
          ASSERT_TRUE(Close(Product(x.Values(), w.Values(), size.k), out.Values(), backend().For(out_format)));
          ASSERT_TRUE(out.UntouchedOutside());
        }
      }
    }
  }
}

TEST_P(LinearTest, ResultsDependOnNeitherRowsNorThreads) {
  MXMLA_NEEDS(linear);
  const int64_t rows = 21, n = 70, k = 352;
  for (Format x_format : {backend().plain(), Format::kFp8, Format::kMxfp4}) {
    for (Format w_format : kFormats) {
      SCOPED_TRACE(testing::Message() << Name(x_format) << " * " << Name(w_format));
      Tensor<2> x(rng_, x_format, {rows, k});
      x.Randomize(rng_);
      const Weight w(rng_, w_format, n, k);
      const Tensor<2> out(rng_, backend().plain(), {rows, n});
      Linear(Machine(backend(), 1).context(), {x.AnyIn(), w.View(), out.Out()});
      for (int threads : {2, 3}) {
        const Tensor<2> again(rng_, backend().plain(), {rows, n});
        Linear(Machine(backend(), threads).context(), {x.AnyIn(), w.View(), again.Out()});
        ASSERT_EQ(out.Bits(), again.Bits()) << threads << " threads";
      }
      const Tensor<2> alone(rng_, backend().plain(), {rows, n});
      const Machine machine(backend());
      for (int64_t r = 0; r < rows;) {
        const int64_t count = std::min<int64_t>(rows - r, r < 8 ? 1 : 5);
        const auto row_in = std::visit([&](const auto& v) -> Activation<2> { return v.Rows(r, count); }, x.AnyIn());
        const auto row_out = std::visit([&](const auto& v) -> FloatOutput<2> { return v.Rows(r, count); }, alone.Out());
        Linear(machine.context(), {row_in, w.View(), row_out});
        r += count;
      }
      ASSERT_EQ(out.Bits(), alone.Bits());
    }
  }
}

TEST_P(LinearTest, GroupedReadsOnlyTheChosenExperts) {
  MXMLA_NEEDS(grouped_linear);
  const int64_t experts = 5, n = 40, k = 96;
  for (int64_t rows : {1, 7, 40}) {
    for (int64_t pairs_per_row : {1, 3}) {
      for (Format x_format : kFormats) {
        for (Format w_format : kFormats) {
          SCOPED_TRACE(testing::Message() << rows << " rows, " << Name(x_format) << " * " << Name(w_format));
          const int64_t pairs = rows * pairs_per_row;
          Tensor<2> x(rng_, x_format, {rows, k});
          x.Randomize(rng_);
          // All experts lie in one tensor, so that their strides agree; expert 2 gets no pairs.
          const Weight all(rng_, w_format, experts * 128, k);
          std::vector<LinearWeight> weights;
          for (int64_t e = 0; e < experts; ++e) weights.push_back(Rows(all.View(), e * 128, n));
          std::vector<int32_t> expert_of(pairs);
          for (int32_t& e : expert_of) e = static_cast<int32_t>(std::array{0, 1, 3, 4}[Uniform(rng_, 0, 3)]);
          OperandVector<int32_t> begin{0}, order;
          for (int32_t e = 0; e < experts; ++e) {
            for (int64_t p = 0; p < pairs; ++p) {
              if (expert_of[p] == e) order.push_back(static_cast<int32_t>(p));
            }
            begin.push_back(static_cast<int32_t>(order.size()));
          }
          const Tensor<2> out(rng_, backend().plain(), {pairs, n});
          const Machine machine(backend());
          GroupedLinear(machine.context(), {x.AnyIn(), pairs_per_row, weights,
                                            View<const int32_t, 1>::Contiguous(begin.data(), {experts + 1}),
                                            View<const int32_t, 1>::Contiguous(order.data(), {pairs}), out.Out()});
          const std::vector<double> xs = x.Values(), ws = all.Values();
          std::vector<double> expected;
          for (int64_t p = 0; p < pairs; ++p) {
            for (int64_t j = 0; j < n; ++j) {
              double sum = 0;
              for (int64_t i = 0; i < k; ++i) {
                sum += xs[p / pairs_per_row * k + i] * ws[(expert_of[p] * 128 + j) * k + i];
              }
              expected.push_back(sum);
            }
          }
          ASSERT_TRUE(Close(expected, out.Values(), backend().For(backend().plain())));
          ASSERT_TRUE(out.UntouchedOutside());
        }
      }
    }
  }
}

MXMLA_INSTANTIATE_BACKENDS(LinearTest);

}  // namespace
}  // namespace mxmla::test
