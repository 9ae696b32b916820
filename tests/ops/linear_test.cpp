#include "harness.h"

namespace mxmla::test {
namespace {

using LinearTest = BackendTest;

template <class M>
void RunLinear(M&& machine, const LinearArgs& args) {
  machine.Run([&](const ExecContext& context) { Linear(context, args); });
}
template <class M>
void RunGroupedLinear(M&& machine, const GroupedLinearArgs& args) {
  machine.Run([&](const ExecContext& context) { GroupedLinear(context, args); });
}

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
          Machine machine(backend());
          RunLinear(machine, {x.AnyIn(), w.View(), out.Out()});
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
      RunLinear(Machine(backend(), 1), {x.AnyIn(), w.View(), out.Out()});
      for (int threads : {2, 3}) {
        const Tensor<2> again(rng_, backend().plain(), {rows, n});
        RunLinear(Machine(backend(), threads), {x.AnyIn(), w.View(), again.Out()});
        ASSERT_EQ(out.Bits(), again.Bits()) << threads << " threads";
      }
      const Tensor<2> alone(rng_, backend().plain(), {rows, n});
      Machine machine(backend());
      for (int64_t r = 0; r < rows;) {
        const int64_t count = std::min<int64_t>(rows - r, r < 8 ? 1 : 5);
        const auto row_in = std::visit([&](const auto& v) -> Activation<2> { return v.Rows(r, count); }, x.AnyIn());
        const auto row_out = std::visit([&](const auto& v) -> FloatOutput<2> { return v.Rows(r, count); }, alone.Out());
        RunLinear(machine, {row_in, w.View(), row_out});
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
          Machine machine(backend());
          RunGroupedLinear(machine, {x.AnyIn(), pairs_per_row, weights,
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

Activation<2> RowsOf(const Activation<2>& x, int64_t begin, int64_t count) {
  return std::visit([&](const auto& v) -> Activation<2> { return v.Rows(begin, count); }, x);
}
FloatOutput<2> RowsOf(const FloatOutput<2>& x, int64_t begin, int64_t count) {
  return std::visit([&](const auto& v) -> FloatOutput<2> { return v.Rows(begin, count); }, x);
}

// Rows of prompts may be summed in an order of their own, which depends on nothing beside them either.
TEST_P(LinearTest, PromptRowsDependOnNeitherRowsNorThreads) {
  MXMLA_NEEDS(linear);
  const int64_t rows = 170, n = 135, k = 1440, first = 19;
  for (Format x_format : {backend().plain(), Format::kMxfp4}) {
    for (Format w_format : kFormats) {
      SCOPED_TRACE(testing::Message() << Name(x_format) << " * " << Name(w_format));
      Tensor<2> x(rng_, x_format, {rows, k});
      x.Randomize(rng_);
      const Weight w(rng_, w_format, n, k);
      const Tensor<2> decoded(rng_, backend().plain(), {rows, n}), prompts(rng_, backend().plain(), {rows, n});
      RunLinear(Machine(backend(), 1), {x.AnyIn(), w.View(), decoded.Out()});
      RunLinear(Machine(backend(), 1), {x.AnyIn(), w.View(), prompts.Out(), 0});
      ASSERT_TRUE(Close(Product(x.Values(), w.Values(), k), prompts.Values(), backend().For(backend().plain())));
      ASSERT_TRUE(prompts.UntouchedOutside());
      const Tensor<2> expected(rng_, backend().plain(), {rows, n}), mixed(rng_, backend().plain(), {rows, n});
      RunLinear(Machine(backend(), 2), {x.AnyIn(), w.View(), mixed.Out(), first});
      for (int64_t r = 0; r < rows;) {
        const int64_t count = std::min<int64_t>(r < first ? first - r : rows - r, 1 + r % 18);
        RunLinear(Machine(backend(), 3), {RowsOf(x.AnyIn(), r, count), w.View(), RowsOf(expected.Out(), r, count),
                                          r < first ? kNoPrompts : 0});
        r += count;
      }
      ASSERT_EQ(expected.Bits(), mixed.Bits());
      ASSERT_TRUE(mixed.UntouchedOutside());
      const std::vector<double> all = mixed.Values(), of_decoded = decoded.Values(), of_prompts = prompts.Values();
      for (int64_t i = 0; i < rows * n; ++i) ASSERT_EQ(all[i], (i < first * n ? of_decoded : of_prompts)[i]) << i;
    }
  }
}

// Widths that end within a vector, a pair, a group of scales and a stretch.
TEST_P(LinearTest, PromptRowsOfAnyWidth) {
  MXMLA_NEEDS(linear);
  for (int64_t k : {1, 7, 33, 131, 515, 1027}) {
    for (Format w_format : {Format::kF32, Format::kBf16, Format::kFp8}) {
      SCOPED_TRACE(testing::Message() << k << " of " << Name(w_format));
      const int64_t rows = 11, n = 37;
      Tensor<2> x(rng_, backend().plain(), {rows, k});
      x.Randomize(rng_);
      const Weight w(rng_, w_format, n, k);
      const Tensor<2> out(rng_, Format::kF32, {rows, n});
      RunLinear(Machine(backend()), {x.AnyIn(), w.View(), out.Out(), 0});
      ASSERT_TRUE(Close(Product(x.Values(), w.Values(), k), out.Values(), backend().For(backend().plain())));
      ASSERT_TRUE(out.UntouchedOutside());
    }
  }
}

TEST_P(LinearTest, GroupedPromptRowsAreThoseOfTheirExpertAlone) {
  MXMLA_NEEDS(grouped_linear);
  const int64_t experts = 3, n = 72, k = 288, rows = 61, top = 2, first = 20;
  for (int64_t pairs_per_row : {int64_t{1}, top}) {
    for (Format w_format : kFormats) {
      SCOPED_TRACE(testing::Message() << pairs_per_row << " pairs a row, " << Name(w_format));
      const int64_t pairs = rows * pairs_per_row;
      Tensor<2> x(rng_, backend().plain(), {rows, k});
      x.Randomize(rng_);
      const Weight all(rng_, w_format, experts * 128, k);
      std::vector<LinearWeight> weights;
      for (int64_t e = 0; e < experts; ++e) weights.push_back(Rows(all.View(), e * 128, n));
      OperandVector<int32_t> begin{0}, order;
      for (int32_t e = 0; e < experts; ++e) {
        for (int64_t p = 0; p < pairs; ++p) {
          if ((p * 7 / 5) % experts == e) order.push_back(static_cast<int32_t>(p));
        }
        begin.push_back(static_cast<int32_t>(order.size()));
      }
      const Tensor<2> out(rng_, backend().plain(), {pairs, n}), expected(rng_, backend().plain(), {pairs, n});
      RunGroupedLinear(
          Machine(backend()),
          {x.AnyIn(), pairs_per_row, weights, View<const int32_t, 1>::Contiguous(begin.data(), {experts + 1}),
           View<const int32_t, 1>::Contiguous(order.data(), {pairs}), out.Out(), std::nullopt, nullptr, first});
      for (int64_t p = 0; p < pairs; ++p) {
        RunLinear(Machine(backend(), 1), {RowsOf(x.AnyIn(), p / pairs_per_row, 1), weights[p * 7 / 5 % experts],
                                          RowsOf(expected.Out(), p, 1), p / pairs_per_row < first ? kNoPrompts : 0});
      }
      ASSERT_EQ(expected.Bits(), out.Bits());
      ASSERT_TRUE(out.UntouchedOutside());
    }
  }
}

// Experts of several formats in one op, some of which read the rows quantised.
TEST_P(LinearTest, GroupedExpertsOfSeveralFormatsAreThoseAlone) {
  MXMLA_NEEDS(grouped_linear);
  const int64_t n = 72, k = 288, rows = 41, top = 2, pairs = rows * top, first = 15;
  for (Format quantized : {backend().plain(), Format::kFp8, Format::kMxfp4}) {
    SCOPED_TRACE(testing::Message() << "quantised weights read " << Name(quantized));
    Tensor<2> x(rng_, backend().plain(), {rows, k}), x_quantized(rng_, quantized, {rows, k});
    x.Randomize(rng_);
    x_quantized.Randomize(rng_);
    // Two experts of each format, whose strides agree.
    std::vector<std::unique_ptr<Weight>> of_format;
    for (Format format : kFormats) of_format.push_back(std::make_unique<Weight>(rng_, format, 256, k));
    std::vector<LinearWeight> weights;
    for (int64_t half : {0, 128}) {
      for (const auto& both : of_format) weights.push_back(Rows(both->View(), half, n));
    }
    const auto experts = static_cast<int64_t>(weights.size());
    OperandVector<int32_t> begin{0}, order;
    for (int64_t e = 0; e < experts; ++e) {
      for (int64_t p = 0; p < pairs; ++p) {
        if (p * 5 / 3 % experts == e) order.push_back(static_cast<int32_t>(p));
      }
      begin.push_back(static_cast<int32_t>(order.size()));
    }
    const auto expert_begin = View<const int32_t, 1>::Contiguous(begin.data(), {experts + 1});
    const NextWeights next(weights, expert_begin);
    const Tensor<2> out(rng_, backend().plain(), {pairs, n}), expected(rng_, backend().plain(), {pairs, n});
    const GroupedLinearArgs args{x.AnyIn(),
                                 top,
                                 weights,
                                 expert_begin,
                                 View<const int32_t, 1>::Contiguous(order.data(), {pairs}),
                                 out.Out(),
                                 x_quantized.AnyIn(),
                                 nullptr,
                                 first,
                                 &next};
    RunGroupedLinear(Machine(backend(), 3), args);
    for (int64_t p = 0; p < pairs; ++p) {
      const LinearWeight& weight = weights[p * 5 / 3 % experts];
      RunLinear(Machine(backend(), 1), {RowsOf(args.InputOf(weight), p / top, 1), weight, RowsOf(expected.Out(), p, 1),
                                        p / top < first ? kNoPrompts : 0});
    }
    ASSERT_EQ(expected.Bits(), out.Bits());
    ASSERT_TRUE(out.UntouchedOutside());
  }
}

// Whatever form a kernel brings activations into, an error is at most what float32 sums make of the products, and 2^-23
// of a block's largest activation for each of its 32.
TEST_P(LinearTest, Mxfp4ProductsKeepTheirBound) {
  MXMLA_NEEDS(linear);
  const int64_t rows = 6, n = 40, k = 2016;
  for (Format x_format : {Format::kF32, Format::kBf16}) {
    for (int64_t prompt_begin : {kNoPrompts, int64_t{0}}) {
      Tensor<2> x(rng_, x_format, {rows, k});
      x.Randomize(rng_);
      // Magnitudes from 1 down to 2^-30 within a block.
      const auto spread = [&](auto& element) {
        const auto v = static_cast<float>(std::ldexp(0.5 + Uniform(rng_, 0, 511) / 1024.0, -Uniform(rng_, 0, 30)));
        const float with_sign = Uniform(rng_, 0, 1) ? v : -v;
        if constexpr (std::is_same_v<std::decay_t<decltype(element)>, float>) {
          element = with_sign;
        } else {
          element = {static_cast<uint16_t>(std::bit_cast<uint32_t>(with_sign) >> 16)};
        }
      };
      if (x.f32) x.f32->ForEach(spread);
      if (x.half) x.half->ForEach(spread);
      const Weight w(rng_, Format::kMxfp4, n, k);
      const Tensor<2> out(rng_, Format::kF32, {rows, n});
      RunLinear(Machine(backend()), {x.AnyIn(), w.View(), out.Out(), prompt_begin});
      const std::vector<double> xs = x.Values(), ws = w.Values(), results = out.Values();
      for (int64_t r = 0; r < rows; ++r) {
        for (int64_t j = 0; j < n; ++j) {
          double sum = 0, magnitudes = 0, fixed = 0;
          for (int64_t b = 0; b < k; b += 32) {
            double largest = 0, weights = 0;
            for (int64_t i = b; i < b + 32; ++i) {
              const double product = xs[r * k + i] * ws[j * k + i];
              sum += product;
              magnitudes += std::abs(product);
              weights += std::abs(ws[j * k + i]);
              largest = std::max(largest, std::abs(xs[r * k + i]));
            }
            fixed += weights * largest * 0x1p-23 * 256 / 255;
          }
          const double bound = magnitudes * (static_cast<double>(k) + 8) * 0x1p-24 + fixed;
          ASSERT_LE(std::abs(results[r * n + j] - sum), bound) << r << " " << j << " seed " << Seed();
        }
      }
    }
  }
}

TEST_P(LinearTest, Mxfp4ProductsPassNanAndInfinityOn) {
  MXMLA_NEEDS(linear);
  const int64_t rows = 7, n = 9, k = 160;
  for (const uint16_t poison : {0x7fc0, 0xffc0, 0x7f80, 0xff80}) {
    for (int64_t prompt_begin : {kNoPrompts, int64_t{0}}) {
      Tensor<2> x(rng_, Format::kBf16, {rows, k});
      x.Randomize(rng_);
      x.half->view(2, 37) = {poison};
      x.half->view(5, 159) = {poison};
      Weight w(rng_, Format::kMxfp4, n, k);
      const Tensor<2> out(rng_, Format::kF32, {rows, n});
      RunLinear(Machine(backend()), {x.AnyIn(), w.View(), out.Out(), prompt_begin});
      const std::vector<double> results = out.Values(), ws = w.Values();
      for (int64_t r = 0; r < rows; ++r) {
        for (int64_t j = 0; j < n; ++j) {
          SCOPED_TRACE(testing::Message() << "row " << r << " column " << j << " poison " << poison);
          ASSERT_EQ(std::isfinite(results[r * n + j]), r != 2 && r != 5);
        }
      }
    }
  }
}

MXMLA_INSTANTIATE_BACKENDS(LinearTest);

}  // namespace
}  // namespace mxmla::test
