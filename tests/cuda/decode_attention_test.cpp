// Decode attention on the GPU against ref on the same bytes (managed memory: both read the very same views).
#include "cuda/decode_attention.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <random>
#include <thread>
#include <vector>

#include "core/thread_pool.h"
#include "cuda/value_project.h"
#include "gpu_test.h"
#include "random_weights.h"
#include "ref/kernels.h"

namespace mxmla {
namespace {

using testing::ManagedMemory;

constexpr int64_t kLatents = 512, kWidth = 576;

class CudaDecodeAttentionTest : public testing::GpuTest {};

// Rows over `contexts` of one length each in pages in a random order; what no token fills stays NaN, and a block table
// names no page behind its context.
struct Case {
  Case(std::mt19937_64& rng, int64_t head_count, int64_t tokens_a_page, const std::vector<int64_t>& contexts,
       std::vector<int32_t> sequences, std::vector<int32_t> lengths, bool fp8 = false)
      : is_fp8(fp8),
        heads(head_count),
        rows(static_cast<int64_t>(lengths.size())),
        page_size(tokens_a_page),
        max_pages((std::max<int64_t>(1, *std::max_element(contexts.begin(), contexts.end())) + page_size - 1) /
                  page_size),
        pages(static_cast<int64_t>(contexts.size()) * max_pages + 3),
        // Heads and rows of the query, rows and pages of the cache are padded.
        query_memory(static_cast<size_t>(rows * (heads * (kWidth + 8) + 16)) * 2 + 64),
        kv_memory(static_cast<size_t>(pages * (page_size * (kWidth + 16) + 24)) * 2),
        table_memory(contexts.size() * static_cast<size_t>(max_pages + 1) * 8),
        row_memory(static_cast<size_t>(rows) * 16 + 16),
        workspace(cuda::DecodeAttentionWorkspaceBytes(rows, heads)),
        counters(cuda::DecodeAttentionCounterBytes(rows, heads), 0) {
    std::normal_distribution<float> normal(0, 1);
    const View<bf16, 3> q{query_memory.As<bf16>(32), {rows, heads, kWidth}, {heads * (kWidth + 8) + 16, kWidth + 8, 1}};
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t h = 0; h < heads; ++h) {
        for (int64_t k = 0; k < kWidth; ++k) q(r, h, k) = bf16::FromFloat(normal(rng));
      }
    }
    const View<bf16, 3> kv{
        kv_memory.As<bf16>(16), {pages, page_size, kWidth}, {page_size * (kWidth + 16) + 24, kWidth + 16, 1}};
    const Fp8Kv<e4m3, 3> fp8_kv = Fp8Planes();
    std::vector<int32_t> order(static_cast<size_t>(pages));
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), rng);
    View<int32_t, 2> table{
        table_memory.As<int32_t>(), {static_cast<int64_t>(contexts.size()), max_pages}, {(max_pages + 1) * 2, 2}};
    size_t next = 0;
    for (size_t s = 0; s < contexts.size(); ++s) {
      for (int64_t j = 0; j < max_pages; ++j) {
        const bool used = j * page_size < contexts[s];
        table(static_cast<int64_t>(s), j) = used ? order[next++] : std::numeric_limits<int32_t>::max();
      }
      for (int64_t t = 0; t < contexts[s]; ++t) {
        const int64_t page = table(static_cast<int64_t>(s), t / page_size);
        const int64_t row = t % page_size;
        if (fp8) {
          for (int64_t k = 0; k < kLatents; ++k) {
            fp8_kv.latent.values(page, row, k) = e4m3::FromFloat(100 * normal(rng));
          }
          for (int64_t g = 0; g < 4; ++g) fp8_kv.latent.scales(page, row, g) = 0.01f + 0.003f * std::abs(normal(rng));
          for (int64_t k = 0; k < 64; ++k) fp8_kv.key(page, row, k) = bf16::FromFloat(normal(rng));
          continue;
        }
        for (int64_t k = 0; k < kWidth; ++k) kv(page, row, k) = bf16::FromFloat(normal(rng));
      }
    }
    auto* const row = row_memory.As<int32_t>();
    std::copy(sequences.begin(), sequences.end(), row);
    for (int64_t r = 0; r < rows; ++r) row[rows + 2 * r] = lengths[static_cast<size_t>(r)];
    args.query = View<const bf16, 3>(q);
    args.kv_pages = View<const bf16, 3>(kv);
    if (fp8) args.kv_pages = Fp8Kv<const e4m3, 3>(fp8_kv);
    args.block_table = table;
    args.row_sequence = View<const int32_t, 1>{row, {rows}, {1}};
    args.row_length = View<const int32_t, 1>{row + rows, {rows}, {2}};
    args.kv_lora_rank = kLatents;
    args.softmax_scale = 0.09f;
  }

  // Rows of 656 bytes and a gap, in the memory of rows in bf16.
  Fp8Kv<e4m3, 3> Fp8Planes() const {
    const int64_t row = kLatents + 4 * 4 + 64 * 2 + 16, page = page_size * row + 48;
    auto* const base = kv_memory.As<uint8_t>(32);
    const View<e4m3, 3> values{reinterpret_cast<e4m3*>(base), {pages, page_size, kLatents}, {page, row, 1}};
    const View<float, 3> scales{
        reinterpret_cast<float*>(base + kLatents), {pages, page_size, 4}, {page / 4, row / 4, 1}};
    const View<bf16, 3> key{
        reinterpret_cast<bf16*>(base + kLatents + 16), {pages, page_size, 64}, {page / 2, row / 2, 1}};
    return {{values, scales}, key};
  }

  // Rows first .. first + count.
  DecodeAttentionArgs Rows(int64_t first, int64_t count) const {
    DecodeAttentionArgs part = args;
    part.query = std::get<View<const bf16, 3>>(args.query).Slice(0, first, count);
    part.row_sequence = args.row_sequence.Slice(0, first, count);
    part.row_length = args.row_length.Slice(0, first, count);
    return part;
  }

  bool is_fp8;
  int64_t heads, rows, page_size, max_pages, pages;
  ManagedMemory query_memory, kv_memory, table_memory, row_memory, workspace, counters;
  DecodeAttentionArgs args;
};

std::vector<bf16> Attend(const Case& c, DecodeAttentionArgs args, bool programmatic = false, bool invariant = true) {
  const int64_t rows = args.row_length.shape[0];
  ManagedMemory out(static_cast<size_t>(rows * c.heads * kLatents) * 2);
  args.out = FloatOutput<3>(View<bf16, 3>::Contiguous(out.As<bf16>(), {rows, c.heads, kLatents}));
  cuda::DecodeAttention(args, {nullptr, programmatic, invariant, c.workspace.As<void>(), c.counters.As<void>()});
  EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  return {out.As<bf16>(), out.As<bf16>() + rows * c.heads * kLatents};
}

std::vector<float> Expected(const Case& c) {
  std::vector<float> expected(static_cast<size_t>(c.rows * c.heads * kLatents));
  const int workers = static_cast<int>(std::max(2u, std::thread::hardware_concurrency()));
  ThreadPool pool(workers);
  ExecContext context;
  context.pool = &pool;
  DecodeAttentionArgs args = c.args;
  args.out = FloatOutput<3>(View<float, 3>::Contiguous(expected.data(), {c.rows, c.heads, kLatents}));
  context.workspace.size = ref::DecodeAttentionWorkspace(args, workers);
  context.workspace.size.per_worker = (context.workspace.size.per_worker + 63) / 64 * 64;
  std::vector<std::byte> scratch(context.workspace.size.per_worker * static_cast<size_t>(workers));
  context.workspace.workers = scratch.data();
  ref::DecodeAttention(context, args);
  return expected;
}

// Probabilities are rounded to bf16 before the second product, results after it. Those of an FP8 cache are rounded with
// their tokens' scales, so that one token's, which is 1, is as well.
void ExpectNear(const Case& c, const View<bf16, 3>& out, const std::vector<float>& expected) {
  int64_t i = 0;
  for (int64_t r = 0; r < c.rows; ++r) {
    for (int64_t h = 0; h < c.heads; ++h) {
      double squares = 0;
      for (int64_t j = 0; j < kLatents; ++j) {
        squares += std::pow(static_cast<double>(expected[static_cast<size_t>(i + j)]), 2);
      }
      const double rms = std::sqrt(squares / kLatents);
      double error = 0;
      for (int64_t j = 0; j < kLatents; ++j, ++i) {
        const double e = expected[static_cast<size_t>(i)], found = out(r, h, j).ToFloat();
        ASSERT_NEAR(found, e, 0.004 * std::abs(e) + (c.is_fp8 ? 0.015 : 0.01) * rms)
            << "row " << r << " head " << h << " column " << j;
        error += (found - e) * (found - e);
      }
      ASSERT_LE(std::sqrt(error), (c.is_fp8 ? 5e-3 : 4e-3) * std::sqrt(squares)) << "row " << r << " head " << h;
    }
  }
}

// Output rows and heads with gaps; everything but the results must keep its bytes.
void CheckAgainstRef(const Case& c) {
  const int64_t head_step = kLatents + 8, row_step = c.heads * head_step + 24;
  const std::vector<float> expected = Expected(c);
  for (bool invariant : {true, false}) {
    SCOPED_TRACE(invariant ? "batch-invariant" : "not batch-invariant");
    ManagedMemory found(static_cast<size_t>(c.rows * row_step) * 2);
    const View<bf16, 3> out{found.As<bf16>(16), {c.rows, c.heads, kLatents}, {row_step, head_step, 1}};
    DecodeAttentionArgs args = c.args;
    args.out = FloatOutput<3>(out);
    cuda::DecodeAttention(args, {nullptr, false, invariant, c.workspace.As<void>(), c.counters.As<void>()});
    ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    ExpectNear(c, out, expected);
    if (::testing::Test::HasFatalFailure()) return;
    for (int64_t r = 0; r < c.rows; ++r) {
      for (int64_t h = 0; h < c.heads; ++h) std::fill_n(&out(r, h, 0), kLatents, bf16{0xffff});
    }
    for (size_t i = 0; i < found.bytes(); ++i) ASSERT_EQ(found.As<uint8_t>()[i], 0xff);
  }
}

// What the cache holds.
class CudaDecodeAttentionCacheTest : public CudaDecodeAttentionTest, public ::testing::WithParamInterface<bool> {
 protected:
  bool fp8() const { return GetParam(); }
};

INSTANTIATE_TEST_SUITE_P(Caches, CudaDecodeAttentionCacheTest, ::testing::Bool(),
                         [](const auto& test) { return test.param ? "fp8" : "bf16"; });

TEST_P(CudaDecodeAttentionCacheTest, OneSequenceAgreesWithRef) {
  for (int64_t heads : {1, 5, 16, 24, 64, 128}) {
    for (int32_t length : {0, 1, 15, 63, 64, 65, 200, 511, 1000, 2100, 4096}) {
      if (heads > 16 && length > 2100) continue;
      SCOPED_TRACE(::testing::Message() << "heads " << heads << " length " << length);
      CheckAgainstRef(Case(rng_, heads, 64, {length}, {0}, {length}, fp8()));
      if (HasFatalFailure()) return;
    }
  }
  CheckAgainstRef(Case(rng_, 2, 64, {40000}, {0}, {40000}, fp8()));
}

TEST_P(CudaDecodeAttentionCacheTest, OtherPageSizesAgreeWithRef) {
  for (int64_t page_size : {8, 16, 32, 128, 192}) {
    for (int64_t heads : {8, 64}) {
      SCOPED_TRACE(::testing::Message() << "page size " << page_size << " heads " << heads);
      CheckAgainstRef(Case(rng_, heads, page_size, {777, 130, 9}, {1, 0, 2, 0}, {130, 777, 9, 641}, fp8()));
      if (HasFatalFailure()) return;
    }
  }
}

// Every number of heads a CTA takes, rows cut and whole, more rows than CTAs, very unequal rows, rows of length 0.
TEST_P(CudaDecodeAttentionCacheTest, RaggedBatchesAgreeWithRef) {
  for (const auto& [heads, rows] :
       {std::pair{16, 3}, {64, 7}, {4, 20}, {64, 30}, {16, 132}, {8, 133}, {3, 300}, {72, 110}}) {
    SCOPED_TRACE(::testing::Message() << "heads " << heads << " rows " << rows);
    std::vector<int32_t> sequences, lengths;
    for (int r = 0; r < rows; ++r) {
      const auto any = [&](int most) { return std::uniform_int_distribution<int32_t>(0, most)(rng_); };
      sequences.push_back(any(2));
      lengths.push_back(r % 7 == 3 ? 0 : r % 11 == 5 ? any(1500) : any(130));
    }
    lengths[static_cast<size_t>(rows) / 2] = 1500;
    CheckAgainstRef(Case(rng_, heads, 64, {1500, 1500, 1500}, sequences, lengths, fp8()));
    if (HasFatalFailure()) return;
  }
}

TEST_P(CudaDecodeAttentionCacheTest, ARowDoesNotDependOnItsBatch) {
  std::vector<int32_t> sequences, lengths;
  for (int r = 0; r < 300; ++r) {
    sequences.push_back(r % 3);
    lengths.push_back(r % 5 == 0   ? 40 * r
                      : r % 5 == 1 ? 64 * (r % 40)
                                   : std::uniform_int_distribution<int32_t>(1, 900)(rng_));
  }
  for (int64_t heads : {16, 64}) {
    const Case c(rng_, heads, 64, {12000, 12000, 12000}, sequences, lengths, fp8());
    const std::vector<bf16> all = Attend(c, c.args);
    const auto size = static_cast<size_t>(heads * kLatents);
    for (const auto& [first, count] : {std::pair{0, 132},
                                       {0, 131},
                                       {100, 64},
                                       {7, 25},
                                       {200, 20},
                                       {290, 5},
                                       {280, 2},
                                       {295, 1},
                                       {290, 1},
                                       {231, 1},
                                       {3, 1},
                                       {11, 1},
                                       {0, 1}}) {
      const std::vector<bf16> some = Attend(c, c.Rows(first, count));
      for (int r = 0; r < count; ++r) {
        ASSERT_EQ(std::memcmp(some.data() + size * r, all.data() + size * (first + r), size * 2), 0)
            << "heads " << heads << " row " << first + r << " of length " << lengths[static_cast<size_t>(first + r)]
            << " in " << count << " rows from " << first;
      }
    }
  }
}

TEST_F(CudaDecodeAttentionTest, AGraphTakesNewLengthsAndRepeatsItsBits) {
  const Case c(rng_, 64, 64, {3000, 3000}, {0, 1}, {3000, 1});
  const std::vector<std::vector<int32_t>> lengths = {{3000, 1}, {64, 2999}, {0, 0}, {1700, 1700}};
  auto* const row_length = const_cast<int32_t*>(c.args.row_length.data);
  const auto set = [&](const std::vector<int32_t>& to) { row_length[0] = to[0], row_length[2] = to[1]; };
  ManagedMemory out(2 * 64 * kLatents * 2);
  DecodeAttentionArgs args = c.args;
  args.out = FloatOutput<3>(View<bf16, 3>::Contiguous(out.As<bf16>(), {2, 64, kLatents}));
  for (bool invariant : {false, true}) {
    std::vector<std::vector<bf16>> plain;
    for (const auto& l : lengths) {
      set(l);
      plain.push_back(Attend(c, c.args, false, invariant));
    }
    for (bool programmatic : {false, true}) {
      cudaStream_t stream = nullptr;
      cudaGraph_t graph = nullptr;
      cudaGraphExec_t exec = nullptr;
      ASSERT_EQ(cudaStreamCreate(&stream), cudaSuccess);
      ASSERT_EQ(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal), cudaSuccess);
      for (int i = 0; i < 5; ++i) {
        cuda::DecodeAttention(args, {stream, programmatic, invariant, c.workspace.As<void>(), c.counters.As<void>()});
      }
      ASSERT_EQ(cudaStreamEndCapture(stream, &graph), cudaSuccess);
      ASSERT_EQ(cudaGraphInstantiate(&exec, graph, 0), cudaSuccess);
      for (int i = 0; i < 40; ++i) {
        const auto which = static_cast<size_t>(i) % lengths.size();
        set(lengths[which]);
        std::memset(out.As<void>(), 0xff, out.bytes());
        ASSERT_EQ(cudaGraphLaunch(exec, stream), cudaSuccess);
        ASSERT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
        ASSERT_EQ(std::memcmp(out.As<bf16>(), plain[which].data(), plain[which].size() * 2), 0) << i;
      }
      cudaGraphExecDestroy(exec);
      cudaGraphDestroy(graph);
      cudaStreamDestroy(stream);
    }
  }
}

// Rows of o_proj's input in one of the formats that the projection writes, and the bytes that they lie in.
struct Projected {
  Projected(int which, int64_t rows, int64_t columns)
      : memory(static_cast<size_t>(rows * columns * 2)), scales(static_cast<size_t>(rows * columns / 8)) {
    if (which == 0) {
      out = ActivationOutput<2>(View<bf16, 2>::Contiguous(memory.As<bf16>(), {rows, columns}));
    } else if (which == 1) {
      out = ActivationOutput<2>(Mxfp4<e2m1x2, 2>{View<e2m1x2, 2>::Contiguous(memory.As<e2m1x2>(), {rows, columns / 2}),
                                                 View<e8m0, 2>::Contiguous(scales.As<e8m0>(), {rows, columns / 32})});
    } else {
      out =
          ActivationOutput<2>(Fp8Group<e4m3, 2>{View<e4m3, 2>::Contiguous(memory.As<e4m3>(), {rows, columns}),
                                                View<float, 2>::Contiguous(scales.As<float>(), {rows, columns / 128})});
    }
  }
  std::variant<FloatOutput<3>, ActivationOutput<2>> out;
  ManagedMemory memory, scales;
};

// Parts that the V projection joins give the bits of attention that joins them itself.
TEST_P(CudaDecodeAttentionCacheTest, JoinedByTheProjectionItIsTheSame) {
  constexpr int64_t kColumns = 128;
  for (int64_t heads : {3, 16, 64}) {
    for (const auto& lengths : {std::vector<int32_t>{1}, {64}, {65}, {2900}, {9000}, {0}, {2900, 130}, {0, 700}}) {
      for (bool invariant : {true, false}) {
        SCOPED_TRACE(::testing::Message() << heads << " heads, " << lengths[0] << " tokens, " << lengths.size()
                                          << " rows" << (invariant ? ", batch-invariant" : ""));
        std::vector<int32_t> sequences(lengths.size());
        std::iota(sequences.begin(), sequences.end(), 0);
        const Case c(rng_, heads, 64, {lengths.begin(), lengths.end()}, sequences, lengths, fp8());
        ManagedMemory attended(static_cast<size_t>(c.rows * heads * kLatents) * 2);
        DecodeAttentionArgs args = c.args;
        const auto attn = View<bf16, 3>::Contiguous(attended.As<bf16>(), {c.rows, heads, kLatents});
        args.out = FloatOutput<3>(attn);
        const cuda::DecodeAttentionOptions options{nullptr, false, invariant, c.workspace.As<void>(),
                                                   c.counters.As<void>()};
        cuda::DecodeAttention(args, options);
        for (int which = 0; which < 3; ++which) {
          const testing::RandomWeight weight(rng_, testing::kFormats[which], heads * 2 * kColumns, kLatents);
          ValueProjectArgs project;
          project.attn = Activation<3>(View<const bf16, 3>(attn));
          project.w_vc = {weight.weight, heads, 2 * kColumns, kColumns, kColumns};
          const Projected expected(which, c.rows, heads * kColumns), found(which, c.rows, heads * kColumns);
          project.out = expected.out;
          cuda::ValueProject(project, {nullptr, false});
          ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
          const cuda::AttentionParts parts = cuda::DecodeAttentionInParts(args, options);
          ManagedMemory unread(attended.bytes());
          project.attn = Activation<3>(View<const bf16, 3>::Contiguous(unread.As<bf16>(), {c.rows, heads, kLatents}));
          project.out = found.out;
          cuda::ValueProject(project, parts, {nullptr, false});
          ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
          ASSERT_EQ(std::memcmp(expected.memory.As<void>(), found.memory.As<void>(), found.memory.bytes()), 0);
          ASSERT_EQ(std::memcmp(expected.scales.As<void>(), found.scales.As<void>(), found.scales.bytes()), 0);
        }
      }
    }
  }
  const Case c(rng_, 2, 64, {70}, {0, 0, 0}, {70, 1, 2}, fp8());
  DecodeAttentionArgs args = c.args;
  ManagedMemory out(3 * 2 * kLatents * 2);
  args.out = FloatOutput<3>(View<bf16, 3>::Contiguous(out.As<bf16>(), {3, 2, kLatents}));
  EXPECT_THROW(
      cuda::DecodeAttentionInParts(args, {nullptr, false, true, c.workspace.As<void>(), c.counters.As<void>()}), Error);
}

// A NaN in the cache is seen by the rows that read it, and by no others.
TEST_F(CudaDecodeAttentionTest, PoisonStaysInItsRows) {
  const Case c(rng_, 16, 64, {500, 500}, {0, 0, 1}, {300, 400, 500});
  const auto& kv = std::get<View<const bf16, 3>>(c.args.kv_pages);
  const_cast<bf16&>(kv(c.args.block_table(0, 350 / 64), 350 % 64, 7)) = {0x7fc0};
  const std::vector<bf16> out = Attend(c, c.args);
  for (size_t i = 0; i < out.size(); ++i) {
    ASSERT_EQ(std::isnan(out[i].ToFloat()), i / (16 * kLatents) == 1) << i;
  }
}

TEST_F(CudaDecodeAttentionTest, PoisonOfAnFp8CacheStaysInItsRows) {
  for (int what = 0; what < 3; ++what) {
    SCOPED_TRACE(what == 0 ? "a code" : what == 1 ? "a scale" : "a key");
    const Case c(rng_, 16, 64, {500, 500}, {0, 0, 1}, {300, 400, 500}, true);
    const Fp8Kv<e4m3, 3> kv = c.Fp8Planes();
    const int64_t page = c.args.block_table(0, 350 / 64), row = 350 % 64;
    if (what == 0) kv.latent.values(page, row, 131) = {0xff};
    if (what == 1) kv.latent.scales(page, row, 2) = std::numeric_limits<float>::quiet_NaN();
    if (what == 2) kv.key(page, row, 9) = {0x7fc0};
    const std::vector<bf16> out = Attend(c, c.args);
    for (size_t i = 0; i < out.size(); ++i) {
      ASSERT_EQ(std::isnan(out[i].ToFloat()), i / (16 * kLatents) == 1) << i;
    }
  }
}

TEST_F(CudaDecodeAttentionTest, EmptyBatchAndRefusals) {
  const Case c(rng_, 2, 64, {70}, {0}, {70}), c8(rng_, 2, 64, {70}, {0}, {70}, true);
  const Case* called = &c;
  ManagedMemory out(4096);
  const auto refused = [&](const auto& change) {
    DecodeAttentionArgs args = called->args;
    args.out = FloatOutput<3>(View<bf16, 3>::Contiguous(out.As<bf16>(), {1, 2, kLatents}));
    cuda::DecodeAttentionOptions options{nullptr, false, true, called->workspace.As<void>(),
                                         called->counters.As<void>()};
    change(args, options);
    try {
      cuda::DecodeAttention(args, options);
    } catch (const Error& error) {
      return error.code() == ErrorCode::kLayout;
    }
    return false;
  };
  using Args = DecodeAttentionArgs;
  using Options = cuda::DecodeAttentionOptions;
  EXPECT_TRUE(refused([](Args& a, Options&) { std::get<View<const bf16, 3>>(a.query).stride[1] = 577; }));
  EXPECT_TRUE(refused([](Args& a, Options&) { std::get<View<const bf16, 3>>(a.query).shape[2] = 512; }));
  EXPECT_TRUE(refused([](Args& a, Options&) { std::get<View<const bf16, 3>>(a.kv_pages).stride[2] = 2; }));
  EXPECT_TRUE(refused([](Args& a, Options&) { std::get<View<const bf16, 3>>(a.kv_pages).shape[1] = 48; }));
  EXPECT_TRUE(refused([](Args& a, Options&) { std::get<View<const bf16, 3>>(a.kv_pages).data += 1; }));
  EXPECT_TRUE(refused([](Args& a, Options&) { a.kv_lora_rank = 448; }));
  EXPECT_TRUE(refused([](Args& a, Options&) { a.row_length.shape[0] = 2; }));
  EXPECT_TRUE(refused([](Args&, Options& o) { o.workspace = nullptr; }));
  EXPECT_TRUE(refused([](Args&, Options& o) { o.counters = nullptr; }));
  EXPECT_TRUE(refused([&](Args& a, Options&) {
    a.out = FloatOutput<3>(View<float, 3>::Contiguous(out.As<float>(), {1, 2, kLatents}));
  }));
  EXPECT_TRUE(refused([&](Args& a, Options&) {
    a.out = FloatOutput<3>(View<bf16, 3>{out.As<bf16>(), {1, 2, kLatents}, {2048, kLatents + 4, 1}});
  }));
  called = &c8;
  using Fp8 = Fp8Kv<const e4m3, 3>;
  EXPECT_FALSE(refused([](Args&, Options&) {}));
  ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  std::memset(out.As<void>(), 0xff, out.bytes());
  EXPECT_TRUE(refused([](Args& a, Options&) { std::get<Fp8>(a.kv_pages).latent.values.data += 8; }));
  EXPECT_TRUE(refused([](Args& a, Options&) { std::get<Fp8>(a.kv_pages).latent.scales.stride[1] += 1; }));
  EXPECT_TRUE(refused([](Args& a, Options&) { std::get<Fp8>(a.kv_pages).latent.scales.stride[2] = 2; }));
  EXPECT_TRUE(refused([](Args& a, Options&) { std::get<Fp8>(a.kv_pages).key.stride[1] += 4; }));
  DecodeAttentionArgs none = c.Rows(0, 0);
  none.out = FloatOutput<3>(View<bf16, 3>::Contiguous(out.As<bf16>(), {0, 2, kLatents}));
  cuda::DecodeAttention(none, {nullptr, false, true, c.workspace.As<void>(), c.counters.As<void>()});
  ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  for (size_t i = 0; i < out.bytes(); ++i) ASSERT_EQ(out.As<uint8_t>()[i], 0xff);
}

}  // namespace
}  // namespace mxmla
