// Prefill attention on the GPU against ref on the same bytes.
#include "cuda/prefill_attention.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/thread_pool.h"
#include "ops/kernel_set.h"
#include "random_weights.h"
#include "ref/backend.h"

namespace mxmla {
namespace {

using testing::Format;
using testing::kFormats;
using testing::MappedMemory;
using testing::RandomWeight;

// Rows of one sequence that see its first `before` + 1 tokens and one more each.
struct Segment {
  int64_t before, rows;
};

struct Size {
  int64_t heads, lora, nope, rope, v, page_size;
  std::vector<Segment> segments;
};

class DeviceMemory {
 public:
  explicit DeviceMemory(size_t bytes) {
    if (cudaMalloc(&data_, bytes) != cudaSuccess || cudaMemset(data_, 0xff, bytes) != cudaSuccess)
      throw std::bad_alloc();
  }
  ~DeviceMemory() { cudaFree(data_); }
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;
  void* data() const { return data_; }

 private:
  void* data_ = nullptr;
};

// Segments of sequences of their own over pages in random order. Tokens behind a sequence's end, padding between rows
// and the rows of the query behind the last segment are NaN.
struct Case {
  static constexpr int64_t kPaddingRows = 3;

  Case(std::mt19937_64& rng, Format format, const Size& s, bool fp8_cache = false)
      : size(s),
        rows(Sum([](const Segment& segment) { return segment.rows; }) + kPaddingRows),
        most_pages(1 + Most([&](const Segment& g) { return (g.before + g.rows) / s.page_size; })),
        sequences(static_cast<int64_t>(s.segments.size())),
        width(s.lora + s.rope),
        qk(s.nope + s.rope),
        weight(rng, format, s.heads * (s.nope + s.v), s.lora),
        query_memory(static_cast<size_t>(rows * (s.heads * qk + 8)) * 2 + 64),
        kv_memory(static_cast<size_t>((sequences * most_pages + 1) * s.page_size * (width + 8)) * 2 + 64),
        ints(static_cast<size_t>(2 * rows + sequences + 1 + sequences * most_pages) * 4) {
    std::normal_distribution<float> normal(0, 1);
    const View<bf16, 3> query{query_memory.As<bf16>(16), {rows, s.heads, qk}, {s.heads * qk + 8, qk, 1}};
    const View<bf16, 3> kv{kv_memory.As<bf16>(16),
                           {sequences * most_pages, s.page_size, width},
                           {s.page_size * (width + 8), width + 8, 1}};
    const Fp8Kv<e4m3, 3> fp8 = Fp8Planes();
    int32_t* const sequence = ints.As<int32_t>();
    int32_t* const length = sequence + rows;
    int32_t* const begin = length + rows;
    int32_t* const table = begin + sequences + 1;
    std::vector<int32_t> pages(static_cast<size_t>(sequences * most_pages));
    for (size_t i = 0; i < pages.size(); ++i) pages[i] = static_cast<int32_t>(i);
    std::shuffle(pages.begin(), pages.end(), rng);
    std::copy(pages.begin(), pages.end(), table);
    std::fill(sequence, sequence + rows, 0);
    std::fill(length, length + rows, 0);
    int32_t at = 0;
    for (int64_t g = 0; g < sequences; ++g) {
      begin[g] = at;
      const Segment& segment = s.segments[static_cast<size_t>(g)];
      for (int64_t r = 0; r < segment.rows; ++r, ++at) {
        sequence[at] = static_cast<int32_t>(g);
        length[at] = static_cast<int32_t>(segment.before + r + 1);
        for (int64_t h = 0; h < s.heads; ++h) {
          for (int64_t i = 0; i < qk; ++i) query(at, h, i) = bf16::FromFloat(normal(rng));
        }
      }
      for (int64_t t = 0; t < segment.before + segment.rows; ++t) {
        const int64_t page = table[g * most_pages + t / s.page_size];
        const int64_t row = t % s.page_size;
        if (fp8_cache) {
          for (int64_t i = 0; i < s.lora; ++i) fp8.latent.values(page, row, i) = e4m3::FromFloat(100 * normal(rng));
          for (int64_t i = 0; i < fp8.latent.scales.shape[2]; ++i) {
            // Smaller latents than a bf16 cache's: theirs are rounded once more, and the softmax makes more of it the
            // larger scores are.
            fp8.latent.scales(page, row, i) = 0.004f + 0.001f * std::abs(normal(rng));
          }
          for (int64_t i = 0; i < s.rope; ++i) fp8.key(page, row, i) = bf16::FromFloat(normal(rng));
          continue;
        }
        for (int64_t i = 0; i < width; ++i) kv(page, row, i) = bf16::FromFloat(normal(rng));
      }
    }
    begin[sequences] = at;
    args.query = View<const bf16, 3>(query);
    args.kv_pages = View<const bf16, 3>(kv);
    if (fp8_cache) args.kv_pages = Fp8Kv<const e4m3, 3>(fp8);
    args.block_table = View<const int32_t, 2>::Contiguous(table, {sequences, most_pages});
    args.row_sequence = View<const int32_t, 1>::Contiguous(sequence, {rows});
    args.row_length = View<const int32_t, 1>::Contiguous(length, {rows});
    args.segment_begin = View<const int32_t, 1>::Contiguous(begin, {sequences + 1});
    args.w_kc = {weight.weight, s.heads, s.nope + s.v, 0, s.nope};
    args.w_vc = {weight.weight, s.heads, s.nope + s.v, s.nope, s.v};
    args.softmax_scale = 0.01f;
  }

  // Rows of codes, scales and keys in the memory of rows in bf16, each beginning at a multiple of 16 bytes.
  Fp8Kv<e4m3, 3> Fp8Planes() const {
    const int64_t groups = (size.lora + 127) / 128, row = size.lora + 16 + size.rope * 2 + 16;
    const int64_t page = size.page_size * row + 16, pages = sequences * most_pages;
    auto* const base = kv_memory.As<uint8_t>(32);
    const View<e4m3, 3> values{reinterpret_cast<e4m3*>(base), {pages, size.page_size, size.lora}, {page, row, 1}};
    const View<float, 3> scales{
        reinterpret_cast<float*>(base + size.lora), {pages, size.page_size, groups}, {page / 4, row / 4, 1}};
    const View<bf16, 3> key{
        reinterpret_cast<bf16*>(base + size.lora + 16), {pages, size.page_size, size.rope}, {page / 2, row / 2, 1}};
    return {{values, scales}, key};
  }

  View<bf16, 3> Run(const MappedMemory& found, bool expand_first = true) {
    const View<bf16, 3> out{found.As<bf16>(4), {rows, size.heads, size.v}, {OutRow(), size.v + 2, 1}};
    args.out = FloatOutput<3>(out);
    const DeviceMemory workspace(cuda::PrefillAttentionWorkspaceBytes(args));
    cuda::PrefillAttention(args, {nullptr, workspace.data(), expand_first});
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    return out;
  }
  int64_t OutRow() const { return size.heads * (size.v + 2) + 6; }
  size_t OutBytes() const { return static_cast<size_t>(rows * OutRow()) * 2 + 4; }

  template <class F>
  int64_t Sum(const F& of) const {
    int64_t sum = 0;
    for (const Segment& segment : size.segments) sum += of(segment);
    return sum;
  }
  template <class F>
  int64_t Most(const F& of) const {
    int64_t most = 0;
    for (const Segment& segment : size.segments) most = std::max(most, of(segment));
    return most;
  }

  Size size;
  int64_t rows, most_pages, sequences, width, qk;
  RandomWeight weight;
  MappedMemory query_memory, kv_memory, ints;
  PrefillAttentionArgs args;
};

class CudaPrefillAttentionTest : public testing::GpuTest {};

std::vector<float> Reference(const Case& c) {
  std::vector<float> result(static_cast<size_t>(c.rows * c.size.heads * c.size.v), std::nanf(""));
  ThreadPool pool(16);
  ExecContext context;
  context.pool = &pool;
  context.kernels = &RefKernels();
  PrefillAttentionArgs args = c.args;
  args.out = FloatOutput<3>(View<float, 3>::Contiguous(result.data(), {c.rows, c.size.heads, c.size.v}));
  WorkspaceSize asked;
  context.planned = &asked;
  PrefillAttention(context, args);
  context.planned = nullptr;
  asked.per_worker = (asked.per_worker + 63) / 64 * 64;
  std::vector<std::byte> memory(asked.per_worker * 16 + 64);
  context.workspace = {nullptr, memory.data(), asked};
  PrefillAttention(context, args);
  return result;
}

// Whole and ragged tiles, chunks and groups of rows; a cached prefix; an empty segment.
const Size kSizes[] = {{3, 512, 128, 64, 128, 64, {{0, 1}, {100, 40}, {0, 0}, {0, 200}}},
                       {2, 512, 128, 64, 128, 64, {{0, 1300}, {1500, 70}}},
                       {5, 128, 64, 64, 64, 16, {{0, 130}, {63, 65}}},
                       {1, 256, 128, 32, 96, 32, {{1023, 3}}},
                       {2, 256, 64, 0, 128, 64, {{10, 64}}}};

class CudaPrefillAttentionCacheTest : public CudaPrefillAttentionTest, public ::testing::WithParamInterface<bool> {};

INSTANTIATE_TEST_SUITE_P(Caches, CudaPrefillAttentionCacheTest, ::testing::Bool(),
                         [](const auto& test) { return test.param ? "fp8" : "bf16"; });

TEST_P(CudaPrefillAttentionCacheTest, AgreesWithRefAndWritesNothingElse) {
  for (const Size& s : kSizes) {
    for (Format format : kFormats) {
      SCOPED_TRACE(::testing::Message() << "heads " << s.heads << " lora " << s.lora << " rows "
                                        << s.segments.front().rows << " format " << static_cast<int>(format));
      Case c(rng_, format, s, GetParam());
      const MappedMemory found(c.OutBytes());
      const View<bf16, 3> out = c.Run(found);
      const std::vector<float> expected = Reference(c);
      double squares = 0, found_squares = 0, product = 0;
      size_t i = 0;
      for (int64_t r = 0; r < c.rows; ++r) {
        for (int64_t h = 0; h < s.heads; ++h) {
          // The more tokens a row sees, the smaller is their mean.
          double of_row = 0;
          for (int64_t j = 0; j < s.v; ++j) {
            of_row += static_cast<double>(expected[i + static_cast<size_t>(j)]) * expected[i + static_cast<size_t>(j)];
          }
          const double rms = std::sqrt(of_row / static_cast<double>(s.v));
          for (int64_t j = 0; j < s.v; ++j, ++i) {
            if (std::isnan(expected[i])) continue;  // a padding row's: must still be canary
            squares += static_cast<double>(expected[i]) * expected[i];
            const float f = out(r, h, j).ToFloat();
            ASSERT_NEAR(f, expected[i], 0.02 * std::abs(expected[i]) + 0.04 * rms) << r << " " << h << " " << j;
            found_squares += static_cast<double>(f) * f;
            product += static_cast<double>(f) * expected[i];
            out(r, h, j) = {0xffff};
          }
        }
      }
      ASSERT_GT(product / std::sqrt(squares * found_squares), 1 - 2e-5);
      for (uint8_t byte : found.Bytes()) ASSERT_EQ(byte, 0xff);
    }
  }
}

// Expanded first or chunk by chunk, a segment by itself, and its last rows as a segment over a cached prefix: the same
// bits.
TEST_P(CudaPrefillAttentionCacheTest, ARowDependsOnItsContextAlone) {
  Case c(rng_, Format::kMxfp4, {2, 512, 128, 64, 128, 64, {{7, 50}, {0, 1200}}}, GetParam());
  const MappedMemory all(c.OutBytes()), one(c.OutBytes()), cut(c.OutBytes()), in_chunks(c.OutBytes());
  const View<bf16, 3> expected = c.Run(all);
  c.Run(in_chunks, false);
  ASSERT_EQ(in_chunks.Bytes(), all.Bytes());
  auto* const begin = const_cast<int32_t*>(c.args.segment_begin.data);
  begin[0] = begin[1] = 50;  // the second segment alone
  const View<bf16, 3> alone = c.Run(one);
  begin[0] = begin[1] = 50 + 1100;
  const View<bf16, 3> behind = c.Run(cut);
  for (int64_t r = 50; r < 1250; ++r) {
    for (int64_t h = 0; h < 2; ++h) {
      ASSERT_EQ(std::memcmp(&alone(r, h, 0), &expected(r, h, 0), 128 * 2), 0) << r;
      if (r < 1150) continue;
      ASSERT_EQ(std::memcmp(&behind(r, h, 0), &expected(r, h, 0), 128 * 2), 0) << r;
    }
  }
}

TEST_F(CudaPrefillAttentionTest, EmptyBatchAndRefusals) {
  Case c(rng_, Format::kBf16, {2, 128, 64, 64, 64, 16, {{0, 4}}});
  const MappedMemory found(c.OutBytes());
  const auto query = std::get<View<const bf16, 3>>(c.args.query);
  const auto refused = [&] {
    try {
      c.Run(found);
    } catch (const Error& error) {
      return error.code() == ErrorCode::kLayout;
    }
    return false;
  };
  c.args.query = View<const bf16, 3>{query.data + 1, query.shape, query.stride};
  EXPECT_TRUE(refused());
  c.args.query = query;
  c.args.w_vc.head_rows = 132;
  EXPECT_TRUE(refused());
  c.args.w_vc.head_rows = 64;
  auto* const begin = const_cast<int32_t*>(c.args.segment_begin.data);
  begin[1] = 0;  // no segment has rows
  c.Run(found);
  for (uint8_t byte : found.Bytes()) ASSERT_EQ(byte, 0xff);
}

}  // namespace
}  // namespace mxmla
