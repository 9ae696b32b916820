// What every op's entry point checks before it dispatches, and the bytes it reports. Nothing here allocates unless it
// throws.
#pragma once

#include <fmt/format.h>

#include <optional>

#include "core/scaled.h"
#include "ops/kernel_table.h"

namespace mxmla::internal {

constexpr int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

inline void CheckAtMost(std::string_view op, std::string_view what, int64_t limit, int64_t found) {
  if (found >= 0 && found <= limit) return;
  Fail(ErrorCode::kLayout, fmt::format("{}: {}", op, what), fmt::format("0..{}", limit), std::to_string(found));
}

inline void CheckTrue(std::string_view op, std::string_view what, bool holds, std::string_view expected,
                      std::string_view found) {
  if (!holds) Fail(ErrorCode::kLayout, fmt::format("{}: {}", op, what), expected, found);
}

// The operand's planes agree with one another, and its last dimension suits its format.
template <class T, int Rank>
void CheckPlanes(std::string_view, std::string_view, const View<T, Rank>&) {}

template <class V, int Rank>
void CheckPlanes(std::string_view op, std::string_view name, const Mxfp4<V, Rank>& x) {
  const int last = Rank - 1;
  bool agree = 2 * x.values.shape[last] == kMxBlock * x.scales.shape[last];
  for (int d = 0; d < last; ++d) agree = agree && x.values.shape[d] == x.scales.shape[d];
  if (agree) return;
  Fail(ErrorCode::kLayout, fmt::format("{}: {} (MXFP4)", op, name), "a scale for each 32 elements (16 bytes)",
       fmt::format("values {}, scales {}", FormatDims(x.values.shape.data(), Rank),
                   FormatDims(x.scales.shape.data(), Rank)));
}

template <class V, int Rank>
void CheckPlanes(std::string_view op, std::string_view name, const Fp8Group<V, Rank>& x) {
  const int last = Rank - 1;
  bool agree = CeilDiv(x.values.shape[last], kFp8Group) == x.scales.shape[last];
  for (int d = 0; d < last; ++d) agree = agree && x.values.shape[d] == x.scales.shape[d];
  if (agree) return;
  Fail(ErrorCode::kLayout, fmt::format("{}: {} (FP8 group-128)", op, name), "a scale for each 128 elements",
       fmt::format("values {}, scales {}", FormatDims(x.values.shape.data(), Rank),
                   FormatDims(x.scales.shape.data(), Rank)));
}

inline void CheckPlanes(std::string_view op, std::string_view name, const Fp8Block& x) {
  const bool agree = x.first_row >= 0 && (x.scale_rows == kFp8Block || x.scale_rows == 1) &&
                     CeilDiv(x.first_row + x.values.shape[0], x.scale_rows) <= x.scales.shape[0] &&
                     CeilDiv(x.values.shape[1], kFp8Block) == x.scales.shape[1];
  if (agree) return;
  Fail(ErrorCode::kLayout, fmt::format("{}: {} (FP8 block)", op, name),
       fmt::format("a scale for each {} x 128 elements", x.scale_rows),
       fmt::format("values {} from row {}, scales {}", FormatDims(x.values.shape.data(), 2), x.first_row,
                   FormatDims(x.scales.shape.data(), 2)));
}

// `elements` of a row, in `values`, share a scale.
template <class Weight>
void CheckScaledRows(std::string_view op, std::string_view name, const Weight& x, int64_t elements) {
  if (x.extent(0) == x.scales.shape[0] && x.extent(1) == elements * x.scales.shape[1]) return;
  Fail(ErrorCode::kLayout, fmt::format("{}: {} ({})", op, name, FormatName(x)),
       fmt::format("a scale for each {} elements", elements),
       fmt::format("values {}, scales {}", FormatDims(x.values.shape.data(), 2), FormatDims(x.scales.shape.data(), 2)));
}
inline void CheckPlanes(std::string_view op, std::string_view name, const Mxfp8& x) {
  CheckScaledRows(op, name, x, kMxBlock);
}
inline void CheckPlanes(std::string_view op, std::string_view name, const Int4Group& x) {
  CheckScaledRows(op, name, x, kInt4Group);
}
inline void CheckPlanes(std::string_view op, std::string_view name, const Nvfp4& x) {
  CheckScaledRows(op, name, x, kNvBlock);
}
template <class Block>
void CheckPlanes(std::string_view, std::string_view, const GgmlMatrix<Block>&) {}

template <class... Alternatives>
void CheckPlanes(std::string_view op, std::string_view name, const std::variant<Alternatives...>& any) {
  std::visit([&](const auto& view) { CheckPlanes(op, name, view); }, any);
}

// The heads lie inside the tensor.
inline void CheckHeadWeight(std::string_view op, std::string_view name, const HeadWeight& weight) {
  CheckPlanes(op, name, weight.tensor);
  const int64_t rows = RowCount(weight.tensor);
  const bool inside =
      weight.heads >= 0 && weight.head_stride >= 0 && weight.head_offset >= 0 && weight.head_rows >= 0 &&
      (weight.heads == 0 || (weight.heads - 1) * weight.head_stride + weight.head_offset + weight.head_rows <= rows);
  if (inside) return;
  Fail(ErrorCode::kLayout, fmt::format("{}: {}", op, name), fmt::format("heads inside the tensor's {} rows", rows),
       fmt::format("{} heads of {} rows, {} apart from row {}", weight.heads, weight.head_rows, weight.head_stride,
                   weight.head_offset));
}

// The bytes of all planes.
template <class T, int Rank>
int64_t Bytes(const View<T, Rank>& view) {
  return view.size() * static_cast<int64_t>(sizeof(T));
}
template <class V, int Rank>
int64_t Bytes(const Mxfp4<V, Rank>& x) {
  return Bytes(x.values) + Bytes(x.scales);
}
template <class V, int Rank>
int64_t Bytes(const Fp8Group<V, Rank>& x) {
  return Bytes(x.values) + Bytes(x.scales);
}
template <class... Alternatives>
int64_t Bytes(const std::variant<Alternatives...>& any) {
  return std::visit([](const auto& view) { return Bytes(view); }, any);
}
inline int64_t Bytes(const HeadWeight& weight) {
  return weight.heads == 0 ? 0 : weight.heads * ByteCount(weight.Head(0));
}
template <class T>
int64_t Bytes(const std::optional<T>& any) {
  return any ? Bytes(*any) : 0;
}

template <class Variant>
int64_t ElementSize(const Variant& any) {
  return std::visit([](const auto& view) { return static_cast<int64_t>(sizeof(*view.data)); }, any);
}

}  // namespace mxmla::internal
