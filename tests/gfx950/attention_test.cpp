// Decode attention on the matrix units against `ref`: caches in bf16 and FP8, lengths around the edges of steps, pages
// and splits, ragged heads, rows of length 0, rows that chose their tokens, poison.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <random>

#include "core/float_view.h"
#include "core/thread_pool.h"
#include "hip/backend.h"
#include "hip/decode_attention.h"
#include "hip/library.h"
#include "ref/backend.h"

namespace mxmla {
namespace {

constexpr int64_t kLatents = 512, kWidth = 576;

template <class T>
class Shared {
 public:
  explicit Shared(int64_t count, int fill = 0xff) : count_(count) {
    void* data = nullptr;
    const auto bytes = static_cast<size_t>(count) * sizeof(T);
    hip::Check(hip::Hip().host_malloc(&data, bytes, hipHostMallocDefault), "test", "memory");
    std::memset(data, fill, bytes);
    data_ = static_cast<T*>(data);
  }
  ~Shared() { static_cast<void>(hip::Hip().host_free(data_)); }
  Shared(const Shared&) = delete;

  T* data() const { return data_; }
  T& operator[](int64_t i) const { return data_[i]; }
  int64_t size() const { return count_; }

 private:
  T* data_ = nullptr;
  int64_t count_;
};

struct Case {
  int64_t heads, page_size;
  std::vector<int32_t> lengths;  // of each row, a sequence each
  int64_t most_chosen = 0;       // tokens that a row attends to; 0: all
};

class HipAttention : public testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    if (const std::string why = hip::WhyUnusable(0); !why.empty()) GTEST_SKIP() << why;
  }

  // The result of `ref` and of the kernel, rows in `batch` pieces.
  void Run(const Case& c, int64_t poisoned_row, std::vector<float>* expected, std::vector<float>* found, int64_t piece,
           const std::function<void(const ExecContext&, const DecodeAttentionArgs&)>& also = {}) {
    const auto rows = static_cast<int64_t>(c.lengths.size());
    int64_t longest = 1;
    for (const int32_t length : c.lengths) longest = std::max<int64_t>(longest, length);
    const int64_t pages_of_row = (longest + c.page_size - 1) / c.page_size + 1, pages = rows * pages_of_row;
    std::mt19937 rng(5);
    std::uniform_real_distribution<float> uniform(-1, 1);
    // Pages in a random order; what no row reads stays NaN.
    std::vector<int32_t> order(static_cast<size_t>(pages));
    for (int32_t i = 0; i < pages; ++i) order[static_cast<size_t>(i)] = i;
    std::shuffle(order.begin(), order.end(), rng);
    const Shared<int32_t> table(pages), sequence(rows), length(rows);
    for (int64_t i = 0; i < pages; ++i) table[i] = order[static_cast<size_t>(i)];
    for (int64_t r = 0; r < rows; ++r) {
      sequence[r] = static_cast<int32_t>(r);
      length[r] = c.lengths[static_cast<size_t>(r)];
    }
    const Shared<bf16> query(rows * c.heads * kWidth), plain(pages * c.page_size * kWidth);
    const int64_t fp8_row = Fp8KvRowStride(kLatents, kWidth - kLatents);
    const Shared<e4m3> fp8(pages * c.page_size * fp8_row);
    const Fp8Kv<e4m3, 3> fp8_pages = Fp8KvPages(fp8.data(), pages, c.page_size, kLatents, kWidth - kLatents);
    for (int64_t i = 0; i < query.size(); ++i) query[i] = bf16::FromFloat(uniform(rng));
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t t = 0; t < length[r]; ++t) {
        const int64_t page = table[r * pages_of_row + t / c.page_size], in_page = t % c.page_size;
        bf16* row = plain.data() + (page * c.page_size + in_page) * kWidth;
        for (int64_t k = 0; k < kWidth; ++k) {
          const float value = uniform(rng);
          row[k] = bf16::FromFloat(value);
          if (k < kLatents) {
            fp8_pages.latent.values(page, in_page, k) = e4m3::FromFloat(400 * value);
            fp8_pages.latent.scales(page, in_page, k / 128) = 1.0f / 400 * static_cast<float>(1 + k / 128 + t % 3);
          } else {
            fp8_pages.key(page, in_page, k - kLatents) = bf16::FromFloat(value);
          }
        }
        if (r == poisoned_row && t == length[r] / 2) {
          row[7] = bf16::FromFloat(std::nanf(""));
          fp8_pages.latent.scales(page, in_page, 0) = std::nanf("");
        }
      }
    }
    const Shared<int32_t> chosen(rows * c.most_chosen);
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t i = 0; i < c.most_chosen && length[r] > c.most_chosen; ++i) {
        chosen[r * c.most_chosen + i] = static_cast<int32_t>((i + 1) * length[r] / c.most_chosen - 1);
      }
    }
    KvInput<3> kv = View<const bf16, 3>::Contiguous(plain.data(), {pages, c.page_size, kWidth});
    if (GetParam()) kv = Fp8Kv<const e4m3, 3>(fp8_pages);
    const Shared<float> want(rows * c.heads * kLatents), got(rows * c.heads * kLatents);
    const auto view = [&](const Shared<float>& to) {
      return View<float, 3>::Contiguous(to.data(), {rows, c.heads, kLatents});
    };
    DecodeAttentionArgs args{View<const bf16, 3>::Contiguous(query.data(), {rows, c.heads, kWidth}),
                             kv,
                             View<const int32_t, 2>::Contiguous(table.data(), {rows, pages_of_row}),
                             View<const int32_t, 1>::Contiguous(sequence.data(), {rows}),
                             View<const int32_t, 1>::Contiguous(length.data(), {rows}),
                             kLatents,
                             0.07f,
                             FloatOutput<3>(view(want))};
    if (c.most_chosen > 0) args.chosen = View<const int32_t, 2>::Contiguous(chosen.data(), {rows, c.most_chosen});
    ThreadPool pool(2);
    ExecContext on_host, on_device;
    on_host.pool = on_device.pool = &pool;
    on_host.kernels = &RefKernels();
    on_device.kernels = &hip::Kernels();
    WorkspaceSize of_ref;
    of_ref.per_worker = size_t{1} << 20;
    std::vector<std::byte> workers(2 * of_ref.per_worker);
    on_host.workspace = {nullptr, workers.data(), of_ref, nullptr};
    DecodeAttention(on_host, args);
    ASSERT_TRUE(hip::HonoursDecodeAttention(args));
    const WorkspaceSize size = hip::DecodeAttentionWorkspace(args, 1);
    const Shared<std::byte> workspace(static_cast<int64_t>(size.shared));
    on_device.workspace = {workspace.data(), nullptr, size, nullptr};
    for (int64_t r = 0; r < rows; r += piece) {
      const int64_t count = std::min(piece, rows - r);
      DecodeAttentionArgs part = args;
      part.query = std::get<View<const bf16, 3>>(args.query).Rows(r, count);
      part.row_sequence = View<const int32_t, 1>::Contiguous(sequence.data() + r, {count});
      part.row_length = View<const int32_t, 1>::Contiguous(length.data() + r, {count});
      if (args.chosen) part.chosen = args.chosen->Rows(r, count);
      part.out = FloatOutput<3>(view(got).Rows(r, count));
      hip::DecodeAttention(on_device, part);
    }
    if (also) also(on_device, args);
    expected->assign(want.data(), want.data() + want.size());
    found->assign(got.data(), got.data() + got.size());
  }
};

TEST_P(HipAttention, IsRefs) {
  for (const Case& c : {Case{16, 64, {1, 31, 32, 33, 64, 65, 0, 200}}, Case{5, 16, {100, 3, 0}}, Case{20, 1, {40}},
                        Case{3, 64, {1100, 513, 512}}, Case{5, 16, {300, 64, 65, 0, 9, 130}, 64}}) {
    SCOPED_TRACE(testing::Message() << c.heads << " heads, pages of " << c.page_size);
    std::vector<float> expected, found;
    Run(c, -1, &expected, &found, 100);
    ASSERT_EQ(expected.size(), found.size());
    for (size_t i = 0; i < expected.size(); ++i) {
      ASSERT_FALSE(std::isnan(found[i])) << i;
      // Weights are rounded to bf16 for the second product: relative to the largest latents, 1 and 6.
      ASSERT_NEAR(found[i], expected[i], GetParam() ? 2.4e-2f : 6e-3f) << i;
    }
  }
}

TEST_P(HipAttention, ARowsBitsDependOnNothingBesideIt) {
  for (const int64_t most_chosen : {0, 100}) {
    const Case c{8, 64, {40, 700, 0, 129, 64}, most_chosen};
    std::vector<float> expected, together, alone;
    Run(c, -1, &expected, &together, 100);
    Run(c, -1, &expected, &alone, 1);
    EXPECT_EQ(0, std::memcmp(together.data(), alone.data(), together.size() * sizeof(float)));
  }
}

TEST_P(HipAttention, PoisonStaysInItsRow) {
  const Case c{16, 64, {70, 90, 33}};
  std::vector<float> expected, found;
  Run(c, 1, &expected, &found, 100);
  const int64_t of_row = c.heads * kLatents;
  for (int64_t i = 0; i < 3 * of_row; ++i) {
    const bool poisoned = i / of_row == 1;
    ASSERT_EQ(std::isnan(found[static_cast<size_t>(i)]), poisoned) << i;
    ASSERT_EQ(std::isnan(expected[static_cast<size_t>(i)]), poisoned) << i;
  }
}

// What o_proj reads, in each format, and what the V projection reads, where that is quantised.
struct Projected {
  Shared<bf16> half;
  Shared<e2m1x2> codes;
  Shared<e8m0> scales;
  Shared<e4m3> fp8;
  Shared<float> fp8_scales;

  Projected(int64_t rows, int64_t columns)
      : half(rows * columns),
        codes(rows * columns / 2),
        scales(rows * columns / 32),
        fp8(rows * columns),
        fp8_scales(rows * ((columns + 127) / 128)) {}

  Mxfp4<e2m1x2, 2> Mx(int64_t rows, int64_t columns) const {
    return {View<e2m1x2, 2>::Contiguous(codes.data(), {rows, columns / 2}),
            View<e8m0, 2>::Contiguous(scales.data(), {rows, columns / 32})};
  }
  Fp8Group<e4m3, 2> Fp8(int64_t rows, int64_t columns) const {
    return {View<e4m3, 2>::Contiguous(fp8.data(), {rows, columns}),
            View<float, 2>::Contiguous(fp8_scales.data(), {rows, (columns + 127) / 128})};
  }
  void ExpectSameBits(const Projected& other) const {
    const auto same = [](const auto& a, const auto& b) {
      return std::memcmp(a.data(), b.data(), static_cast<size_t>(a.size()) * sizeof(a[0])) == 0;
    };
    EXPECT_TRUE(same(half, other.half));
    EXPECT_TRUE(same(codes, other.codes));
    EXPECT_TRUE(same(scales, other.scales));
    EXPECT_TRUE(same(fp8, other.fp8));
    EXPECT_TRUE(same(fp8_scales, other.fp8_scales));
  }
};

// The V projection that merges the splits itself, in its three kinds of output, against attention, merging and the
// projection apart: the same bits. Weights in BF16, FP8 and MXFP4; the last two with inputs of the same format, which
// are quantised between.
TEST_P(HipAttention, AttendProjectIsItsParts) {
  constexpr int64_t kValues = 128;
  enum class Weights { kBf16, kFp8, kMxfp4 };
  for (const Case& c : {Case{3, 64, {40, 700, 0, 129, 64}}, Case{3, 64, {40, 700, 0, 129, 64}, 100},
                        Case{2, 16, {33, 1, 64, 5, 100, 90, 2, 31, 32, 65, 7, 8, 9, 10, 11, 12, 40, 513}}}) {
    for (const Weights kind : {Weights::kBf16, Weights::kFp8, Weights::kMxfp4}) {
      SCOPED_TRACE(testing::Message() << c.lengths.size() << " rows, weights " << static_cast<int>(kind));
      const auto rows = static_cast<int64_t>(c.lengths.size());
      const int64_t of_weights = c.heads * kValues, columns = c.heads * kValues;
      const Projected w(of_weights, kLatents), together(rows, columns), apart(rows, columns),
          between(rows * c.heads, kLatents);
      std::mt19937 rng(7);
      std::uniform_real_distribution<float> uniform(-1, 1);
      for (int64_t i = 0; i < of_weights * kLatents; ++i) {
        w.half[i] = bf16::FromFloat(uniform(rng));
        w.fp8[i] = e4m3::FromFloat(100 * uniform(rng));
        w.codes[i / 2].bits = static_cast<uint8_t>(rng());
        w.scales[i / 32].bits = static_cast<uint8_t>(120 + rng() % 5);
      }
      const Shared<float> squares(of_weights / 128 * kLatents / 128);
      for (int64_t i = 0; i < squares.size(); ++i) squares[i] = 0.01f + 0.001f * static_cast<float>(i % 5);
      LinearWeight weights = View<const bf16, 2>::Contiguous(w.half.data(), {of_weights, kLatents});
      if (kind == Weights::kFp8) {
        weights = Fp8Block{View<const e4m3, 2>::Contiguous(w.fp8.data(), {of_weights, kLatents}),
                           View<const float, 2>::Contiguous(squares.data(), {of_weights / 128, kLatents / 128})};
      } else if (kind == Weights::kMxfp4) {
        const Mxfp4<e2m1x2, 2> mx = w.Mx(of_weights, kLatents);
        weights = Mxfp4<const e2m1x2, 2>{mx.values, mx.scales};
      }
      const Shared<bf16> attended(rows * c.heads * kLatents, 0x7f);
      std::vector<float> expected, found;
      Run(c, -1, &expected, &found, 100, [&](const ExecContext& context, const DecodeAttentionArgs& attention) {
        for (const Projected* to : {&together, &apart}) {
          for (const ActivationOutput<2>& out :
               {ActivationOutput<2>(View<bf16, 2>::Contiguous(to->half.data(), {rows, columns})),
                ActivationOutput<2>(to->Mx(rows, columns)), ActivationOutput<2>(to->Fp8(rows, columns))}) {
            AttendProjectArgs args{attention, {}};
            const auto plain = View<bf16, 3>::Contiguous(attended.data(), {rows, c.heads, kLatents});
            args.attend.out = FloatOutput<3>(plain);
            args.project = {Activation<3>(View<const bf16, 3>(plain)), {weights, c.heads, kValues, 0, kValues}, {out}};
            if (kind != Weights::kBf16) {
              const QuantizedOutput<2> quantized = kind == Weights::kFp8
                                                       ? QuantizedOutput<2>(between.Fp8(rows * c.heads, kLatents))
                                                       : between.Mx(rows * c.heads, kLatents);
              args.quantize =
                  QuantizeArgs{FloatInput<3>(View<const bf16, 3>(plain)), SplitRows(quantized, rows, c.heads)};
              args.project.attn = AsActivation(args.quantize->out);
            }
            ASSERT_TRUE(hip::HonoursAttendProject(args));
            if (to == &together) {
              hip::AttendProject(context, args);
            } else {
              hip::DecodeAttention(context, args.attend);
              if (args.quantize) Quantize(context, *args.quantize);
              ValueProject(context, args.project);
            }
          }
        }
      });
      together.ExpectSameBits(apart);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Caches, HipAttention, testing::Bool(),
                         [](const auto& cache) { return cache.param ? "fp8" : "bf16"; });

}  // namespace
}  // namespace mxmla
