// The V projection on the GPU against ref on the same bytes (managed memory: both read the very same views).
#include "cuda/value_project.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "core/thread_pool.h"
#include "ops/quantize_block.h"
#include "random_weights.h"
#include "ref/kernels.h"

namespace mxmla {
namespace {

using testing::Format;
using testing::kFormats;
using testing::ManagedMemory;

constexpr int64_t kLatent = 512;

class CudaValueProjectTest : public testing::GpuTest {};

struct Case {
  Case(std::mt19937_64& rng, Format format, int64_t row_count, int64_t head_count, int64_t nope, int64_t v_head_dim)
      : rows(row_count),
        heads(head_count),
        v(v_head_dim),
        x_memory(static_cast<size_t>(rows * (heads * (kLatent + 8) + 24) + 64) * 2),
        weight_memory(static_cast<size_t>(heads * (nope + v) * (kLatent + 16)) * 2 + 64),
        scale_memory(static_cast<size_t>(heads * (nope + v) * 32 + 1024)) {
    std::normal_distribution<float> normal(0, 1);
    // Rows of x and of the weights are padded, and the padding stays NaN.
    View<bf16, 3> x{x_memory.As<bf16>(16), {rows, heads, kLatent}, {heads * (kLatent + 8) + 24, kLatent + 8, 1}};
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t h = 0; h < heads; ++h) {
        for (int64_t k = 0; k < kLatent; ++k) x(r, h, k) = bf16::FromFloat(normal(rng));
      }
    }
    attn = x;
    const int64_t n = heads * (nope + v);
    const auto byte = [&](int low, int high) {
      return static_cast<uint8_t>(std::uniform_int_distribution<int>(low, high)(rng));
    };
    if (format == Format::kBf16) {
      View<bf16, 2> w{weight_memory.As<bf16>(32), {n, kLatent}, {kLatent + 8, 1}};
      for (int64_t i = 0; i < n; ++i) {
        for (int64_t k = 0; k < kLatent; ++k) w(i, k) = bf16::FromFloat(normal(rng) * 0.05f);
      }
      weight.tensor = View<const bf16, 2>(w);
    } else if (format == Format::kMxfp4) {
      View<e2m1x2, 2> w{weight_memory.As<e2m1x2>(16), {n, kLatent / 2}, {kLatent / 2 + 16, 1}};
      View<e8m0, 2> s{scale_memory.As<e8m0>(4), {n, kLatent / 32}, {kLatent / 32 + 4, 1}};
      for (int64_t i = 0; i < n; ++i) {
        for (int64_t k = 0; k < kLatent / 2; ++k) w(i, k) = {byte(0, 255)};
        for (int64_t k = 0; k < kLatent / 32; ++k) s(i, k) = {byte(118, 126)};
      }
      weight.tensor = Mxfp4<const e2m1x2, 2>{w, s};
    } else {
      // The view begins inside a square, as a slice of a larger tensor does.
      const int64_t first_row = 64, squares = (first_row + n + 127) / 128;
      View<e4m3, 2> w{weight_memory.As<e4m3>(16), {n, kLatent}, {kLatent + 16, 1}};
      View<float, 2> s{scale_memory.As<float>(4), {squares, 4}, {1, squares}};
      for (int64_t i = 0; i < n; ++i) {
        for (int64_t k = 0; k < kLatent; ++k) w(i, k) = {static_cast<uint8_t>(byte(0, 0x7e) | byte(0, 1) << 7)};
      }
      for (int64_t i = 0; i < squares; ++i) {
        for (int64_t k = 0; k < 4; ++k) s(i, k) = std::uniform_real_distribution<float>(1e-4f, 1e-3f)(rng);
      }
      weight.tensor = Fp8Block{w, s, first_row};
    }
    weight.heads = heads;
    weight.head_stride = nope + v;
    weight.head_offset = nope;
    weight.head_rows = v;
  }

  int64_t rows, heads, v;
  ManagedMemory x_memory, weight_memory, scale_memory;
  View<const bf16, 3> attn;
  HeadWeight weight;
};

void Project(const Case& c, decltype(ValueProjectArgs::out) out, bool programmatic = false,
             ScaleMode mode = ScaleMode::kEven) {
  ValueProjectArgs args;
  args.attn = c.attn;
  args.w_vc = c.weight;
  args.out = std::move(out);
  args.scale_mode = mode;
  cuda::ValueProject(args, {nullptr, programmatic});
  ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
}

// bf16 rows as (rows, heads, v), densely.
std::vector<bf16> Plain(const Case& c) {
  ManagedMemory out(static_cast<size_t>(c.rows * c.heads * c.v) * 2 + 2);
  Project(c, ActivationOutput<2>(View<bf16, 2>::Contiguous(out.As<bf16>(), {c.rows, c.heads * c.v})));
  return {out.As<bf16>(), out.As<bf16>() + c.rows * c.heads * c.v};
}

struct Size {
  int64_t rows, heads, nope, v;
};
constexpr Size kSizes[] = {{1, 1, 128, 128},   {1, 7, 128, 128},  {7, 3, 64, 64},
                           {8, 16, 128, 128},  {17, 5, 128, 256}, {33, 9, 128, 128},
                           {40, 70, 128, 128}, {65, 3, 128, 128}, {128, 66, 128, 128}};

TEST_F(CudaValueProjectTest, AgreesWithRefAndWritesNothingElse) {
  for (const Size& s : kSizes) {
    for (Format format : kFormats) {
      SCOPED_TRACE(::testing::Message() << "rows " << s.rows << " heads " << s.heads << " v " << s.v << " format "
                                        << static_cast<int>(format));
      const Case c(rng_, format, s.rows, s.heads, s.nope, s.v);
      // Token-major rows with gaps between heads and rows.
      const int64_t head_step = s.v + 4, row_step = s.heads * head_step + 12;
      ManagedMemory found(static_cast<size_t>(s.rows * row_step) * 2);
      const View<bf16, 3> out{found.As<bf16>(), {s.rows, s.heads, s.v}, {row_step, head_step, 1}};
      Project(c, FloatOutput<3>(out));

      std::vector<float> expected(static_cast<size_t>(s.rows * s.heads * s.v));
      ThreadPool pool(2);
      ExecContext context;
      context.pool = &pool;
      ValueProjectArgs args;
      args.attn = c.attn;
      args.w_vc = c.weight;
      args.out = FloatOutput<3>(View<float, 3>::Contiguous(expected.data(), {s.rows, s.heads, s.v}));
      ref::ValueProject(context, args);

      double squares = 0;
      for (float e : expected) squares += static_cast<double>(e) * e;
      const double rms = std::sqrt(squares / static_cast<double>(expected.size()));
      int64_t i = 0;
      for (int64_t r = 0; r < s.rows; ++r) {
        for (int64_t h = 0; h < s.heads; ++h) {
          for (int64_t j = 0; j < s.v; ++j, ++i) {
            const float e = expected[static_cast<size_t>(i)];
            ASSERT_NEAR(out(r, h, j).ToFloat(), e, 0.00391 * std::abs(e) + 2e-5 * rms) << r << " " << h << " " << j;
            out(r, h, j) = {0xffff};
          }
        }
      }
      for (uint8_t byte : found.Bytes()) ASSERT_EQ(byte, 0xff);
    }
  }
}

TEST_F(CudaValueProjectTest, QuantisedOutputsAreItsBf16OutputQuantised) {
  for (const Size& s : kSizes) {
    for (Format format : kFormats) {
      SCOPED_TRACE(::testing::Message() << "rows " << s.rows << " heads " << s.heads << " v " << s.v << " format "
                                        << static_cast<int>(format));
      const Case c(rng_, format, s.rows, s.heads, s.nope, s.v);
      const int64_t n = s.heads * s.v;
      const std::vector<bf16> plain = Plain(c);
      std::vector<float> row(static_cast<size_t>(n));
      const auto load = [&](int64_t r) {
        for (int64_t j = 0; j < n; ++j) row[static_cast<size_t>(j)] = plain[static_cast<size_t>(r * n + j)].ToFloat();
      };
      for (ScaleMode mode : {ScaleMode::kEven, ScaleMode::kFloor, ScaleMode::kCeil}) {
        ManagedMemory codes(static_cast<size_t>(s.rows * (n / 2 + 6))),
            scales(static_cast<size_t>(s.rows * (n / 32 + 3)));
        const Mxfp4<e2m1x2, 2> out{{codes.As<e2m1x2>(), {s.rows, n / 2}, {n / 2 + 6, 1}},
                                   {scales.As<e8m0>(), {s.rows, n / 32}, {n / 32 + 3, 1}}};
        Project(c, ActivationOutput<2>(out), false, mode);
        for (int64_t r = 0; r < s.rows; ++r) {
          load(r);
          for (int64_t b = 0; b < n / 32; ++b) {
            e2m1x2 expected[16];
            const e8m0 scale = QuantizeMxfp4Block(&row[static_cast<size_t>(b * 32)], mode, expected);
            ASSERT_EQ(out.scales(r, b).bits, scale.bits);
            out.scales(r, b) = {0xff};
            for (int64_t j = 0; j < 16; ++j) {
              ASSERT_EQ(out.values(r, b * 16 + j).bits, expected[j].bits);
              out.values(r, b * 16 + j) = {0xff};
            }
          }
        }
        for (uint8_t byte : codes.Bytes()) ASSERT_EQ(byte, 0xff);
        for (uint8_t byte : scales.Bytes()) ASSERT_EQ(byte, 0xff);
      }
      if (s.v % 128 != 0) continue;
      for (ScaleMode mode : {ScaleMode::kEven, ScaleMode::kCeil}) {
        ManagedMemory codes(static_cast<size_t>(s.rows * (n + 12))),
            scales(static_cast<size_t>((s.rows + 1) * n / 128 * 4));
        const Fp8Group<e4m3, 2> out{{codes.As<e4m3>(), {s.rows, n}, {n + 12, 1}},
                                    {scales.As<float>(), {s.rows, n / 128}, {1, s.rows + 1}}};  // column-major
        Project(c, ActivationOutput<2>(out), false, mode);
        for (int64_t r = 0; r < s.rows; ++r) {
          load(r);
          for (int64_t b = 0; b < n / 128; ++b) {
            e4m3 expected[128];
            const float scale = QuantizeFp8Group(&row[static_cast<size_t>(b * 128)], 128, mode, expected);
            ASSERT_EQ(std::bit_cast<uint32_t>(out.scales(r, b)), std::bit_cast<uint32_t>(scale));
            out.scales(r, b) = std::bit_cast<float>(0xffffffffu);
            for (int64_t j = 0; j < 128; ++j) {
              ASSERT_EQ(out.values(r, b * 128 + j).bits, expected[j].bits);
              out.values(r, b * 128 + j) = {0xff};
            }
          }
        }
        for (uint8_t byte : codes.Bytes()) ASSERT_EQ(byte, 0xff);
        for (uint8_t byte : scales.Bytes()) ASSERT_EQ(byte, 0xff);
      }
    }
  }
}

TEST_F(CudaValueProjectTest, ARowDoesNotDependOnItsBatch) {
  for (Format format : kFormats) {
    Case c(rng_, format, 128, 66, 128, 128);
    const std::vector<bf16> all = Plain(c);
    const int64_t n = 66 * 128;
    for (int64_t rows : {1, 8, 17, 64, 100}) {
      c.rows = rows;
      c.attn.shape[0] = rows;
      const std::vector<bf16> some = Plain(c);
      ASSERT_EQ(std::memcmp(some.data(), all.data(), static_cast<size_t>(rows * n) * 2), 0) << rows;
    }
  }
}

TEST_F(CudaValueProjectTest, ProgrammaticLaunchesGiveTheSame) {
  const Case c(rng_, Format::kMxfp4, 8, 16, 128, 128);
  const std::vector<bf16> plain = Plain(c);
  ManagedMemory out(8 * 16 * 128 * 2);
  for (int i = 0; i < 10; ++i) {
    Project(c, ActivationOutput<2>(View<bf16, 2>::Contiguous(out.As<bf16>(), {8, 16 * 128})), true);
  }
  ASSERT_EQ(std::memcmp(out.As<bf16>(), plain.data(), plain.size() * 2), 0);
}

TEST_F(CudaValueProjectTest, PoisonStaysVisibleInItsRow) {
  for (Format format : {Format::kMxfp4, Format::kFp8}) {
    const Case c(rng_, format, 3, 2, 128, 128);
    const int64_t bad = 128 + 5;  // row 5 of w_vc[0]
    if (const auto* w = std::get_if<Mxfp4<const e2m1x2, 2>>(&c.weight.tensor)) {
      const_cast<e8m0&>(w->scales(bad, 3)) = {e8m0::kNan};
    } else {
      const_cast<e4m3&>(std::get<Fp8Block>(c.weight.tensor).values(bad, 77)) = {0xff};
    }
    const std::vector<bf16> plain = Plain(c);
    for (int64_t i = 0; i < 3 * 256; ++i) {
      ASSERT_EQ(std::isnan(plain[static_cast<size_t>(i)].ToFloat()), i % 256 == 5) << i;
    }
  }
}

// Exact products: one weight of each code and scale against x = 1.
TEST_F(CudaValueProjectTest, EveryCodeIsExact) {
  for (Format format : {Format::kMxfp4, Format::kFp8}) {
    Case c(rng_, format, 1, 2, 128, 128);
    for (int64_t h = 0; h < 2; ++h) {
      for (int64_t k = 0; k < kLatent; ++k) const_cast<bf16&>(c.attn(0, h, k)) = bf16::FromFloat(k == 37 ? 1.0f : 0.0f);
    }
    std::vector<float> expected(256);
    for (int64_t i = 0; i < 256; ++i) {
      const int64_t row = i / 128 * 256 + 128 + i % 128;
      if (const auto* w = std::get_if<Mxfp4<const e2m1x2, 2>>(&c.weight.tensor)) {
        const e2m1x2 pair{static_cast<uint8_t>(i)};
        const_cast<e2m1x2&>(w->values(row, 18)) = pair;
        const e8m0 scale{static_cast<uint8_t>(i < 250 ? i : 1)};
        const_cast<e8m0&>(w->scales(row, 1)) = scale;
        expected[static_cast<size_t>(i)] = pair.High() * scale.ToFloat();
      } else {
        auto& w8 = std::get<Fp8Block>(c.weight.tensor);
        const e4m3 value{static_cast<uint8_t>((i & 0x7f) == 0x7f ? 0 : i)};
        const_cast<e4m3&>(w8.values(row, 37)) = value;
        const_cast<float&>(w8.scales((w8.first_row + row) / 128, 0)) = 0.5f;
        expected[static_cast<size_t>(i)] = value.ToFloat() * 0.5f;
      }
    }
    const std::vector<bf16> plain = Plain(c);
    for (size_t i = 0; i < 256; ++i) {
      // The sum is float32, whose subnormals the tensor core may flush.
      if (std::abs(expected[i]) < 0x1p-126f) continue;
      ASSERT_EQ(plain[i].ToFloat(), expected[i]) << i;
    }
  }
}

TEST_F(CudaValueProjectTest, EmptyBatchAndRefusals) {
  Case c(rng_, Format::kMxfp4, 2, 2, 128, 128);
  ManagedMemory out(4096);
  const auto refused = [&](decltype(ValueProjectArgs::out) to) {
    try {
      Project(c, std::move(to));
    } catch (const Error& error) {
      return error.code() == ErrorCode::kLayout;
    }
    return false;
  };
  EXPECT_TRUE(refused(ActivationOutput<2>(View<bf16, 2>{out.As<bf16>(), {2, 256}, {512, 2}})));
  EXPECT_TRUE(refused(ActivationOutput<2>(View<bf16, 2>{out.As<bf16>(2), {2, 256}, {256, 1}})));
  EXPECT_TRUE(refused(ActivationOutput<2>(View<float, 2>{out.As<float>(), {2, 256}, {256, 1}})));
  EXPECT_TRUE(refused(ActivationOutput<2>(View<bf16, 2>{out.As<bf16>(), {2, 128}, {256, 1}})));
  c.attn.stride[2] = 2;
  EXPECT_TRUE(refused(ActivationOutput<2>(View<bf16, 2>{out.As<bf16>(), {2, 256}, {256, 1}})));
  c.attn.stride[2] = 1;
  c.attn.shape[0] = 0;
  Project(c, ActivationOutput<2>(View<bf16, 2>{out.As<bf16>(), {0, 256}, {256, 1}}));
  for (uint8_t byte : out.Bytes()) ASSERT_EQ(byte, 0xff);
}

}  // namespace
}  // namespace mxmla
