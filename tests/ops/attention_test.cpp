#include "harness.h"
#include "ops/kernel_set.h"

namespace mxmla::test {
namespace {

using AttentionTest = BackendTest;

struct Size {
  int64_t heads, lora, rope, page_size;
};

// A ragged batch over pages in random order; tokens behind a sequence's end stay NaN. An FP8 cache holds the latent in
// FP8 and the rotated key in bf16.
struct Cache {
  Cache(Rng& rng, Format format, const Size& s, const std::vector<int64_t>& lengths)
      : pages_a_sequence(1), pages(rng, format, {1, 1, 1}), keys(rng, Format::kBf16, {1, 1, 1}) {
    for (int64_t length : lengths) {
      pages_a_sequence = std::max(pages_a_sequence, (length + s.page_size - 1) / s.page_size);
    }
    const auto sequences = static_cast<int64_t>(lengths.size());
    const int64_t count = sequences * pages_a_sequence + 2;
    const bool fp8 = format == Format::kFp8;
    pages = Tensor<3>(rng, format, {count, s.page_size, fp8 ? s.lora : s.lora + s.rope}, {false});
    // Random e4m3 codes are mostly large: as they are, scores would be so large that float32 could not hold their
    // softmax.
    pages.Randomize(rng, fp8 ? 0.3 : 1);
    keys = Tensor<3>(rng, Format::kBf16, {count, s.page_size, fp8 ? s.rope : 0}, {false});
    keys.Randomize(rng);
    std::vector<int32_t> numbers(count);
    for (int64_t i = 0; i < count; ++i) numbers[i] = static_cast<int32_t>(i);
    std::shuffle(numbers.begin(), numbers.end(), rng);
    table.assign(numbers.begin(), numbers.begin() + sequences * pages_a_sequence);
    for (int64_t q = 0; q < sequences; ++q) {
      for (int64_t t = lengths[q]; t < pages_a_sequence * s.page_size; ++t) {
        const int64_t page = table[q * pages_a_sequence + t / s.page_size];
        const auto poison = [&](const auto& plane) {
          if (!plane) return;
          using T = typename std::decay_t<decltype(*plane)>::Element;
          for (int64_t i = 0; i < plane->view.shape[2]; ++i) plane->view(page, t % s.page_size, i) = Canary<T>();
        };
        poison(pages.f32), poison(pages.half), poison(pages.fp8), poison(pages.fp8_scales), poison(keys.half);
      }
    }
    block_table = View<const int32_t, 2>::Contiguous(table.data(), {sequences, pages_a_sequence});
    width = s.lora + s.rope;
    page_size = s.page_size;
    const std::vector<double> latent = pages.Values(), key = keys.Values();
    const int64_t of_latent = fp8 ? s.lora : width;
    for (int64_t row = 0; row < count * s.page_size; ++row) {
      values.insert(values.end(), latent.begin() + row * of_latent, latent.begin() + (row + 1) * of_latent);
      values.insert(values.end(), key.begin() + row * (width - of_latent),
                    key.begin() + (row + 1) * (width - of_latent));
    }
  }
  KvInput<3> In() const {
    if (pages.f32) return View<const float, 3>(pages.f32->view);
    if (pages.half) return View<const bf16, 3>(pages.half->view);
    return Fp8Kv<const e4m3, 3>{{pages.fp8->view, pages.fp8_scales->view}, keys.half->view};
  }
  const double* Token(int64_t sequence, int64_t t) const {
    return values.data() + (block_table(sequence, t / page_size) * page_size + t % page_size) * width;
  }

  int64_t pages_a_sequence;
  Tensor<3> pages;
  Tensor<3> keys;
  OperandVector<int32_t> table;
  View<const int32_t, 2> block_table;
  std::vector<double> values;
  int64_t width = 0;
  int64_t page_size = 0;
};

std::vector<double> Softmax(std::vector<double> scores) {
  const double maximum = *std::max_element(scores.begin(), scores.end());
  double total = 0;
  for (double& score : scores) total += score = std::exp(score - maximum);
  for (double& score : scores) score /= total;
  return scores;
}

TEST_P(AttentionTest, DecodeAgainstFloat64AndBitInvariant) {
  MXMLA_NEEDS(decode_attention);
  // Of several kernels the last, which is for every layout: the others' bits are others, and random strides decide
  // which one takes a call.
  KernelSet kernels = *backend().kernels;
  kernels.decode_attention.erase(kernels.decode_attention.begin(), kernels.decode_attention.end() - 1);
  const Backend general{backend().name, &kernels, backend().partial, {}};
  const Format plain = backend().plain();
  struct Case {
    Size size;
    Format cache;
  };
  std::vector<Case> cases;
  for (const Size& s :
       {Size{3, 512, 64, 64}, Size{5, 96, 32, 16}, Size{1, 160, 64, 64}, Size{16, 512, 64, 64}, Size{21, 96, 16, 16}}) {
    cases.push_back({s, plain});
    cases.push_back({s, Format::kFp8});
  }
  for (const auto& [s, format] : cases) {
    SCOPED_TRACE(Name(format));
    // No context, one token, one page but one, exactly a page, a page and one, several chunks; two rows of one
    // sequence (causal prefill) at the end.
    const std::vector<int64_t> lengths{1, s.page_size - 1, s.page_size, s.page_size + 1, 512, 513, 1300};
    const Cache cache(rng_, format, s, lengths);
    OperandVector<int32_t> sequence{0, 0, 1, 2, 3, 4, 5, 6, 6}, length{0};
    for (int64_t l : lengths) length.push_back(static_cast<int32_t>(l));
    length.push_back(1299);
    const auto rows = static_cast<int64_t>(sequence.size());
    Tensor<3> query(rng_, plain, {rows, s.heads, cache.width});
    query.Randomize(rng_);
    const float scale = 0.08f;
    const auto run = [&](int threads, int64_t begin, int64_t count, const Tensor<3>& out) {
      DecodeAttentionArgs args;
      args.query = std::visit([&](const auto& v) -> FloatInput<3> { return v.Rows(begin, count); }, query.In());
      args.kv_pages = cache.In();
      args.block_table = cache.block_table;
      args.row_sequence = View<const int32_t, 1>::Contiguous(sequence.data() + begin, {count});
      args.row_length = View<const int32_t, 1>::Contiguous(length.data() + begin, {count});
      args.kv_lora_rank = s.lora;
      args.softmax_scale = scale;
      args.out = std::visit([&](const auto& v) -> FloatOutput<3> { return v.Rows(begin, count); }, out.Out());
      Machine(general, threads).Run([&](const ExecContext& context) { DecodeAttention(context, args); });
    };
    const Tensor<3> out(rng_, plain, {rows, s.heads, s.lora});
    run(2, 0, rows, out);
    ASSERT_TRUE(out.UntouchedOutside());

    const std::vector<double> q = query.Values();
    std::vector<double> expected;
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t h = 0; h < s.heads; ++h) {
        std::vector<double> sum(s.lora);
        if (length[r] > 0) {
          std::vector<double> scores(length[r]);
          for (int64_t t = 0; t < length[r]; ++t) {
            for (int64_t i = 0; i < cache.width; ++i) {
              scores[t] += q[(r * s.heads + h) * cache.width + i] * cache.Token(sequence[r], t)[i];
            }
            scores[t] *= static_cast<double>(scale);
          }
          scores = Softmax(scores);
          for (int64_t t = 0; t < length[r]; ++t) {
            for (int64_t l = 0; l < s.lora; ++l) sum[l] += scores[t] * cache.Token(sequence[r], t)[l];
          }
        }
        expected.insert(expected.end(), sum.begin(), sum.end());
      }
    }
    ASSERT_TRUE(Close(expected, out.Values(), backend().For(plain, 5))) << "heads " << s.heads << " lora " << s.lora;

    // Four rows at most split their contexts over the threads; more rows do not.
    for (const auto& [threads, count] :
         {std::pair{1, rows}, {3, rows}, {2, int64_t{1}}, {1, int64_t{1}}, {3, int64_t{4}}}) {
      const Tensor<3> again(rng_, plain, {rows, s.heads, s.lora});
      for (int64_t r = 0; r < rows; r += count) run(threads, r, std::min(count, rows - r), again);
      ASSERT_EQ(out.Bits(), again.Bits()) << threads << " threads, " << count << " rows at a time";
    }
  }
}

TEST_P(AttentionTest, PrefillAgainstFloat64) {
  MXMLA_NEEDS(prefill_attention);
  const Format plain = backend().plain();
  struct Case {
    Size s;
    int64_t nope, v, first, rows;
  };
  for (const Case& c : {Case{{3, 512, 64, 64}, 128, 128, 0, 1}, Case{{5, 96, 32, 16}, 64, 64, 0, 40},
                        Case{{3, 160, 64, 64}, 128, 96, 100, 33}, Case{{1, 96, 64, 64}, 64, 128, 0, 64}}) {
    for (Format w_format : kFormats) {
      SCOPED_TRACE(testing::Message() << "heads " << c.s.heads << " lora " << c.s.lora << " " << Name(w_format)
                                      << " first " << c.first << " rows " << c.rows);
      const int64_t total = c.first + c.rows;
      const Cache cache(rng_, w_format == Format::kFp8 ? Format::kFp8 : plain, c.s, {total});
      const Weight kv(rng_, w_format, c.s.heads * (c.nope + c.v), c.s.lora);
      const int64_t qk = c.nope + c.s.rope;
      Tensor<3> query(rng_, plain, {c.rows, c.s.heads, qk});
      query.Randomize(rng_);
      const Tensor<3> out(rng_, plain, {c.rows, c.s.heads, c.v});
      PrefillAttentionArgs args;
      args.query = query.In();
      args.kv_pages = cache.In();
      args.block_table = cache.block_table;
      const OperandVector<int32_t> sequence(c.rows, 0), begin{0, static_cast<int32_t>(c.rows)};
      OperandVector<int32_t> length(c.rows);
      for (int64_t r = 0; r < c.rows; ++r) length[r] = static_cast<int32_t>(c.first + r + 1);
      args.row_sequence = View<const int32_t, 1>::Contiguous(sequence.data(), {c.rows});
      args.row_length = View<const int32_t, 1>::Contiguous(length.data(), {c.rows});
      args.segment_begin = View<const int32_t, 1>::Contiguous(begin.data(), {2});
      args.w_kc = {kv.View(), c.s.heads, c.nope + c.v, 0, c.nope};
      args.w_vc = {kv.View(), c.s.heads, c.nope + c.v, c.nope, c.v};
      args.softmax_scale = 0.02f;
      args.out = out.Out();
      Machine(backend(), 2).Run([&](const ExecContext& context) { PrefillAttention(context, args); });
      ASSERT_TRUE(out.UntouchedOutside());

      const std::vector<double> q = query.Values(), w = kv.Values();
      std::vector<double> expected;
      std::vector<double> keys(c.s.heads * total * qk), values(c.s.heads * total * c.v);
      for (int64_t h = 0; h < c.s.heads; ++h) {
        for (int64_t t = 0; t < total; ++t) {
          const double* token = cache.Token(0, t);
          for (int64_t i = 0; i < c.nope + c.v; ++i) {
            double sum = 0;
            for (int64_t l = 0; l < c.s.lora; ++l) sum += w[(h * (c.nope + c.v) + i) * c.s.lora + l] * token[l];
            if (i < c.nope) {
              keys[(h * total + t) * qk + i] = sum;
            } else {
              values[(h * total + t) * c.v + i - c.nope] = sum;
            }
          }
          std::copy_n(token + c.s.lora, c.s.rope, &keys[(h * total + t) * qk + c.nope]);
        }
      }
      for (int64_t r = 0; r < c.rows; ++r) {
        for (int64_t h = 0; h < c.s.heads; ++h) {
          std::vector<double> scores(c.first + r + 1);
          for (size_t t = 0; t < scores.size(); ++t) {
            for (int64_t i = 0; i < qk; ++i) {
              scores[t] += q[(r * c.s.heads + h) * qk + i] * keys[(h * total + static_cast<int64_t>(t)) * qk + i];
            }
            scores[t] *= static_cast<double>(args.softmax_scale);
          }
          scores = Softmax(scores);
          for (int64_t i = 0; i < c.v; ++i) {
            double sum = 0;
            for (size_t t = 0; t < scores.size(); ++t) {
              sum += scores[t] * values[(h * total + static_cast<int64_t>(t)) * c.v + i];
            }
            expected.push_back(sum);
          }
        }
      }
      // A backend with bf16 activations may hold the expanded keys and values in bf16.
      Tolerance tolerance = backend().For(plain);
      if (!backend().is_ref()) tolerance = {0.02, 0.02, 1e-3};
      ASSERT_TRUE(Close(expected, out.Values(), tolerance));

      const Tensor<3> again(rng_, plain, {c.rows, c.s.heads, c.v});
      args.out = again.Out();
      Machine(backend(), 1).Run([&](const ExecContext& context) { PrefillAttention(context, args); });
      ASSERT_EQ(out.Bits(), again.Bits()) << "one thread";
    }
  }
}

// Segments of several sequences, an empty one among them, and padding behind the last: each segment's rows are what a
// call of its own gives, and padding rows of the output are left as they are.
TEST_P(AttentionTest, PrefillSegmentsAreIndependent) {
  MXMLA_NEEDS(prefill_attention);
  const Format plain = backend().plain();
  const Size s{3, 96, 32, 16};
  const int64_t nope = 64, v = 64, rows = 40;
  const std::vector<int64_t> lengths{12, 90, 7, 30};
  const Cache cache(rng_, plain, s, lengths);
  const Weight kv(rng_, Format::kBf16, s.heads * (nope + v), s.lora);
  Tensor<3> query(rng_, plain, {rows, s.heads, nope + s.rope});
  query.Randomize(rng_);
  // Segments of 12, 0, 20 and 5 rows; 3 rows of padding.
  const OperandVector<int32_t> begin{0, 12, 12, 32, 37};
  OperandVector<int32_t> sequence(rows, 0), length(rows, 0);
  for (const auto& [segment, of] : {std::pair{0, 0}, {2, 1}, {3, 3}}) {
    for (int32_t r = begin[segment]; r < begin[segment + 1]; ++r) {
      sequence[r] = of;
      length[r] = static_cast<int32_t>(lengths[of]) - (begin[segment + 1] - 1 - r);
    }
  }
  PrefillAttentionArgs args;
  args.kv_pages = cache.In();
  args.block_table = cache.block_table;
  args.w_kc = {kv.View(), s.heads, nope + v, 0, nope};
  args.w_vc = {kv.View(), s.heads, nope + v, nope, v};
  args.softmax_scale = 0.02f;
  const auto run = [&](const Tensor<3>& out, int64_t first, int64_t count, const OperandVector<int32_t>& segments) {
    args.query = std::visit([&](const auto& q) -> FloatInput<3> { return q.Rows(first, count); }, query.In());
    args.out = std::visit([&](const auto& o) -> FloatOutput<3> { return o.Rows(first, count); }, out.Out());
    args.row_sequence = View<const int32_t, 1>::Contiguous(sequence.data() + first, {count});
    args.row_length = View<const int32_t, 1>::Contiguous(length.data() + first, {count});
    args.segment_begin = View<const int32_t, 1>::Contiguous(segments.data(), {static_cast<int64_t>(segments.size())});
    Machine(backend(), 2).Run([&](const ExecContext& context) { PrefillAttention(context, args); });
  };
  const Tensor<3> together(rng_, plain, {rows, s.heads, v});
  const Tensor<3> alone(rng_, plain, {rows, s.heads, v});
  run(together, 0, rows, begin);
  for (size_t i = 0; i + 1 < begin.size(); ++i)
    run(alone, begin[i], begin[i + 1] - begin[i], {0, begin[i + 1] - begin[i]});
  ASSERT_TRUE(together.UntouchedOutside());
  // The canary of an output is one bit pattern, so untouched padding rows are equal too.
  EXPECT_EQ(together.Bits(), alone.Bits());
}

MXMLA_INSTANTIATE_BACKENDS(AttentionTest);

}  // namespace
}  // namespace mxmla::test
