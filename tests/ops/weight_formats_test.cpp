// Products with weights of every format against the same products with the dequantised weights in float32: a kernel
// that decodes exactly and sums in its one order gives the same bits. What the values are, tests/formats says.
#include <functional>

#include "harness.h"
#include "ops/attention.h"
#include "ops/embedding.h"
#include "ops/head_product.h"
#include "ops/linear.h"

namespace mxmla::test {
namespace {

// A random matrix (n, k) and its values.
struct Coded {
  LinearWeight weight;
  OperandVector<uint8_t> values;
  OperandVector<float> scales;  // memory of scales of any type
  OperandVector<float> dequantized;

  LinearWeight Plain() const {
    return View<const float, 2>::Contiguous(dequantized.data(), {RowCount(weight), ColumnCount(weight)});
  }
};

uint8_t Byte(Rng& rng) { return static_cast<uint8_t>(Uniform(rng, 0, 255)); }
// A half between 2^-9 and 2^-6.
f16 SmallHalf(Rng& rng) { return {static_cast<uint16_t>(Uniform(rng, 6 << 10, 9 << 10))}; }
uint8_t E4m3Code(Rng& rng) { return static_cast<uint8_t>(Uniform(rng, 0, 1) * 128 + Uniform(rng, 0, 0x7e)); }

template <class T>
T* Room(OperandVector<uint8_t>& memory, int64_t count) {
  memory.resize(static_cast<size_t>(count) * sizeof(T));
  return reinterpret_cast<T*>(memory.data());
}
template <class T>
T* Room(OperandVector<float>& memory, int64_t count) {
  memory.resize((static_cast<size_t>(count) * sizeof(T) + 3) / 4);
  return reinterpret_cast<T*>(memory.data());
}

template <class Block, class Fill>
void MakeBlocks(Rng& rng, int64_t n, int64_t k, const Fill& fill, Coded* coded) {
  const int64_t blocks = n * k / Block::kElements;
  Block* data = Room<Block>(coded->values, blocks);
  for (uint8_t& byte : coded->values) byte = Byte(rng);
  for (int64_t i = 0; i < blocks; ++i) fill(data[i]);
  coded->weight = GgmlMatrix<Block>{View<const Block, 2>::Contiguous(data, {n, k / Block::kElements})};
}

void MakeFp8(Rng& rng, int64_t n, int64_t k, bool channel, Coded* coded) {
  e4m3* values = Room<e4m3>(coded->values, n * k);
  for (int64_t i = 0; i < n * k; ++i) values[i] = {E4m3Code(rng)};
  coded->scales.resize(static_cast<size_t>(n));
  for (float& scale : coded->scales) scale = 0.001f * static_cast<float>(Uniform(rng, 1, 10));
  const auto view = View<const e4m3, 2>::Contiguous(values, {n, k});
  const int64_t columns = (k + 127) / 128;
  coded->weight = channel ? Fp8Block{view, {coded->scales.data(), {n, columns}, {1, 0}}, 0, 1}
                          : Fp8Block{view, {coded->scales.data(), {(n + 127) / 128, columns}, {0, 0}}};
}

struct Case {
  const char* name;
  int64_t unit;  // of k
  bool is_fp8;
  std::function<void(Rng&, int64_t n, int64_t k, Coded*)> make;
};

const std::vector<Case>& Cases() {
  static const std::vector<Case> cases = {
      {"fp8-channel", 1, true, [](Rng& rng, int64_t n, int64_t k, Coded* coded) { MakeFp8(rng, n, k, true, coded); }},
      {"fp8-tensor", 1, true, [](Rng& rng, int64_t n, int64_t k, Coded* coded) { MakeFp8(rng, n, k, false, coded); }},
      {"f16", 1, false,
       [](Rng& rng, int64_t n, int64_t k, Coded* coded) {
         f16* values = Room<f16>(coded->values, n * k);
         for (int64_t i = 0; i < n * k; ++i) {
           const int64_t sign = Uniform(rng, 0, 1) << 15;
           // Subnormals too.
           values[i] = {static_cast<uint16_t>(
               sign | (Uniform(rng, 0, 9) == 0 ? Uniform(rng, 0, 0x3ff) : Uniform(rng, 8 << 10, 16 << 10)))};
         }
         coded->weight = View<const f16, 2>::Contiguous(values, {n, k});
       }},
      {"mxfp8", 32, false,
       [](Rng& rng, int64_t n, int64_t k, Coded* coded) {
         e4m3* values = Room<e4m3>(coded->values, n * k);
         for (int64_t i = 0; i < n * k; ++i) values[i] = {E4m3Code(rng)};
         e8m0* scales = Room<e8m0>(coded->scales, n * k / 32);
         for (int64_t i = 0; i < n * k / 32; ++i) scales[i] = {static_cast<uint8_t>(Uniform(rng, 117, 121))};
         coded->weight = Mxfp8{View<const e4m3, 2>::Contiguous(values, {n, k}),
                               View<const e8m0, 2>::Contiguous(scales, {n, k / 32})};
       }},
      {"int4-g32", 32, false,
       [](Rng& rng, int64_t n, int64_t k, Coded* coded) {
         int4x2* values = Room<int4x2>(coded->values, n * k / 2);
         for (int64_t i = 0; i < n * k / 2; ++i) values[i] = {Byte(rng)};
         bf16* scales = Room<bf16>(coded->scales, n * k / 32);
         for (int64_t i = 0; i < n * k / 32; ++i) scales[i] = {static_cast<uint16_t>(Uniform(rng, 0x3c00, 0x3e00))};
         coded->weight = Int4Group{View<const int4x2, 2>::Contiguous(values, {n, k / 2}),
                                   View<const bf16, 2>::Contiguous(scales, {n, k / 32})};
       }},
      {"nvfp4", 16, false,
       [](Rng& rng, int64_t n, int64_t k, Coded* coded) {
         e2m1x2* values = Room<e2m1x2>(coded->values, n * k / 2);
         for (int64_t i = 0; i < n * k / 2; ++i) values[i] = {Byte(rng)};
         e4m3* scales = Room<e4m3>(coded->scales, n * k / 16);
         for (int64_t i = 0; i < n * k / 16; ++i) scales[i] = {static_cast<uint8_t>(Uniform(rng, 0x01, 0x7e))};
         const bool divides = Uniform(rng, 0, 1) != 0;
         coded->weight =
             Nvfp4{View<const e2m1x2, 2>::Contiguous(values, {n, k / 2}),
                   View<const e4m3, 2>::Contiguous(scales, {n, k / 16}), divides ? 2177.3f : 0.0003f, divides};
       }},
      {"q8_0", 32, false,
       [](Rng& rng, int64_t n, int64_t k, Coded* coded) {
         MakeBlocks<q8_0>(
             rng, n, k, [&](q8_0& block) { block.d = SmallHalf(rng); }, coded);
       }},
      {"q4_k", 256, false,
       [](Rng& rng, int64_t n, int64_t k, Coded* coded) {
         MakeBlocks<q4_k>(
             rng, n, k, [&](q4_k& block) { block.d = SmallHalf(rng), block.dmin = SmallHalf(rng); }, coded);
       }},
      {"q6_k", 256, false,
       [](Rng& rng, int64_t n, int64_t k, Coded* coded) {
         MakeBlocks<q6_k>(
             rng, n, k, [&](q6_k& block) { block.d = SmallHalf(rng); }, coded);
       }},
      {"ggml-mxfp4", 32, false,
       [](Rng& rng, int64_t n, int64_t k, Coded* coded) {
         MakeBlocks<ggml_mxfp4>(
             rng, n, k, [&](ggml_mxfp4& block) { block.scale = {static_cast<uint8_t>(Uniform(rng, 121, 127))}; },
             coded);
       }},
  };
  return cases;
}

class WeightFormatsTest : public BackendTest {
 protected:
  Coded Make(const Case& c, int64_t n, int64_t k) {
    Coded coded;
    c.make(rng_, n, k, &coded);
    EXPECT_EQ(FormatName(coded.weight), c.name);
    coded.dequantized.resize(static_cast<size_t>(n * k));
    for (int64_t r = 0; r < n; ++r) DequantizeRow(coded.weight, r, coded.dequantized.data() + r * k);
    return coded;
  }
  bool on_host() const { return backend().is_ref() || backend().kernels->backend == "cpu"; }
  // Some kernels sum products with FP8 weights in another order than those with float32.
  testing::AssertionResult Same(const Case& c, const Tensor<2>& found, const Tensor<2>& expected) const {
    return Compare(found, expected, c.is_fp8);
  }
  testing::AssertionResult Same(const Case& c, const Tensor<3>& found, const Tensor<3>& expected) const {
    return Compare(found, expected, c.is_fp8);
  }
  // Rows are rounded up so that every format's blocks fit.
  static int64_t Columns(const Case& c, int64_t k) { return (k + c.unit - 1) / c.unit * c.unit; }

 private:
  template <int Rank>
  testing::AssertionResult Compare(const Tensor<Rank>& found, const Tensor<Rank>& expected, bool is_fp8) const {
    // Some instruction sets multiply FP8 in bf16, in another order than float32.
    const bool multiplies_bf16 = backend().kernels->isa == "avx512bf16" || backend().kernels->isa == "amx";
    if (is_fp8 && (!on_host() || multiplies_bf16)) {
      Tolerance tolerance = backend().For(backend().plain());
      tolerance.relative *= 2;  // both are rounded
      return Close(expected.Values(), found.Values(), tolerance);
    }
    if (found.Bits() == expected.Bits()) return testing::AssertionSuccess();
    return testing::AssertionFailure() << "other bits than the dequantised weights give; MXMLA_TEST_SEED=" << Seed();
  }
};

TEST_P(WeightFormatsTest, Linear) {
  MXMLA_NEEDS(linear);
  for (const Case& c : Cases()) {
    for (int64_t k : {40, 512, 800}) {
      for (int64_t rows : {1, 3, 7, 20, 90}) {
        SCOPED_TRACE(testing::Message() << c.name << ", " << rows << " rows, k " << k);
        const int64_t n = 70;
        const Coded coded = Make(c, n, Columns(c, k));
        Tensor<2> x(rng_, backend().plain(), {rows, Columns(c, k)});
        x.Randomize(rng_);
        const Tensor<2> found(rng_, backend().plain(), {rows, n}), expected(rng_, backend().plain(), {rows, n});
        Machine machine(backend());
        machine.Run([&](const ExecContext& context) { Linear(context, {x.AnyIn(), coded.weight, found.Out()}); });
        machine.Run([&](const ExecContext& context) { Linear(context, {x.AnyIn(), coded.Plain(), expected.Out()}); });
        ASSERT_TRUE(Same(c, found, expected));
        ASSERT_TRUE(found.UntouchedOutside());
        // Rows from the middle on, which are a view.
        const Tensor<2> part(rng_, backend().plain(), {rows, 30}), part_expected(rng_, backend().plain(), {rows, 30});
        machine.Run([&](const ExecContext& context) {
          Linear(context, {x.AnyIn(), Rows(coded.weight, 33, 30), part.Out()});
        });
        machine.Run([&](const ExecContext& context) {
          Linear(context, {x.AnyIn(), Rows(coded.Plain(), 33, 30), part_expected.Out()});
        });
        ASSERT_TRUE(Same(c, part, part_expected));
      }
    }
  }
}

TEST_P(WeightFormatsTest, QuantisedActivations) {
  MXMLA_NEEDS(linear);
  for (const Case& c : Cases()) {
    for (Format x_format : {Format::kFp8, Format::kMxfp4}) {
      SCOPED_TRACE(testing::Message() << c.name << ", " << Name(x_format));
      const int64_t n = 20, rows = 5, k = Columns(c, 288);
      const Coded coded = Make(c, n, k);
      Tensor<2> x(rng_, x_format, {rows, k});
      x.Randomize(rng_);
      const Tensor<2> found(rng_, backend().plain(), {rows, n}), expected(rng_, backend().plain(), {rows, n});
      Machine machine(backend());
      machine.Run([&](const ExecContext& context) { Linear(context, {x.AnyIn(), coded.weight, found.Out()}); });
      machine.Run([&](const ExecContext& context) { Linear(context, {x.AnyIn(), coded.Plain(), expected.Out()}); });
      ASSERT_TRUE(Same(c, found, expected));
    }
  }
}

TEST_P(WeightFormatsTest, GroupedLinear) {
  MXMLA_NEEDS(grouped_linear);
  for (const Case& c : Cases()) {
    for (int64_t rows : {1, 30}) {
      SCOPED_TRACE(testing::Message() << c.name << ", " << rows << " rows");
      const int64_t experts = 3, n = 40, k = Columns(c, 96);
      const Coded all = Make(c, experts * n, k);
      std::vector<LinearWeight> weights, plain;
      for (int64_t e = 0; e < experts; ++e) {
        weights.push_back(Rows(all.weight, e * n, n));
        plain.push_back(Rows(all.Plain(), e * n, n));
      }
      Tensor<2> x(rng_, backend().plain(), {rows, k});
      x.Randomize(rng_);
      OperandVector<int32_t> begin{0}, pairs;
      for (int64_t e = 0; e < experts; ++e) {
        for (int64_t r = 0; r < rows; ++r) {
          if (r % experts == e) pairs.push_back(static_cast<int32_t>(r));
        }
        begin.push_back(static_cast<int32_t>(pairs.size()));
      }
      const Tensor<2> found(rng_, backend().plain(), {rows, n}), expected(rng_, backend().plain(), {rows, n});
      Machine machine(backend());
      const auto begins = View<const int32_t, 1>::Contiguous(begin.data(), {experts + 1});
      const auto order = View<const int32_t, 1>::Contiguous(pairs.data(), {rows});
      machine.Run([&](const ExecContext& context) {
        GroupedLinear(context, {x.AnyIn(), 1, weights, begins, order, found.Out()});
      });
      machine.Run([&](const ExecContext& context) {
        GroupedLinear(context, {x.AnyIn(), 1, plain, begins, order, expected.Out()});
      });
      ASSERT_TRUE(Same(c, found, expected));
      ASSERT_TRUE(found.UntouchedOutside());
    }
  }
}

TEST_P(WeightFormatsTest, HeadProducts) {
  MXMLA_NEEDS(query_absorb);
  MXMLA_NEEDS(value_project);
  for (const Case& c : Cases()) {
    for (int64_t rows : {1, 2, 11, 80}) {
      for (bool output_major : {false, true}) {
        SCOPED_TRACE(testing::Message() << c.name << ", " << rows << " rows, output major " << output_major);
        const int64_t heads = 2, v = 24;
        const int64_t nope = output_major ? Columns(c, 64) : 96;
        const int64_t lora = output_major ? 40 : Columns(c, 160);
        const int64_t stride = output_major ? lora : nope + v;
        const Coded coded = Make(c, heads * stride, output_major ? nope : lora);
        const HeadWeight kc{coded.weight, heads, stride, 0, output_major ? lora : nope};
        HeadWeight kc_plain = kc;
        kc_plain.tensor = coded.Plain();
        Tensor<3> q(rng_, backend().plain(), {rows, heads, nope});
        q.Randomize(rng_);
        Machine machine(backend());
        const Tensor<3> found(rng_, backend().plain(), {rows, heads, lora});
        const Tensor<3> expected(rng_, backend().plain(), {rows, heads, lora});
        machine.Run([&](const ExecContext& context) {
          QueryAbsorb(context, {q.AnyIn(), kc, output_major, found.Out()});
        });
        machine.Run([&](const ExecContext& context) {
          QueryAbsorb(context, {q.AnyIn(), kc_plain, output_major, expected.Out()});
        });
        ASSERT_TRUE(Same(c, found, expected));
        ASSERT_TRUE(found.UntouchedOutside());
        if (output_major) continue;
        HeadWeight vc = kc, vc_plain = kc_plain;
        vc.head_offset = vc_plain.head_offset = nope;
        vc.head_rows = vc_plain.head_rows = v;
        Tensor<3> attn(rng_, backend().plain(), {rows, heads, lora});
        attn.Randomize(rng_);
        const Tensor<3> projected(rng_, backend().plain(), {rows, heads, v});
        const Tensor<3> projected_plain(rng_, backend().plain(), {rows, heads, v});
        machine.Run([&](const ExecContext& context) {
          ValueProject(context, {attn.AnyIn(), vc, projected.Out(), ScaleMode::kEven});
        });
        machine.Run([&](const ExecContext& context) {
          ValueProject(context, {attn.AnyIn(), vc_plain, projected_plain.Out(), ScaleMode::kEven});
        });
        ASSERT_TRUE(Same(c, projected, projected_plain));
      }
    }
  }
}

TEST_P(WeightFormatsTest, EmbeddingOfQuantisedRows) {
  MXMLA_NEEDS(embedding);
  for (const Case& c : Cases()) {
    SCOPED_TRACE(c.name);
    const int64_t n = Columns(c, 600);
    const Coded table = Make(c, 9, n);
    OperandVector<int32_t> tokens = {3, 8, 0, 3};
    const auto ids = View<const int32_t, 1>::Contiguous(tokens.data(), {4});
    const Tensor<2> found(rng_, backend().plain(), {4, n}), expected(rng_, backend().plain(), {4, n});
    const Machine machine(backend());
    EmbeddingArgs args{ids, table.weight, found.Out()};
    args.scale = 1.5f;
    Embedding(machine.context(), args);
    args.table = table.Plain();
    args.out = expected.Out();
    Embedding(machine.context(), args);
    ASSERT_TRUE(Same(c, found, expected));
    ASSERT_TRUE(found.UntouchedOutside());
  }
}

MXMLA_INSTANTIATE_BACKENDS(WeightFormatsTest);

}  // namespace
}  // namespace mxmla::test
