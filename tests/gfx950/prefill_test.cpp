// Prefill attention of more rows than its workspace holds, which are taken in pieces: the bits of calls that hold all
// of theirs, padding rows left alone, and a workspace that stops growing.
#include "hip/prefill_attention.h"

#include "tensors.h"

namespace mxmla {
namespace {

TEST_F(HipProducts, PrefillInPiecesIsOneCallsBits) {
  // A piece of 256 rows ends inside a segment; four rows of padding follow the last.
  constexpr int64_t kHeads = 64, kNope = 32, kV = 32, kLatents = 512, kRotated = 64, kPage = 32;
  constexpr int64_t kOfSegment = 20, kSegments = 13, kSplit = 7, kRows = kSegments * kOfSegment + 4;
  const Tensor kv_b(rng_, Kind::kBf16, kHeads * (kNope + kV), kLatents);
  const Tensor query(rng_, Kind::kBf16, kRows * kHeads, kNope + kRotated);
  const Tensor pages(rng_, Kind::kBf16, kSegments * kPage, kLatents + kRotated);
  const auto rows_of = [](const Tensor& tensor) { return std::get<View<const bf16, 2>>(tensor.Input()); };
  const Matrix<int32_t> table(kSegments, 1, 0), sequence(1, kRows, 0), length(1, kRows, 0);
  for (int64_t s = 0; s < kSegments; ++s) table.view(s, 0) = static_cast<int32_t>(kSegments - 1 - s);
  for (int64_t r = 0; r < kRows; ++r) {
    const bool padding = r >= kSegments * kOfSegment;
    sequence.view(0, r) = padding ? 0 : static_cast<int32_t>(r / kOfSegment);
    length.view(0, r) = padding ? 0 : static_cast<int32_t>(3 + r % kOfSegment);
  }
  PrefillAttentionArgs args;
  args.kv_pages = rows_of(pages).Split(0, kSegments, kPage);
  args.block_table = table.view;
  args.w_kc = {kv_b.Weights(), kHeads, kNope + kV, 0, kNope};
  args.w_vc = {kv_b.Weights(), kHeads, kNope + kV, kNope, kV};
  args.softmax_scale = 0.05f;
  // `count` rows from `first`, in segments of kOfSegment; the number of launches.
  const auto run = [&](const Matrix<bf16>& out, int64_t first, int64_t count) {
    PrefillAttentionArgs part = args;
    const int64_t segments = std::min(count / kOfSegment, kSegments);
    const Matrix<int32_t> begin(1, segments + 1, 0);
    for (int64_t s = 0; s <= segments; ++s) begin.view(0, s) = static_cast<int32_t>(s * kOfSegment);
    part.query = FloatInput<3>(rows_of(query).Split(0, kRows, kHeads).Slice(0, first, count));
    part.row_sequence = View<const int32_t, 1>{&sequence.view(0, first), {count}, {1}};
    part.row_length = View<const int32_t, 1>{&length.view(0, first), {count}, {1}};
    part.segment_begin = View<const int32_t, 1>{begin.view.data, {segments + 1}, {1}};
    part.out = FloatOutput<3>(out.view.Split(1, kHeads, kV).Slice(0, first, count));
    EXPECT_TRUE(hip::HonoursPrefillAttention(part));
    const WorkspaceSize size = hip::PrefillAttentionWorkspace(part, 1);
    EXPECT_LE(size.shared, size_t{32} << 20);
    const Bytes workspace(size.shared);
    on_device_.workspace = {reinterpret_cast<std::byte*>(workspace.data()), nullptr, size, nullptr};
    CountedAll();
    PrefillAttention(on_device_, part);
    on_device_.workspace = {};
    int64_t launches = 0;
    for (const auto& kernel : CountedAll()) launches += kernel["launches"].get<int64_t>();
    return launches;
  };
  const Matrix<bf16> whole(kRows, kHeads * kV, 8), parts(kRows, kHeads * kV, 8);
  EXPECT_EQ(run(whole, 0, kRows), 2 * 3);
  EXPECT_EQ(run(parts, 0, kSplit * kOfSegment), 3);
  EXPECT_EQ(run(parts, kSplit * kOfSegment, kRows - kSplit * kOfSegment), 3);
  EXPECT_EQ(whole.bytes.Copy(), parts.bytes.Copy());
  EXPECT_TRUE(whole.UntouchedOutside());
  for (int64_t r = kSegments * kOfSegment; r < kRows; ++r) {
    EXPECT_EQ(whole.view(r, 0).bits, 0xa5a5) << "padding row " << r;
  }
}

}  // namespace
}  // namespace mxmla
