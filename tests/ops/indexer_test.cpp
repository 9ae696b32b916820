// The indexer's ops, and attention over what it chose.
#include <numeric>

#include "harness.h"
#include "ops/attention.h"
#include "ops/indexer.h"

namespace mxmla::test {
namespace {

using IndexerTest = BackendTest;

TEST_P(IndexerTest, KeysAreNormedThenRotatedThenPlaced) {
  MXMLA_NEEDS(index_key);
  const Format plain = backend().plain();
  for (const auto& [n, rotated] : {std::pair<int64_t, int64_t>{128, 64}, {24, 8}, {20, 20}, {33, 2}}) {
    for (const bool interleaved : {false, true}) {
      SCOPED_TRACE(testing::Message() << n << " " << rotated << " " << interleaved);
      const int64_t rows = 5, half = rotated / 2;
      Tensor<2> x(rng_, plain, {rows, n});
      x.Randomize(rng_, 3);
      Plane<float, 1> weight(rng_, {n}), bias(rng_, {n});
      Plane<float, 2> cos(rng_, {rows, half}), sin(rng_, {rows, half});
      std::normal_distribution<float> normal;
      for (const auto* plane : {&weight, &bias}) plane->ForEach([&](float& v) { v = normal(rng_); });
      for (const auto* plane : {&cos, &sin}) plane->ForEach([&](float& v) { v = normal(rng_); });
      const Tensor<2> out(rng_, plain, {8, n});
      const OperandVector<int64_t> to{6, 0, 3, 7, 2};
      IndexKeyArgs args;
      args.x = x.In();
      args.weight = weight.view;
      args.bias = bias.view;
      args.eps = 1e-6f;
      args.cos = cos.view;
      args.sin = sin.view;
      args.interleaved = interleaved;
      args.out = out.Out();
      args.out_index = View<const int64_t, 1>::Contiguous(to.data(), {rows});
      Machine(backend()).Run([&](const ExecContext& context) { IndexKey(context, args); });
      ASSERT_TRUE(out.UntouchedOutside());
      const std::vector<double> values = x.Values(), found = out.Values();
      std::vector<double> expected, placed;
      for (int64_t r = 0; r < rows; ++r) {
        const double* row = values.data() + r * n;
        const double mean = std::accumulate(row, row + n, 0.0) / static_cast<double>(n);
        double variance = 0;
        for (int64_t i = 0; i < n; ++i) variance += (row[i] - mean) * (row[i] - mean) / static_cast<double>(n);
        std::vector<double> y(n);
        for (int64_t i = 0; i < n; ++i) {
          y[i] = weight.view(i) * (row[i] - mean) / std::sqrt(variance + 1e-6) + bias.view(i);
        }
        for (int64_t i = 0; i < half; ++i) {
          double& a = y[interleaved ? 2 * i : i];
          double& b = y[interleaved ? 2 * i + 1 : i + half];
          const double turned = a * cos.view(r, i) - b * sin.view(r, i);
          b = b * cos.view(r, i) + a * sin.view(r, i);
          a = turned;
        }
        expected.insert(expected.end(), y.begin(), y.end());
        placed.insert(placed.end(), found.begin() + to[r] * n, found.begin() + (to[r] + 1) * n);
      }
      ASSERT_TRUE(Close(expected, placed, backend().For(plain, 5)));
      for (const int64_t row : {1, 4, 5}) {
        for (int64_t i = 0; i < n; ++i) ASSERT_TRUE(std::isnan(found[row * n + i])) << "a row that was not named";
      }
    }
  }
}

// Small whole numbers, so that every order of summing gives the same score, and many scores are equal.
TEST_P(IndexerTest, TopKTakesTheLargestScoresAndOfEqualOnesTheFirst) {
  MXMLA_NEEDS(index_top_k);
  const Format plain = backend().plain();
  struct Case {
    int64_t heads, n, page_size, k;
  };
  for (const Case& c : {Case{64, 128, 64, 40}, Case{6, 20, 16, 16}, Case{1, 32, 7, 1}, Case{3, 40, 64, 600}}) {
    SCOPED_TRACE(testing::Message() << c.heads << " heads of " << c.n << ", top " << c.k);
    const std::vector<int64_t> lengths{c.k + 1, 820, c.k, 701, 0};
    const int64_t pages_a_sequence = (820 + c.page_size - 1) / c.page_size;
    const auto sequences = static_cast<int64_t>(lengths.size());
    const auto whole = [&](Tensor<3>& tensor, int64_t most) {
      const auto draw = [&] { return static_cast<float>(Uniform(rng_, -most, most)); };
      if (tensor.f32) tensor.f32->ForEach([&](float& v) { v = draw(); });
      if (tensor.half) tensor.half->ForEach([&](bf16& v) { v = bf16::FromFloat(draw()); });
    };
    Tensor<3> pages(rng_, plain, {sequences * pages_a_sequence, c.page_size, c.n}, {false});
    whole(pages, 1);
    OperandVector<int32_t> table(sequences * pages_a_sequence);
    std::iota(table.begin(), table.end(), 0);
    std::shuffle(table.begin(), table.end(), rng_);
    if (c.heads == 1) {  // a sequence's second half repeats its first: nearly every token's score is there twice
      const int64_t half = pages_a_sequence / 2;
      for (int64_t i = 0; i < sequences * pages_a_sequence; ++i) {
        if (i % pages_a_sequence >= half) table[i] = table[i - half];
      }
    }
    const OperandVector<int32_t> sequence{0, 1, 1, 2, 3, 4};
    const OperandVector<int32_t> length{static_cast<int32_t>(c.k + 1), 820, 819, static_cast<int32_t>(c.k), 701, 0};
    const auto rows = static_cast<int64_t>(sequence.size());
    Tensor<3> query(rng_, plain, {rows, c.heads, c.n});
    whole(query, 2);
    Plane<float, 2> weights(rng_, {rows, c.heads});
    weights.ForEach([&](float& v) { v = static_cast<float>(Uniform(rng_, -3, 3)); });

    const auto block_table = View<const int32_t, 2>::Contiguous(table.data(), {sequences, pages_a_sequence});
    const auto run = [&](int threads, int64_t begin, int64_t count, const Plane<int32_t, 2>& chosen) {
      IndexTopKArgs args;
      args.query = std::visit([&](const auto& v) -> FloatInput<3> { return v.Rows(begin, count); }, query.In());
      args.weights = View<const float, 2>(weights.view).Rows(begin, count);
      args.key_pages = pages.In();
      args.block_table = block_table;
      args.row_sequence = View<const int32_t, 1>::Contiguous(sequence.data() + begin, {count});
      args.row_length = View<const int32_t, 1>::Contiguous(length.data() + begin, {count});
      args.chosen = chosen.view.Rows(begin, count);
      Machine(backend(), threads).Run([&](const ExecContext& context) { IndexTopK(context, args); });
    };
    const std::vector<double> q = query.Values(), keys = pages.Values();
    const Plane<int32_t, 2> chosen(rng_, {rows, c.k});
    run(2, 0, rows, chosen);
    ASSERT_TRUE(chosen.UntouchedOutside());
    int64_t ties = 0;
    for (int64_t r = 0; r < rows; ++r) {
      if (length[r] <= c.k) {
        for (int64_t i = 0; i < c.k; ++i) ASSERT_EQ(chosen.view(r, i), Canary<int32_t>()) << "row " << r;
        continue;
      }
      std::vector<double> scores(length[r]);
      for (int64_t t = 0; t < length[r]; ++t) {
        const int64_t row = block_table(sequence[r], t / c.page_size) * c.page_size + t % c.page_size;
        for (int64_t h = 0; h < c.heads; ++h) {
          double dot = 0;
          for (int64_t i = 0; i < c.n; ++i) dot += q[(r * c.heads + h) * c.n + i] * keys[row * c.n + i];
          scores[t] += weights.view(r, h) * std::max(dot, 0.0);
        }
      }
      std::vector<int32_t> order(length[r]);
      std::iota(order.begin(), order.end(), 0);
      std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return scores[a] > scores[b]; });
      if (c.k < length[r]) ties += scores[order[c.k - 1]] == scores[order[c.k]];
      std::sort(order.begin(), order.begin() + c.k);
      for (int64_t i = 0; i < c.k; ++i) ASSERT_EQ(chosen.view(r, i), order[i]) << "row " << r << " number " << i;
    }
    if (c.heads == 1) {
      EXPECT_GT(ties, 0);  // else the test would say nothing of them
    }
    for (const auto& [threads, count] :
         {std::pair{1, rows}, {3, rows}, {3, int64_t{1}}, {1, int64_t{1}}, {4, int64_t{3}}}) {
      const Plane<int32_t, 2> again(rng_, {rows, c.k});
      for (int64_t r = 0; r < rows; r += count) run(threads, r, std::min(count, rows - r), again);
      ASSERT_EQ(chosen.Bits(), again.Bits()) << threads << " threads, " << count << " rows at a time";
    }
  }
}

// Random scores, none equal: the float32 sums of any order agree on all but near-ties, and a row's choice does not
// depend on how the rows are shared among threads.
TEST_P(IndexerTest, TopKOfRandomNumbersIsBitInvariant) {
  MXMLA_NEEDS(index_top_k);
  const Format plain = backend().plain();
  const int64_t heads = 32, n = 128, page_size = 64, k = 100, length = 2000, rows = 3;
  Tensor<3> pages(rng_, plain, {(length + page_size - 1) / page_size, page_size, n}, {false});
  pages.Randomize(rng_);
  Tensor<3> query(rng_, plain, {rows, heads, n});
  query.Randomize(rng_);
  Plane<float, 2> weights(rng_, {rows, heads});
  std::normal_distribution<float> normal;
  weights.ForEach([&](float& v) { v = normal(rng_); });
  OperandVector<int32_t> table(pages.Values().size() / static_cast<size_t>(page_size * n));
  std::iota(table.begin(), table.end(), 0);
  const OperandVector<int32_t> sequence(rows, 0), lengths{1998, 1999, 2000};
  std::vector<std::vector<uint8_t>> bits;
  for (const int threads : {1, 2, 5}) {
    const Plane<int32_t, 2> chosen(rng_, {rows, k});
    IndexTopKArgs args;
    args.query = query.In();
    args.weights = weights.view;
    args.key_pages = pages.In();
    args.block_table = View<const int32_t, 2>::Contiguous(table.data(), {1, static_cast<int64_t>(table.size())});
    args.row_sequence = View<const int32_t, 1>::Contiguous(sequence.data(), {rows});
    args.row_length = View<const int32_t, 1>::Contiguous(lengths.data(), {rows});
    args.chosen = chosen.view;
    Machine(backend(), threads).Run([&](const ExecContext& context) { IndexTopK(context, args); });
    bits.push_back(chosen.Bits());
    for (int64_t i = 1; i < k; ++i) ASSERT_LT(chosen.view(0, i - 1), chosen.view(0, i));
  }
  EXPECT_EQ(bits[0], bits[1]);
  EXPECT_EQ(bits[0], bits[2]);
}

// Attention to chosen tokens is attention to a context of only those tokens, bit for bit.
TEST_P(IndexerTest, SparseAttentionIsAttentionToTheChosenTokens) {
  MXMLA_NEEDS(sparse_attention);
  const Format plain = backend().plain();
  const int64_t heads = 5, lora = 96, rope = 32, width = lora + rope, page_size = 16, k = 600, length = 1300;
  const int64_t pages = (length + page_size - 1) / page_size, short_pages = (k + page_size - 1) / page_size;
  // The chosen tokens lie once more, one after another, in the last pages.
  Tensor<3> cache(rng_, plain, {pages + short_pages, page_size, width}, {false});
  cache.Randomize(rng_);
  std::vector<int32_t> order(length);
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end() - 1, rng_);  // the last token is not chosen: a row does not see it
  std::sort(order.begin(), order.begin() + k);
  const auto copy = [&](const auto& plane) {
    if (!plane) return;
    for (int64_t i = 0; i < k; ++i) {
      for (int64_t j = 0; j < width; ++j) {
        plane->view(pages + i / page_size, i % page_size, j) =
            plane->view(order[i] / page_size, order[i] % page_size, j);
      }
    }
  };
  copy(cache.f32), copy(cache.half);
  OperandVector<int32_t> table(2 * pages, 0);
  std::iota(table.begin(), table.begin() + pages, 0);
  std::iota(table.begin() + pages, table.begin() + pages + short_pages, static_cast<int32_t>(pages));
  const int64_t rows = 4;
  Tensor<3> one(rng_, plain, {1, heads, width});
  one.Randomize(rng_);
  const auto run = [&](OperandVector<int32_t> sequence, OperandVector<int32_t> lengths, bool sparse, int threads) {
    const auto count = static_cast<int64_t>(lengths.size());
    const Tensor<3> out(rng_, plain, {count, heads, lora});
    Plane<int32_t, 2> chosen(rng_, {count, k});
    for (int64_t r = 0; r < count; ++r) {
      for (int64_t i = 0; i < k && lengths[r] > k; ++i) chosen.view(r, i) = order[i];
    }
    DecodeAttentionArgs args;
    args.query = std::visit(
        [&](const auto& v) -> FloatInput<3> {
          auto repeated = v;
          repeated.shape[0] = count;
          repeated.stride[0] = 0;
          return repeated;
        },
        one.In());
    args.kv_pages = std::visit([](const auto& v) -> KvInput<3> { return v; }, cache.In());
    args.block_table = View<const int32_t, 2>::Contiguous(table.data(), {2, pages});
    args.row_sequence = View<const int32_t, 1>::Contiguous(sequence.data(), {count});
    args.row_length = View<const int32_t, 1>::Contiguous(lengths.data(), {count});
    args.kv_lora_rank = lora;
    args.softmax_scale = 0.08f;
    args.out = out.Out();
    if (sparse) args.chosen = chosen.view;
    Machine(backend(), threads).Run([&](const ExecContext& context) { DecodeAttention(context, args); });
    EXPECT_TRUE(out.UntouchedOutside());
    return out.Bits();
  };
  const auto length32 = static_cast<int32_t>(length), k32 = static_cast<int32_t>(k);
  // Rows that choose, beside rows that see no more than k tokens, whose `chosen` is nobody's.
  for (const int threads : {1, 2, 3}) {
    const OperandVector<int32_t> lengths{length32, k32, length32 - 1, 7};
    const std::vector<uint8_t> sparse = run(OperandVector<int32_t>(rows, 0), lengths, true, threads);
    const std::vector<uint8_t> dense = run({1, 0, 1, 0}, {k32, k32, k32, 7}, false, 2);
    ASSERT_EQ(sparse.size(), dense.size());
    EXPECT_EQ(sparse, dense) << threads << " threads";
    EXPECT_NE(sparse, run(OperandVector<int32_t>(rows, 0), lengths, false, 2));
  }
}

MXMLA_INSTANTIATE_BACKENDS(IndexerTest);

}  // namespace
}  // namespace mxmla::test
