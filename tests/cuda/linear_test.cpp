// Linear layers on the GPU against ref on the same bytes.
#include "cuda/linear.h"

#include <gtest/gtest.h>

#include <cmath>
#include <span>
#include <type_traits>

#include "core/thread_pool.h"
#include "random_weights.h"
#include "ref/kernels.h"

namespace mxmla {
namespace {

using testing::Format;
using testing::kFormats;
using testing::MappedMemory;
using testing::RandomRows;
using testing::RandomWeight;

class CudaLinearTest : public testing::GpuTest {};

// All rows streamed, or all in tiles of the tensor cores.
constexpr int64_t kStreamed = 1 << 20, kTiled = 0;

void Product(const Activation<2>& x, const LinearWeight& weight, FloatOutput<2> out, bool programmatic = false,
             int64_t most_streamed = cuda::kMostStreamedRows) {
  const LinearArgs args{x, weight, std::move(out)};
  const MappedMemory workspace(static_cast<size_t>(cuda::LinearWorkspaceBytes(args, most_streamed)));
  cuda::Linear(args, {nullptr, programmatic, workspace.As<void>()}, most_streamed);
  ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
}

// The first `rows` rows of x against the weight, densely.
std::vector<float> Plain(const View<bf16, 2>& x, int64_t rows, const LinearWeight& weight, bool programmatic = false,
                         int64_t most_streamed = cuda::kMostStreamedRows) {
  const int64_t n = RowCount(weight);
  MappedMemory out(static_cast<size_t>(rows * n) * 4);
  Product(View<const bf16, 2>(x.Rows(0, rows)), weight, View<float, 2>::Contiguous(out.As<float>(), {rows, n}),
          programmatic, most_streamed);
  return {out.As<float>(), out.As<float>() + rows * n};
}

std::vector<float> Reference(const View<bf16, 2>& x, const LinearWeight& weight) {
  const int64_t rows = x.shape[0], n = RowCount(weight);
  std::vector<float> result(static_cast<size_t>(rows * n));
  ThreadPool pool(16);
  ExecContext context;
  context.pool = &pool;
  ref::Linear(context, {View<const bf16, 2>(x), weight, View<float, 2>::Contiguous(result.data(), {rows, n})});
  return result;
}

struct Size {
  int64_t n, k;
  bool mxfp4 = true;
};
// Whole and ragged tiles and slices, one and several ranks, rounds of k, odd strides of the scales.
constexpr Size kSizes[] = {{16, 128},
                           {1, 32},
                           {37, 96},
                           {576, 2048},
                           {2112, 7168},
                           {304, 1536},
                           {200, 1408},
                           {2048, 10944},
                           {64, 18432},
                           {40, 16, false},
                           {130, 8192 + 16, false},
                           {33, 20000},
                           {7168, 512},
                           {24, 7168 + 32}};
struct Rows {
  int64_t count;
  int64_t most_streamed;
};
constexpr Rows kRows[] = {{1, kStreamed},
                          {7, kStreamed},
                          {8, kStreamed},
                          {9, kStreamed},
                          {16, kStreamed},
                          {17, kStreamed},
                          {64, kStreamed},
                          {1, kTiled},
                          {64, kTiled},
                          {65, kTiled},
                          {150, cuda::kMostStreamedRows}};
constexpr int64_t kMostRows = 150;

template <class T>
void Compare(std::mt19937_64& rng, const Size& size, Format format, std::span<const Rows> rows_of = kRows) {
  const RandomWeight w(rng, format, size.n, size.k);
  const RandomRows x(rng, std::max(rows_of.back().count, kMostRows), size.k);
  const std::vector<float> expected = Reference(x.view, w.weight);
  double squares = 0;
  for (float e : expected) squares += static_cast<double>(e) * e;
  const double rms = std::sqrt(squares / static_cast<double>(expected.size()));
  const bool rounded = std::is_same_v<T, bf16>;
  for (const auto& [rows, most_streamed] : rows_of) {
    SCOPED_TRACE(::testing::Message() << "rows " << rows << ", streamed up to " << most_streamed);
    // The tensor cores add all of k to one sum, of which they keep fewer bits.
    const double absolute = rows > most_streamed ? 1e-4 : 2e-5;
    const int64_t stride = size.n + 3;
    MappedMemory found(static_cast<size_t>(rows * stride) * sizeof(T));
    const View<T, 2> out{found.As<T>(), {rows, size.n}, {stride, 1}};
    Product(View<const bf16, 2>(x.view.Rows(0, rows)), w.weight, FloatOutput<2>(out), false, most_streamed);
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t j = 0; j < size.n; ++j) {
        const float e = expected[static_cast<size_t>(r * size.n + j)];
        const float f = [&] {
          if constexpr (std::is_same_v<T, bf16>)
            return out(r, j).ToFloat();
          else
            return out(r, j);
        }();
        ASSERT_NEAR(f, e, (rounded ? 0.00391 * std::abs(e) : 0) + absolute * rms) << r << " " << j;
        std::memset(static_cast<void*>(&out(r, j)), 0xff, sizeof(T));
      }
    }
    for (uint8_t byte : found.Bytes()) ASSERT_EQ(byte, 0xff);
  }
}

TEST_F(CudaLinearTest, AgreesWithRefAndWritesNothingElse) {
  for (const Size& size : kSizes) {
    for (Format format : kFormats) {
      if (format == Format::kMxfp4 && !size.mxfp4) continue;
      SCOPED_TRACE(::testing::Message() << size.n << " x " << size.k << " format " << static_cast<int>(format));
      Compare<float>(rng_, size, format);
      if (HasFatalFailure()) return;
    }
  }
}

TEST_F(CudaLinearTest, RoundsOnceToBf16) {
  for (Format format : kFormats) Compare<bf16>(rng_, {576, 2048}, format);
}

// So many weights that wide tiles are taken: of 128 and of 192 rows, whole and in part.
TEST_F(CudaLinearTest, WideTilesAgreeWithRefAndARowDoesNotDependOnItsBatch) {
  for (Format format : kFormats) {
    SCOPED_TRACE(::testing::Message() << "format " << static_cast<int>(format));
    const Rows rows[] = {{250, kTiled}, {380, kTiled}};
    Compare<float>(rng_, {16631, 160}, format, rows);
    Compare<bf16>(rng_, {16640, 416}, format, rows);
    const RandomWeight w(rng_, format, 16640, 1024);
    const RandomRows x(rng_, 380, 1024);
    const std::vector<float> all = Plain(x.view, 380, w.weight, true, kTiled);
    const std::vector<float> some = Plain(x.view, 250, w.weight, false, kTiled);
    ASSERT_EQ(std::memcmp(some.data(), all.data(), some.size() * 4), 0);
  }
}

TEST_F(CudaLinearTest, ARowDoesNotDependOnItsBatch) {
  for (const Size& size : {Size{2112, 7168}, Size{304, 1536}, Size{64, 18432}, Size{7168, 512}}) {
    for (Format format : kFormats) {
      const RandomWeight w(rng_, format, size.n, size.k);
      const RandomRows x(rng_, 128, size.k);
      const auto compare = [&](int64_t most_streamed, int64_t most, std::initializer_list<int64_t> fewer) {
        const std::vector<float> all = Plain(x.view, most, w.weight, false, most_streamed);
        for (int64_t rows : fewer) {
          const std::vector<float> some = Plain(x.view, rows, w.weight, false, most_streamed);
          ASSERT_EQ(std::memcmp(some.data(), all.data(), some.size() * 4), 0) << rows << " of " << most;
        }
      };
      compare(kStreamed, 128, {1, 8, 9, 16, 17, 33, 100});
      // As many tiles share k alike.
      compare(kTiled, 64, {1, 8, 17, 33});
      compare(kTiled, 128, {65, 100});
    }
  }
}

TEST_F(CudaLinearTest, ProgrammaticLaunchesGiveTheSame) {
  const RandomWeight w(rng_, Format::kMxfp4, 2112, 7168);
  const RandomRows x(rng_, 80, 7168);
  for (int64_t rows : {8, 80}) {
    const std::vector<float> plain = Plain(x.view, rows, w.weight);
    for (int i = 0; i < 10; ++i) ASSERT_EQ(Plain(x.view, rows, w.weight, true), plain);
  }
}

// A model's memory is planned for its largest step.
TEST(CudaLinearWorkspaceTest, MoreRowsNeverTakeLess) {
  const Mxfp4<const e2m1x2, 2> mxfp4{View<const e2m1x2, 2>::Contiguous(nullptr, {4096, 2048}),
                                     View<const e8m0, 2>::Contiguous(nullptr, {4096, 128})};
  const Fp8Block fp8{View<const e4m3, 2>::Contiguous(nullptr, {4096, 4096}),
                     View<const float, 2>::Contiguous(nullptr, {32, 32})};
  for (const LinearWeight& weight : {LinearWeight(mxfp4), LinearWeight(fp8)}) {
    int64_t before = 0;
    for (int64_t rows = 1; rows <= 4096; rows += rows < 300 ? 1 : 97) {
      const LinearArgs args{View<const bf16, 2>::Contiguous(nullptr, {rows, 4096}), weight,
                            View<float, 2>::Contiguous(nullptr, {rows, 4096})};
      const int64_t bytes = cuda::LinearWorkspaceBytes(args);
      ASSERT_GE(bytes, before) << rows;
      ASSERT_TRUE(rows > 32 ? bytes > 0 : bytes == 0) << rows;
      before = bytes;
    }
  }
}

// A chain in which each link reads what the one before it has written.
TEST_F(CudaLinearTest, ALinkOfAChainReadsWhatTheOneBeforeWrote) {
  const RandomWeight w(rng_, Format::kMxfp4, 2048, 2048);
  const RandomRows x(rng_, 8, 2048);
  const auto chain = [&](bool programmatic) {
    MappedMemory buffers(2 * 8 * 2048 * 2);
    const View<bf16, 2> to[2] = {View<bf16, 2>::Contiguous(buffers.As<bf16>(), {8, 2048}),
                                 View<bf16, 2>::Contiguous(buffers.As<bf16>(8 * 2048 * 2), {8, 2048})};
    View<const bf16, 2> from = x.view;
    for (int link = 0; link < 12; ++link) {
      cuda::Linear({from, w.weight, FloatOutput<2>(to[link % 2])}, {nullptr, programmatic});
      from = to[link % 2];
    }
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    return buffers.Bytes();
  };
  const auto expected = chain(false);
  for (int i = 0; i < 5; ++i) ASSERT_EQ(chain(true), expected);
}

// NaN as the last block's scale (MXFP4) or the last value (FP8) of a row.
void PoisonEndOfRow(const RandomWeight& w, int64_t row) {
  if (const auto* mx = std::get_if<Mxfp4<const e2m1x2, 2>>(&w.weight)) {
    const_cast<e8m0&>(mx->scales(row, mx->scales.shape[1] - 1)) = {e8m0::kNan};
  } else {
    const auto& fp8 = std::get<Fp8Block>(w.weight);
    const_cast<e4m3&>(fp8.values(row, fp8.values.shape[1] - 1)) = {0xff};
  }
}

TEST_F(CudaLinearTest, PoisonStaysVisibleInItsRow) {
  for (Format format : {Format::kMxfp4, Format::kFp8}) {
    const RandomWeight w(rng_, format, 100, 2048);
    const RandomRows x(rng_, 3, 2048);
    PoisonEndOfRow(w, 77);
    for (int64_t most_streamed : {kStreamed, kTiled}) {
      const std::vector<float> out = Plain(x.view, 3, w.weight, false, most_streamed);
      for (int64_t i = 0; i < 300; ++i) ASSERT_EQ(std::isnan(out[static_cast<size_t>(i)]), i % 100 == 77) << i;
    }
  }
  // Wide tiles: a row of the weights, and one of the activations.
  for (Format format : {Format::kMxfp4, Format::kFp8}) {
    const RandomWeight w(rng_, format, 16640, 128);
    const RandomRows x(rng_, 256, 128);
    PoisonEndOfRow(w, 777);
    x.view(201, 5) = bf16::FromFloat(std::nanf(""));
    const std::vector<float> out = Plain(x.view, 256, w.weight, false, kTiled);
    for (int64_t i = 0; i < 256 * 16640; ++i) {
      ASSERT_EQ(std::isnan(out[static_cast<size_t>(i)]), i % 16640 == 777 || i / 16640 == 201) << i;
    }
  }
}

// Exact products: one weight of each code and scale against x = 1.
TEST_F(CudaLinearTest, EveryCodeIsExact) {
  for (Format format : {Format::kMxfp4, Format::kFp8}) {
    const RandomWeight w(rng_, format, 512, 128);
    const RandomRows x(rng_, 1, 128);
    for (int64_t k = 0; k < 128; ++k) x.view(0, k) = bf16::FromFloat(k == 37 ? 1.0f : 0.0f);
    std::vector<float> expected(512);
    for (int64_t i = 0; i < 512; ++i) {
      if (const auto* mx = std::get_if<Mxfp4<const e2m1x2, 2>>(&w.weight)) {
        const e2m1x2 pair{static_cast<uint8_t>(i)};
        const_cast<e2m1x2&>(mx->values(i, 18)) = pair;
        const e8m0 scale{static_cast<uint8_t>(i < 250 ? i : 1 + i % 128)};
        const_cast<e8m0&>(mx->scales(i, 1)) = scale;
        expected[static_cast<size_t>(i)] = pair.High() * scale.ToFloat();
      } else {
        const auto& fp8 = std::get<Fp8Block>(w.weight);
        const e4m3 value{static_cast<uint8_t>((i & 0x7f) == 0x7f ? 0 : i)};
        const_cast<e4m3&>(fp8.values(i, 37)) = value;
        const_cast<float&>(fp8.scales((fp8.first_row + i) / 128, 0)) = 0.5f;
        expected[static_cast<size_t>(i)] = value.ToFloat() * 0.5f;
      }
    }
    for (int64_t most_streamed : {kStreamed, kTiled}) {
      const std::vector<float> out = Plain(x.view, 1, w.weight, false, most_streamed);
      for (size_t i = 0; i < 512; ++i) {
        // The sum is float32, whose subnormals the tensor core may flush.
        if (std::abs(expected[i]) < 0x1p-126f) continue;
        ASSERT_EQ(out[i], expected[i]) << i;
      }
    }
  }
}

// FP8 weights are multiplied as fp16, and activations made to fit: exactly from a slice's largest down to 2^-31 of it,
// of whatever magnitude that is.
TEST_F(CudaLinearTest, ActivationsOfEveryMagnitudeAreExact) {
  constexpr int kExponents[] = {-90, -30, 0, 30, 117};
  constexpr int64_t kRowsOfX = std::size(kExponents), kSide = 256;
  const RandomWeight w(rng_, Format::kFp8, kSide, kSide);
  const RandomRows x(rng_, kRowsOfX, kSide);
  const auto& fp8 = std::get<Fp8Block>(w.weight);
  for (int64_t i = 0; i < kSide; ++i) {  // a weight in each row, of each code but zero and NaN
    const auto code = static_cast<uint8_t>(i % 128 == 0 || i % 128 == 127 ? 1 : i);
    for (int64_t k = 0; k < kSide; ++k) const_cast<e4m3&>(fp8.values(i, k)) = {k == i ? code : uint8_t{0}};
  }
  for (int64_t i = 0; i < fp8.scales.shape[0]; ++i) {
    for (int64_t j = 0; j < fp8.scales.shape[1]; ++j) const_cast<float&>(fp8.scales(i, j)) = 0.5f;
  }
  for (int64_t r = 0; r < kRowsOfX; ++r) {
    for (int64_t k = 0; k < kSide; ++k) {
      const float mantissa = 1.0f + static_cast<float>(rng_() % 128) / 128;
      const int exponent = kExponents[r] - static_cast<int>(k % 32);
      x.view(r, k) = bf16::FromFloat(std::ldexp(rng_() % 2 ? mantissa : -mantissa, exponent));
    }
  }
  for (int64_t most_streamed : {kStreamed, kTiled}) {
    const std::vector<float> out = Plain(x.view, kRowsOfX, w.weight, false, most_streamed);
    for (int64_t i = 0; i < kRowsOfX * kSide; ++i) {
      const int64_t r = i / kSide, k = i % kSide;
      const float expected = x.view(r, k).ToFloat() * fp8.values(k, k).ToFloat() * 0.5f;
      ASSERT_EQ(out[static_cast<size_t>(i)], expected) << "row " << r << ", " << k;
    }
  }
}

TEST_F(CudaLinearTest, EmptyBatchAndRefusals) {
  const RandomWeight w(rng_, Format::kMxfp4, 64, 256);
  const RandomRows x(rng_, 2, 256);
  MappedMemory out(4096);
  const auto refused = [&](const Activation<2>& from, const LinearWeight& weight, FloatOutput<2> to) {
    try {
      Product(from, weight, std::move(to));
    } catch (const Error& error) {
      return error.code() == ErrorCode::kLayout;
    }
    return false;
  };
  const View<const bf16, 2> from = x.view;
  const View<float, 2> to{out.As<float>(), {2, 64}, {64, 1}};
  EXPECT_TRUE(refused(from, w.weight, View<float, 2>{out.As<float>(), {2, 64}, {128, 2}}));
  EXPECT_TRUE(refused(from, w.weight, View<float, 2>{out.As<float>(), {2, 63}, {64, 1}}));
  EXPECT_TRUE(refused(from, w.weight, View<float, 2>{out.As<float>(), {3, 64}, {64, 1}}));
  EXPECT_TRUE(refused(View<const bf16, 2>{from.data, {2, 256}, {256 + 12, 1}}, w.weight, to));
  EXPECT_TRUE(refused(View<const bf16, 2>{from.data + 4, {2, 256}, from.stride}, w.weight, to));
  EXPECT_TRUE(refused(View<const bf16, 2>{from.data, {2, 256}, {512, 2}}, w.weight, to));
  EXPECT_TRUE(refused(View<const bf16, 2>{from.data, {2, 128}, from.stride}, w.weight, to));
  EXPECT_TRUE(refused(View<const float, 2>{out.As<float>(), {2, 256}, {256, 1}}, w.weight, to));
  EXPECT_TRUE(refused(from, View<const float, 2>{out.As<float>(), {64, 256}, {256, 1}}, to));
  auto odd = std::get<Mxfp4<const e2m1x2, 2>>(w.weight);
  odd.values.stride[0] += 8;
  EXPECT_TRUE(refused(from, odd, to));
  Product(View<const bf16, 2>{from.data, {0, 256}, from.stride}, w.weight,
          View<float, 2>{out.As<float>(), {0, 64}, {64, 1}});
  for (uint8_t byte : out.Bytes()) ASSERT_EQ(byte, 0xff);
}

}  // namespace
}  // namespace mxmla
