// Ops that treat rows one by one: norm, quantise, copy, RoPE, SiLU, embedding.
#include "harness.h"

namespace mxmla::test {
namespace {

using RowsTest = BackendTest;
constexpr ScaleMode kModes[] = {ScaleMode::kEven, ScaleMode::kFloor, ScaleMode::kCeil};

// The bits of the rows `to` of a quantised output of `rows` rows: codes, then scales.
std::vector<uint8_t> BitsOfRows(const Tensor<2>& quantized, int64_t rows, const OperandVector<int64_t>& to) {
  std::vector<uint8_t> bits;
  const auto append = [&](const auto& plane) {
    if (!plane || rows == 0) return;
    const std::vector<uint8_t> all = plane->Bits();
    const auto size = static_cast<int64_t>(all.size()) / rows;
    for (const int64_t row : to) bits.insert(bits.end(), all.begin() + row * size, all.begin() + (row + 1) * size);
  };
  append(quantized.fp8), append(quantized.fp8_scales), append(quantized.fp4), append(quantized.fp4_scales);
  return bits;
}

TEST_P(RowsTest, RmsNormWithResidualIndicesAndQuantizedOutput) {
  const Format plain = backend().plain();
  for (int64_t n : {32, 96, 160, 512, 1536}) {
    for (int64_t rows : {0, 1, 3, 10}) {
      for (int variant = 0; variant < 16; ++variant) {
        const bool residual = variant & 1, row_index = variant & 2, out_index = variant & 4, scaled = variant & 8;
        for (Format q_format : {Format::kFp8, Format::kMxfp4}) {
          SCOPED_TRACE(testing::Message() << "n " << n << " rows " << rows << " variant " << variant);
          const int64_t x_rows = row_index ? rows + 3 : rows;
          Tensor<2> x(rng_, plain, {x_rows, n});
          x.Randomize(rng_, 3);
          Tensor<2> stream(rng_, Format::kF32, {x_rows, n});
          stream.Randomize(rng_);
          Plane<float, 1> weight(rng_, {n});
          weight.ForEach([&](float& v) { v = std::uniform_real_distribution<float>(0.5f, 1.5f)(rng_); });
          Plane<float, 1> row_scale(rng_, {rows});
          row_scale.ForEach([&](float& v) { v = std::uniform_real_distribution<float>(1, 3)(rng_); });
          OperandVector<int32_t> from(rows);
          OperandVector<int64_t> to(rows);
          for (int64_t r = 0; r < rows; ++r) {
            from[r] = static_cast<int32_t>(row_index ? x_rows - 1 - r / 2 : r);  // rows may repeat
            to[r] = out_index ? 2 * (rows - 1 - r) + 1 : r;
          }
          const Tensor<2> out(rng_, plain, {out_index ? 2 * rows : rows, n});
          const Tensor<2> quantized(rng_, q_format, {out_index ? 2 * rows : rows, n});
          const ScaleMode mode = kModes[Uniform(rng_, 0, 2)];
          const std::vector<double> values = x.Values();
          std::vector<double> sum(static_cast<size_t>(rows * n));
          const std::vector<double> before = stream.Values();
          RmsNormArgs args;
          args.x = x.In();
          if (residual) args.residual = stream.f32->view;
          if (row_index) args.row_index = View<const int32_t, 1>::Contiguous(from.data(), {rows});
          args.weight = weight.view;
          if (scaled) args.row_scale = row_scale.view;
          args.eps = 1e-6f;
          args.out = out.Out();
          if (out_index) args.out_index = View<const int64_t, 1>::Contiguous(to.data(), {rows});
          args.quantized = quantized.QuantizedOut();
          args.scale_mode = mode;
          RmsNorm(Machine(backend()).context(), args);
          ASSERT_TRUE(out.UntouchedOutside() && quantized.UntouchedOutside() && stream.UntouchedOutside());

          std::vector<double> stream_expected = before;
          std::vector<double> expected, found, found_rows;
          const std::vector<double> out_values = out.Values();
          for (int64_t r = 0; r < rows; ++r) {
            double squares = 0;
            for (int64_t i = 0; i < n; ++i) {
              double& v = sum[r * n + i];
              v = values[from[r] * n + i];
              if (residual) {
                v = static_cast<float>(v + before[from[r] * n + i]);
                if (!row_index) stream_expected[r * n + i] = v;
              }
              squares += v * v;
            }
            const double factor = scaled ? static_cast<double>(row_scale.view(r)) : 1.0;
            for (int64_t i = 0; i < n; ++i) {
              expected.push_back(factor * sum[r * n + i] / std::sqrt(squares / static_cast<double>(n) + 1e-6) *
                                 static_cast<double>(weight.view(i)));
              found.push_back(out_values[to[r] * n + i]);
            }
          }
          ASSERT_TRUE(Close(expected, found, backend().For(plain)));
          ASSERT_EQ(stream.Values(), stream_expected);  // a float32 sum is exact to the bit
          const int64_t out_rows = out_index ? 2 * rows : rows;
          ASSERT_EQ(BitsOfRows(quantized, out_rows, to), QuantizedBits(found, n, q_format, mode));
          if (out_index) {
            const Tensor<2> untouched(rng_, q_format, {out_rows, n});
            OperandVector<int64_t> others(rows);
            for (int64_t r = 0; r < rows; ++r) {
              ASSERT_TRUE(std::isnan(out_values[2 * r * n])) << "row not named";
              others[r] = 2 * r;
            }
            ASSERT_EQ(BitsOfRows(quantized, out_rows, others), BitsOfRows(untouched, out_rows, others));
          }
        }
      }
    }
  }
}

TEST_P(RowsTest, RmsNormDependsOnNeitherRowsNorThreads) {
  const Format plain = backend().plain();
  const int64_t rows = 13, n = 352;
  Tensor<2> x(rng_, plain, {rows, n});
  x.Randomize(rng_);
  Plane<float, 1> weight(rng_, {n});
  weight.ForEach([&](float& v) { v = std::normal_distribution<float>()(rng_); });
  const auto run = [&](int threads, int64_t step) {
    const Tensor<2> out(rng_, plain, {rows, n});
    const Machine machine(backend(), threads);
    for (int64_t r = 0; r < rows; r += step) {
      const int64_t count = std::min(step, rows - r);
      RmsNormArgs args;
      args.x = std::visit([&](const auto& v) -> FloatInput<2> { return v.Rows(r, count); }, x.In());
      args.weight = weight.view;
      args.eps = 1e-5f;
      args.out = std::visit([&](const auto& v) -> FloatOutput<2> { return v.Rows(r, count); }, out.Out());
      RmsNorm(machine.context(), args);
    }
    return out.Bits();
  };
  const auto whole = run(1, rows);
  EXPECT_EQ(whole, run(1, 1));
  EXPECT_EQ(whole, run(2, rows));
  EXPECT_EQ(whole, run(3, 4));
}

TEST_P(RowsTest, QuantizeAndFlattenQuantizeEveryBit) {
  for (Format in : {Format::kF32, Format::kBf16}) {
    for (int64_t rows : {0, 1, 9}) {
      for (int64_t heads : {1, 3, 5}) {
        for (int64_t n : {32, 64, 96, 128, 160, 416}) {
          for (ScaleMode mode : kModes) {
            for (Format format : {Format::kFp8, Format::kMxfp4}) {
              SCOPED_TRACE(testing::Message() << rows << " x " << heads << " x " << n << " " << Name(format));
              Tensor<3> x(rng_, in, {rows, heads, n}, backend().AnyLayout());
              x.Randomize(rng_, std::exp2(static_cast<double>(Uniform(rng_, -30, 30))));
              const Tensor<3> out(rng_, format, {rows, heads, n});
              const Tensor<2> flat(rng_, format, {rows, heads * n});
              const Machine machine(backend());
              Quantize(machine.context(), {x.In(), out.QuantizedOut(), mode});
              FlattenQuantize(machine.context(), {x.In(), flat.QuantizedOut(), mode});
              ASSERT_EQ(out.Bits(), QuantizedBits(x.Values(), n, format, mode));
              ASSERT_EQ(flat.Bits(), QuantizedBits(x.Values(), heads * n, format, mode));
              ASSERT_TRUE(out.UntouchedOutside() && flat.UntouchedOutside());
            }
          }
        }
      }
    }
  }
}

TEST_P(RowsTest, QuantizeKeepsPoisonVisible) {
  for (float poison : {std::nanf(""), INFINITY, -INFINITY}) {
    for (Format format : {Format::kFp8, Format::kMxfp4}) {
      Tensor<3> x(rng_, Format::kF32, {2, 1, 256});
      x.Randomize(rng_);
      x.f32->view(1, 0, 130) = poison;
      const Tensor<3> out(rng_, format, {2, 1, 256});
      Quantize(Machine(backend()).context(), {x.In(), out.QuantizedOut(), ScaleMode::kEven});
      if (format == Format::kMxfp4) {
        for (int64_t b = 0; b < 8; ++b) EXPECT_EQ(out.fp4_scales->view(1, 0, b).bits == 255, b == 4) << b;
      } else {
        EXPECT_FALSE(std::isnan(out.fp8_scales->view(1, 0, 0)));
        EXPECT_TRUE(std::isnan(out.fp8_scales->view(1, 0, 1)));
      }
    }
  }
}

TEST_P(RowsTest, CopyBetweenAnyStrides) {
  for (Format format : {Format::kF32, Format::kBf16}) {
    for (int round = 0; round < 10; ++round) {
      const std::array<int64_t, 3> shape{Uniform(rng_, 0, 5), Uniform(rng_, 1, 5), Uniform(rng_, 1, 70)};
      Tensor<3> x(rng_, format, shape, {true, 1});
      x.Randomize(rng_);
      const Tensor<3> out(rng_, format, shape, {true, 1});
      Profiler profiler;
      const Machine machine(backend());
      ExecContext context = machine.context();
      context.profiler = &profiler;
      Copy(context, {x.In(), out.Out()});
      ASSERT_EQ(x.Bits(), out.Bits());
      ASSERT_TRUE(out.UntouchedOutside());
      if (shape[0] > 0) {
        ASSERT_EQ(profiler.copies(), 1);
        ASSERT_EQ(profiler.copied_bytes(), static_cast<int64_t>(2 * x.Bits().size()));
      }
    }
  }
}

TEST_P(RowsTest, RopeIntoPlaceAndIntoRows) {
  const Format plain = backend().plain();
  for (bool interleaved : {true, false}) {
    for (bool out_index : {false, true}) {
      for (int64_t heads : {1, 3}) {
        for (int64_t n : {64, 32, 6}) {
          for (int64_t rows : {0, 1, 7}) {
            Tensor<3> x(rng_, plain, {rows, heads, n});
            x.Randomize(rng_);
            Plane<float, 2> cos(rng_, {rows, n / 2}), sin(rng_, {rows, n / 2});
            for (auto* plane : {&cos, &sin}) {
              plane->ForEach([&](float& v) { v = std::uniform_real_distribution<float>(-1, 1)(rng_); });
            }
            OperandVector<int64_t> to(rows);
            for (int64_t r = 0; r < rows; ++r) to[r] = out_index ? 2 * (rows - 1 - r) + 1 : r;
            const Tensor<3> out(rng_, plain, {out_index ? 2 * rows : rows, heads, n});
            RopeArgs args{x.In(), cos.view, sin.view, interleaved, out.Out(), {}};
            if (out_index) args.out_index = View<const int64_t, 1>::Contiguous(to.data(), {rows});
            Rope(Machine(backend()).context(), args);
            const std::vector<double> xs = x.Values(), found = out.Values();
            std::vector<double> expected(found.size(), std::nan("")), compared, wanted;
            for (int64_t r = 0; r < rows; ++r) {
              for (int64_t h = 0; h < heads; ++h) {
                for (int64_t i = 0; i < n / 2; ++i) {
                  const int64_t a = interleaved ? 2 * i : i, b = interleaved ? 2 * i + 1 : i + n / 2;
                  const double c = cos.view(r, i), s = sin.view(r, i);
                  const double va = xs[(r * heads + h) * n + a], vb = xs[(r * heads + h) * n + b];
                  expected[(to[r] * heads + h) * n + a] = va * c - vb * s;
                  expected[(to[r] * heads + h) * n + b] = vb * c + va * s;
                }
              }
            }
            for (size_t i = 0; i < expected.size(); ++i) {
              if (std::isnan(expected[i])) {
                ASSERT_TRUE(std::isnan(found[i])) << "a row that was not named is written";
              } else {
                wanted.push_back(expected[i]);
                compared.push_back(found[i]);
              }
            }
            ASSERT_TRUE(Close(wanted, compared, backend().For(plain)));
            ASSERT_TRUE(out.UntouchedOutside());
            if (!out_index) {
              args.out = x.Out();  // in place
              Rope(Machine(backend()).context(), args);
              ASSERT_EQ(x.Bits(), out.Bits());
              ASSERT_TRUE(x.UntouchedOutside());
            }
          }
        }
      }
    }
  }
}

TEST_P(RowsTest, SiluMulInEveryOutputFormat) {
  const Format plain = backend().plain();
  for (int64_t rows : {0, 1, 6}) {
    for (int64_t n : {32, 160, 416}) {
      Tensor<2> gate(rng_, plain, {rows, n}), up(rng_, plain, {rows, n});
      gate.Randomize(rng_, 6);
      up.Randomize(rng_, 2);
      const Machine machine(backend());
      const Tensor<2> out(rng_, plain, {rows, n});
      SiluMul(machine.context(), {gate.In(), up.In(), out.AnyOut(), ScaleMode::kEven});
      const std::vector<double> g = gate.Values(), u = up.Values();
      std::vector<double> expected;
      for (size_t i = 0; i < g.size(); ++i) expected.push_back(g[i] / (1 + std::exp(-g[i])) * u[i]);
      ASSERT_TRUE(Close(expected, out.Values(), backend().For(plain)));
      ASSERT_TRUE(out.UntouchedOutside());
      for (ScaleMode mode : kModes) {
        for (Format format : {Format::kFp8, Format::kMxfp4}) {
          const Tensor<2> quantized(rng_, format, {rows, n});
          SiluMul(machine.context(), {gate.In(), up.In(), quantized.AnyOut(), mode});
          ASSERT_EQ(quantized.Bits(), QuantizedBits(out.Values(), n, format, mode));
          ASSERT_TRUE(quantized.UntouchedOutside());
        }
      }
    }
  }
}

TEST_P(RowsTest, EmbeddingRowsAreExact) {
  const int64_t vocab = 37, hidden = 90;
  for (Format table_format : {Format::kF32, Format::kBf16}) {
    const Weight table(rng_, table_format, vocab, hidden);
    const std::vector<double> values = table.Values();
    for (int64_t rows : {0, 1, 12}) {
      OperandVector<int32_t> tokens(rows);
      for (int32_t& token : tokens) token = static_cast<int32_t>(Uniform(rng_, 0, vocab - 1));
      for (const float scale : {1.0f, 12.3f}) {
        const Tensor<2> out(rng_, backend().plain(), {rows, hidden});
        EmbeddingArgs args{View<const int32_t, 1>::Contiguous(tokens.data(), {rows}), table.View(), out.Out()};
        args.scale = scale;
        Embedding(Machine(backend()).context(), args);
        const std::vector<double> found = out.Values();
        for (int64_t i = 0; i < rows * hidden; ++i) {
          const float stored = scale * static_cast<float>(values[tokens[i / hidden] * hidden + i % hidden]);
          const float expected = out.half ? bf16::FromFloat(stored).ToFloat() : stored;
          ASSERT_EQ(found[i], static_cast<double>(expected)) << "element " << i;
        }
        ASSERT_TRUE(out.UntouchedOutside());
      }
    }
  }
}

TEST_P(RowsTest, EmbeddingReadsWhatTheLastStepSampled) {
  const int64_t vocab = 11, hidden = 72;
  const Weight table(rng_, Format::kBf16, vocab, hidden);
  const std::vector<double> values = table.Values();
  const OperandVector<int32_t> tokens{3, -1, -3, -2}, previous{7, -1, 0};  // -1: a row of NaN
  const Tensor<2> out(rng_, backend().plain(), {4, hidden});
  Embedding(Machine(backend()).context(), {View<const int32_t, 1>::Contiguous(tokens.data(), {4}), table.View(),
                                           out.Out(), View<const int32_t, 1>::Contiguous(previous.data(), {3})});
  const std::vector<double> found = out.Values();
  for (int64_t i = 0; i < 4 * hidden; ++i) {
    const int64_t token = std::array{3, 7, 0, -1}[i / hidden];
    ASSERT_EQ(found[i], token < 0 ? 0 : values[token * hidden + i % hidden]) << "element " << i;
  }
}

TEST_P(RowsTest, RmsNormOfLongRows) {
  for (int64_t n : {7168, 8192 + 32, 18432}) {
    for (const bool residual : {false, true}) {
      Tensor<2> x(rng_, backend().plain(), {3, n}), stream(rng_, Format::kF32, {3, n});
      x.Randomize(rng_);
      stream.Randomize(rng_);
      Plane<float, 1> weight(rng_, {n});
      weight.ForEach([&](float& v) { v = std::uniform_real_distribution<float>(0.5f, 1.5f)(rng_); });
      const Tensor<2> out(rng_, backend().plain(), {3, n}), quantized(rng_, Format::kFp8, {3, n});
      std::vector<double> v = x.Values(), expected;
      const std::vector<double> before = stream.Values();
      RmsNormArgs args;
      args.x = x.In();
      if (residual) args.residual = stream.f32->view;
      args.weight = weight.view;
      args.eps = 1e-6f;
      args.out = out.Out();
      args.quantized = quantized.QuantizedOut();
      RmsNorm(Machine(backend()).context(), args);
      for (int64_t r = 0; r < 3; ++r) {
        double squares = 0;
        for (int64_t i = r * n; i < (r + 1) * n; ++i) {
          if (residual) v[i] = static_cast<float>(v[i] + before[i]);
          squares += v[i] * v[i];
        }
        const double factor = 1 / std::sqrt(squares / static_cast<double>(n) + 1e-6);
        for (int64_t i = 0; i < n; ++i) {
          expected.push_back(v[r * n + i] * factor * static_cast<double>(weight.view(i)));
        }
      }
      ASSERT_TRUE(Close(expected, out.Values(), backend().For(backend().plain())));
      ASSERT_EQ(quantized.Bits(), QuantizedBits(out.Values(), n, Format::kFp8, ScaleMode::kEven));
      ASSERT_EQ(stream.Values(), residual ? v : before);
      ASSERT_TRUE(out.UntouchedOutside() && quantized.UntouchedOutside() && stream.UntouchedOutside());
    }
  }
}

// A row of an FP8 cache is one stretch of memory: the latent's codes and scales from the norm, the key from RoPE.
TEST_P(RowsTest, NormAndRopeWriteRowsOfAnFp8Cache) {
  const int64_t rank = 512, rope = 64, rows = 5;
  const int64_t bytes = 2 * 4 * Fp8KvRowStride(rank, rope);
  OperandVector<e4m3> memory(bytes, Canary<e4m3>());
  const Fp8Kv<e4m3, 3> pages = Fp8KvPages(memory.data(), 2, 4, rank, rope);
  const Fp8Group<e4m3, 2> latent{pages.latent.values.Flatten(0), pages.latent.scales.Flatten(0)};
  const OperandVector<int64_t> slots{6, 0, 3, 7, 4};
  Tensor<2> x(rng_, backend().plain(), {rows, rank});
  x.Randomize(rng_);
  Tensor<3> key(rng_, backend().plain(), {rows, 1, rope});
  key.Randomize(rng_);
  Plane<float, 1> weight(rng_, {rank});
  weight.ForEach([](float& v) { v = 1.25f; });
  Plane<float, 2> cos(rng_, {rows, rope / 2}), sin(rng_, {rows, rope / 2});
  for (auto* plane : {&cos, &sin}) {
    plane->ForEach([&](float& v) { v = std::uniform_real_distribution<float>(-1, 1)(rng_); });
  }
  const Tensor<2> plain(rng_, backend().plain(), {rows, rank});
  const Tensor<3> turned(rng_, Format::kBf16, {rows, 1, rope});
  const Machine machine(backend());
  RmsNormArgs norm;
  norm.x = x.In();
  norm.weight = weight.view;
  norm.out = plain.Out();
  RmsNorm(machine.context(), norm);
  norm.out.reset();
  norm.quantized = latent;
  norm.out_index = View<const int64_t, 1>::Contiguous(slots.data(), {rows});
  RmsNorm(machine.context(), norm);
  RopeArgs args{key.In(), cos.view, sin.view, true, turned.Out(), {}};
  Rope(machine.context(), args);
  args.out = pages.key.Flatten(0).Split(1, 1, rope);
  args.out_index = norm.out_index;
  Rope(machine.context(), args);
  const std::vector<uint8_t> bits = QuantizedBits(plain.Values(), rank, Format::kFp8, ScaleMode::kEven);
  for (int64_t r = 0; r < rows; ++r) {
    const e4m3* row = memory.data() + slots[r] * Fp8KvRowStride(rank, rope);
    ASSERT_EQ(std::memcmp(row, &bits[r * rank], rank), 0) << "codes of row " << r;
    ASSERT_EQ(std::memcmp(row + rank, &bits[rows * rank + r * 16], 16), 0) << "scales of row " << r;
    ASSERT_EQ(std::memcmp(row + rank + 16, turned.Bits().data() + r * 2 * rope, 2 * rope), 0) << "key of row " << r;
  }
  for (const int64_t slot : {1, 2, 5}) {
    for (int64_t i = 0; i < Fp8KvRowStride(rank, rope); ++i) {
      ASSERT_EQ(memory[slot * Fp8KvRowStride(rank, rope) + i].bits, 0xff) << "a slot that was not named";
    }
  }
}

TEST_P(RowsTest, RopeAnglesAreThoseOfFloat32) {
  for (int64_t rows : {0, 1, 9}) {
    for (int64_t pairs : {1, 32}) {
      Plane<int32_t, 1> positions(rng_, {rows});
      positions.ForEach([&](int32_t& v) { v = static_cast<int32_t>(Uniform(rng_, 0, 163840)); });
      Plane<float, 1> frequencies(rng_, {pairs});
      frequencies.ForEach([&](float& v) { v = std::exp(std::uniform_real_distribution<float>(-9, 0)(rng_)); });
      const Plane<float, 2> cos(rng_, {rows, pairs}), sin(rng_, {rows, pairs});
      RopeAngles(Machine(backend()).context(), {positions.view, frequencies.view, 1.5f, cos.view, sin.view});
      for (int64_t r = 0; r < rows; ++r) {
        for (int64_t i = 0; i < pairs; ++i) {
          const double angle = static_cast<float>(positions.view(r)) * frequencies.view(i);
          ASSERT_NEAR(cos.view(r, i), 1.5 * std::cos(angle), 3e-7);
          ASSERT_NEAR(sin.view(r, i), 1.5 * std::sin(angle), 3e-7);
        }
      }
      ASSERT_TRUE(cos.UntouchedOutside() && sin.UntouchedOutside());
    }
  }
}

MXMLA_INSTANTIATE_BACKENDS(RowsTest);

}  // namespace
}  // namespace mxmla::test
