#include "ops/linear.h"

#include <array>
#include <optional>

#include "ops/check.h"
#include "ops/kernel_set.h"

namespace mxmla {
namespace {

template <class T>
void KeepLeastAligned(T*& kept, T* other) {
  const auto alignment = [](T* p) { return reinterpret_cast<uintptr_t>(p) & -reinterpret_cast<uintptr_t>(p); };
  if (alignment(other) < alignment(kept)) kept = other;
}

// One weight a format that stands for all experts of that format in the table of kernels: their common strides, and in
// each plane the least aligned address. Experts of one format with different strides, or of different shapes, are an
// error.
using Representatives = std::array<std::optional<LinearWeight>, std::variant_size_v<LinearWeight>>;

void Include(std::string_view op, const LinearWeight& weight, LinearWeight* representative) {
  std::visit(
      [&](auto& kept) {
        const auto& other = std::get<std::decay_t<decltype(kept)>>(weight);
        const auto keep_plane = [op](auto& kept_plane, const auto& other_plane) {
          for (int d = 0; d < 2; ++d) {
            CheckExtent(op, "weight stride (of the format's first expert)", kept_plane.stride[d],
                        other_plane.stride[d]);
          }
          KeepLeastAligned(kept_plane.data, other_plane.data);
        };
        if constexpr (requires { kept.scales; }) {
          keep_plane(kept.values, other.values);
          keep_plane(kept.scales, other.scales);
        } else if constexpr (requires { kept.values; }) {
          keep_plane(kept.values, other.values);
        } else {
          keep_plane(kept, other);
        }
      },
      *representative);
}

Representatives RepresentativesOf(std::string_view op, std::span<const LinearWeight> weights) {
  Representatives result;
  for (const LinearWeight& weight : weights) {
    internal::CheckPlanes(op, "weight", weight);
    CheckExtent(op, "weight extent 0 (n of the first expert)", RowCount(weights.front()), RowCount(weight));
    CheckExtent(op, "weight extent 1 (k of the first expert)", ColumnCount(weights.front()), ColumnCount(weight));
    std::optional<LinearWeight>& representative = result[weight.index()];
    if (!representative) representative = weight;
    Include(op, weight, &*representative);
  }
  return result;
}

}  // namespace

void Linear(const ExecContext& context, const LinearArgs& args, std::string_view name) {
  using namespace internal;
  const int64_t rows = Extent(args.x, 0);
  CheckPlanes(name, "x", args.x);
  CheckPlanes(name, "weight", args.weight);
  CheckExtent(name, "x extent 1 (k of weight)", ColumnCount(args.weight), Extent(args.x, 1));
  CheckExtent(name, "out extent 0 (rows of x)", rows, Extent(args.out, 0));
  CheckExtent(name, "out extent 1 (n of weight)", RowCount(args.weight), Extent(args.out, 1));
  if (rows == 0) return;
  OperandList operands;
  operands.Add("x", args.x);
  operands.Add("weight", args.weight);
  operands.Add("out", args.out);
  Dispatch(context, context.kernels->linear, name, args, operands,
           Bytes(args.x) + ByteCount(args.weight) + Bytes(args.out));
}

int64_t ExpertBytesRead(const GroupedLinearArgs& args) {
  int64_t bytes = 0;
  for (size_t e = 0; e < args.weights.size(); ++e) {
    if (args.expert_begin(e + 1) > args.expert_begin(e)) bytes += ByteCount(args.weights[e]);
  }
  return bytes;
}

void GroupedLinear(const ExecContext& context, const GroupedLinearArgs& args, std::string_view name) {
  using namespace internal;
  const int64_t pairs = args.pairs.shape[0];
  const auto experts = static_cast<int64_t>(args.weights.size());
  CheckTrue(name, "pairs_per_row", args.pairs_per_row >= 1, "at least 1", "less");
  CheckTrue(name, "weights", experts >= 1, "at least one expert", "none");
  CheckPlanes(name, "x", args.x);
  CheckExtent(name, "x extent 0 times pairs_per_row (pairs)", pairs, Extent(args.x, 0) * args.pairs_per_row);
  CheckExtent(name, "expert_begin extent 0 (experts + 1)", experts + 1, args.expert_begin.shape[0]);
  const Representatives representatives = RepresentativesOf(name, args.weights);
  CheckExtent(name, "x extent 1 (k of weight)", ColumnCount(args.weights.front()), Extent(args.x, 1));
  CheckExtent(name, "out extent 0 (pairs)", pairs, Extent(args.out, 0));
  CheckExtent(name, "out extent 1 (n of weight)", RowCount(args.weights.front()), Extent(args.out, 1));
  if (pairs == 0) return;
  OperandList operands;
  operands.Add("x", args.x);
  if (args.x_quantized) {
    CheckPlanes(name, "x_quantized", *args.x_quantized);
    CheckExtent(name, "x_quantized extent 0 (rows of x)", Extent(args.x, 0), Extent(*args.x_quantized, 0));
    CheckExtent(name, "x_quantized extent 1 (columns of x)", Extent(args.x, 1), Extent(*args.x_quantized, 1));
    operands.Add("x", *args.x_quantized);
  }
  for (const std::optional<LinearWeight>& representative : representatives) {
    if (representative) operands.Add("weight", *representative);
  }
  operands.Add("expert_begin", args.expert_begin);
  operands.Add("pairs", args.pairs);
  operands.Add("out", args.out);
  Dispatch(context, context.kernels->grouped_linear, name, args, operands,
           Bytes(args.x) + Bytes(args.expert_begin) + Bytes(args.pairs) + Bytes(args.out));
}

}  // namespace mxmla
