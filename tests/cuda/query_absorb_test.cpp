// The query's move into the latent space on the GPU against ref on the same bytes.
#include "cuda/query_absorb.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "core/thread_pool.h"
#include "random_weights.h"
#include "ref/kernels.h"

namespace mxmla {
namespace {

using testing::Format;
using testing::kFormats;
using testing::MappedMemory;
using testing::RandomWeight;

class CudaQueryAbsorbTest : public testing::GpuTest {};

struct Size {
  int64_t rows, heads, nope, v, latents;
};
constexpr Size kSizes[] = {{1, 1, 128, 128, 512},    {1, 16, 128, 128, 512}, {8, 3, 64, 64, 128},
                           {9, 5, 192, 128, 256},    {17, 2, 256, 64, 512},  {33, 70, 128, 128, 512},
                           {128, 16, 128, 128, 512}, {3, 2, 192, 256, 64}};

// Rows of the query hold q_nope and 8 columns more; heads of w_kc are v rows apart; all padding is NaN.
struct Case {
  Case(std::mt19937_64& rng, Format format, const Size& s)
      : size(s),
        weight(rng, format, s.heads * (s.nope + s.v), s.latents),
        memory(static_cast<size_t>(s.rows * (s.heads * (s.nope + 8) + 24)) * 2 + 64) {
    std::normal_distribution<float> normal(0, 1);
    View<bf16, 3> q{memory.As<bf16>(16), {s.rows, s.heads, s.nope}, {s.heads * (s.nope + 8) + 24, s.nope + 8, 1}};
    for (int64_t r = 0; r < s.rows; ++r) {
      for (int64_t h = 0; h < s.heads; ++h) {
        for (int64_t i = 0; i < s.nope; ++i) q(r, h, i) = bf16::FromFloat(normal(rng));
      }
    }
    args.q_nope = View<const bf16, 3>(q);
    args.w_kc = {weight.weight, s.heads, s.nope + s.v, 0, s.nope};
  }

  // Writes into columns 0 .. latents of rows of latents + 64, as the query of attention lies.
  template <class T>
  View<T, 3> Run(const MappedMemory& found, bool programmatic = false) {
    const View<T, 3> out{found.As<T>(), {size.rows, size.heads, size.latents}, OutStrides()};
    args.out = FloatOutput<3>(out);
    cuda::QueryAbsorb(args, {nullptr, programmatic});
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    return out;
  }
  std::array<int64_t, 3> OutStrides() const { return {size.heads * (size.latents + 64) + 16, size.latents + 64, 1}; }
  size_t OutBytes(size_t element) const { return static_cast<size_t>(size.rows * OutStrides()[0]) * element; }

  Size size;
  RandomWeight weight;
  MappedMemory memory;
  QueryAbsorbArgs args;
};

TEST_F(CudaQueryAbsorbTest, AgreesWithRefAndWritesNothingElse) {
  for (const Size& s : kSizes) {
    for (Format format : kFormats) {
      SCOPED_TRACE(::testing::Message() << "rows " << s.rows << " heads " << s.heads << " nope " << s.nope
                                        << " latents " << s.latents << " format " << static_cast<int>(format));
      Case c(rng_, format, s);
      const MappedMemory found(c.OutBytes(2)), found_float(c.OutBytes(4));
      const View<bf16, 3> out = c.Run<bf16>(found);
      const View<float, 3> out_float = c.Run<float>(found_float);

      std::vector<float> expected(static_cast<size_t>(s.rows * s.heads * s.latents));
      ThreadPool pool(4);
      ExecContext context;
      context.pool = &pool;
      QueryAbsorbArgs args = c.args;
      args.out = FloatOutput<3>(View<float, 3>::Contiguous(expected.data(), {s.rows, s.heads, s.latents}));
      ref::QueryAbsorb(context, args);
      double squares = 0;
      for (float e : expected) squares += static_cast<double>(e) * e;
      const double rms = std::sqrt(squares / static_cast<double>(expected.size()));
      size_t i = 0;
      for (int64_t r = 0; r < s.rows; ++r) {
        for (int64_t h = 0; h < s.heads; ++h) {
          for (int64_t l = 0; l < s.latents; ++l, ++i) {
            ASSERT_NEAR(out_float(r, h, l), expected[i], 2e-5 * rms) << r << " " << h << " " << l;
            ASSERT_EQ(out(r, h, l).bits, bf16::FromFloat(out_float(r, h, l)).bits) << r << " " << h << " " << l;
            out(r, h, l) = {0xffff};
            out_float(r, h, l) = std::bit_cast<float>(0xffffffffu);
          }
        }
      }
      for (uint8_t byte : found.Bytes()) ASSERT_EQ(byte, 0xff);
      for (uint8_t byte : found_float.Bytes()) ASSERT_EQ(byte, 0xff);
    }
  }
}

TEST_F(CudaQueryAbsorbTest, ARowDoesNotDependOnItsBatch) {
  for (Format format : kFormats) {
    Case c(rng_, format, {128, 6, 192, 64, 512});
    const MappedMemory all(c.OutBytes(2));
    const View<bf16, 3> expected = c.Run<bf16>(all);
    const auto query = std::get<View<const bf16, 3>>(c.args.q_nope);
    for (int64_t rows : {1, 8, 17, 64, 100}) {
      c.size.rows = rows;
      c.args.q_nope = query.Rows(128 - rows, rows);
      const MappedMemory some(c.OutBytes(2));
      const View<bf16, 3> found = c.Run<bf16>(some, true);
      for (int64_t r = 0; r < rows; ++r) {
        for (int64_t h = 0; h < c.size.heads; ++h) {
          ASSERT_EQ(std::memcmp(&found(r, h, 0), &expected(128 - rows + r, h, 0), 512 * 2), 0) << rows << " " << r;
        }
      }
    }
  }
}

// One weight of each code and scale against q = 1: the products are exact.
TEST_F(CudaQueryAbsorbTest, EveryCodeIsExactAndPoisonStaysInItsLatents) {
  for (Format format : {Format::kMxfp4, Format::kFp8}) {
    Case c(rng_, format, {1, 1, 128, 128, 512});
    const auto q = std::get<View<const bf16, 3>>(c.args.q_nope);
    for (int64_t i = 0; i < 128; ++i) const_cast<bf16&>(q(0, 0, i)) = bf16::FromFloat(i == 37 ? 1.0f : 0.0f);
    std::vector<float> expected(512);
    if (const auto* w = std::get_if<Mxfp4<const e2m1x2, 2>>(&c.weight.weight)) {
      for (int64_t l = 0; l < 512; l += 2) {
        const e2m1x2 pair{static_cast<uint8_t>(l / 2)};
        const e8m0 scale{static_cast<uint8_t>(l / 32 == 3 ? 255 : l / 32 == 5 ? 200 : 20 + 7 * (l / 32))};
        const_cast<e2m1x2&>(w->values(37, l / 2)) = pair;
        const_cast<e8m0&>(w->scales(37, l / 32)) = scale;
        expected[static_cast<size_t>(l)] = pair.Low() * scale.ToFloat();
        expected[static_cast<size_t>(l) + 1] = pair.High() * scale.ToFloat();
      }
    } else {
      const auto& w8 = std::get<Fp8Block>(c.weight.weight);
      for (int64_t l = 0; l < 512; ++l) {
        const e4m3 value{static_cast<uint8_t>(l % 256)};  // NaN codes among them
        const_cast<e4m3&>(w8.values(37, l)) = value;
        expected[static_cast<size_t>(l)] = value.ToFloat() * w8.scales((w8.first_row + 37) / 128, l / 128);
      }
    }
    const MappedMemory found(c.OutBytes(4));
    const View<float, 3> out = c.Run<float>(found);
    for (int64_t l = 0; l < 512; ++l) {
      const float e = expected[static_cast<size_t>(l)];
      ASSERT_EQ(std::isnan(out(0, 0, l)), std::isnan(e)) << l;
      if (std::isnan(e)) continue;
      ASSERT_EQ(out(0, 0, l), e) << l;
    }
  }
}

TEST_F(CudaQueryAbsorbTest, EmptyBatchAndRefusals) {
  Case c(rng_, Format::kMxfp4, {2, 2, 128, 128, 512});
  const MappedMemory found(c.OutBytes(2));
  const auto query = std::get<View<const bf16, 3>>(c.args.q_nope);
  const auto refused = [&] {
    try {
      c.Run<bf16>(found);
    } catch (const Error& error) {
      return error.code() == ErrorCode::kLayout;
    }
    return false;
  };
  c.args.q_nope = View<const bf16, 3>{query.data + 1, query.shape, query.stride};
  EXPECT_TRUE(refused());
  c.args.q_nope = View<const bf16, 3>{query.data, query.shape, {query.stride[0], query.stride[1] + 4, 1}};
  EXPECT_TRUE(refused());
  c.args.q_nope = query.Slice(2, 0, 64);
  EXPECT_TRUE(refused());
  c.args.q_nope = query;
  c.args.w_kc.head_rows = 96;
  EXPECT_TRUE(refused());
  c.args.w_kc.head_rows = 128;
  c.args.output_major = true;
  EXPECT_TRUE(refused());
  c.args.output_major = false;
  c.args.q_nope = query.Rows(0, 0);
  c.size.rows = 0;
  c.Run<bf16>(found);
  for (uint8_t byte : found.Bytes()) ASSERT_EQ(byte, 0xff);
}

}  // namespace
}  // namespace mxmla
