// Every tensor of a model from the host's memory to a device's.
#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <unordered_map>
#include <utility>

#include "core/note.h"
#include "model/placed_weights.h"
#include "ops/check.h"

namespace mxmla {
namespace {

// Calls visit(tensor) for every matrix of `placed`, a LinearWeight, and for every vector, a view.
template <class Visit>
class Tensors {
 public:
  explicit Tensors(const Visit& visit) : visit_(visit) {}

  void Walk(PlacedWeights& placed) const {
    Walk(placed.weights.embed_tokens);
    for (LayerWeights& layer : placed.weights.layers) Walk(layer);
    visit_(placed.weights.norm);
    Walk(placed.weights.lm_head);
    for (AbsorbedLayer& layer : placed.absorbed) {
      Walk(layer.weights.w_kc.tensor);
      Walk(layer.weights.w_vc.tensor);
    }
    visit_(placed.inverse_frequencies);
  }

 private:
  void Walk(LayerWeights& layer) const {
    visit_(layer.input_layernorm);
    visit_(layer.post_attention_layernorm);
    visit_(layer.q_a_layernorm);
    visit_(layer.kv_a_layernorm);
    visit_(layer.e_score_correction_bias);
    visit_(layer.post_mlp_layernorm);
    visit_(layer.indexer.k_norm);
    visit_(layer.indexer.k_norm_bias);
    for (LinearWeight* weight : {&layer.q_proj, &layer.q_a_proj, &layer.q_b_proj, &layer.kv_a_proj_with_mqa,
                                 &layer.kv_b_proj, &layer.w_kc.tensor, &layer.w_vc.tensor, &layer.o_proj, &layer.router,
                                 &layer.indexer.wq_b, &layer.indexer.wk, &layer.indexer.weights_proj}) {
      Walk(*weight);
    }
    Walk(layer.mlp);
    Walk(layer.shared_experts);
    for (auto* experts : {&layer.experts.gate_proj, &layer.experts.up_proj, &layer.experts.down_proj}) {
      for (LinearWeight& weight : *experts) Walk(weight);
    }
  }
  void Walk(MlpWeights& mlp) const {
    for (LinearWeight* weight : {&mlp.gate_proj, &mlp.up_proj, &mlp.down_proj}) Walk(*weight);
  }
  void Walk(LinearWeight& weight) const { visit_(weight); }

  const Visit& visit_;
};

// A visitor of tensors that calls visit(view) for each of their planes, of values or of scales.
template <class Visit>
auto ByPlane(const Visit& visit) {
  return [&visit](auto& tensor) {
    if constexpr (std::is_same_v<std::decay_t<decltype(tensor)>, LinearWeight>) {
      std::visit([&](auto& w) { ForEachPlane(w, visit); }, tensor);
    } else {
      visit(tensor);
    }
  };
}

// Of what the plane reaches: contiguous, but for dimensions with a stride of 0.
template <class T, int Rank>
size_t PlaneBytes(const View<T, Rank>& plane) {
  int64_t elements = 1;
  for (int d = Rank - 1; d >= 0; --d) {
    if (plane.stride[d] == 0) continue;
    if (plane.stride[d] != elements) {
      Fail(ErrorCode::kInternal, "weights for a device", "contiguous planes",
           fmt::format("{} with strides {}", FormatDims(plane.shape.data(), Rank),
                       FormatDims(plane.stride.data(), Rank)));
    }
    elements *= plane.shape[d];
  }
  return static_cast<size_t>(elements) * sizeof(T);
}

constexpr size_t kPlaneAlignment = 16;  // what kernels ask of a plane

// Two matrices as one, if the second lay behind the first: of one format and width, whole in every plane.
bool CanJoin(const LinearWeight& first, const LinearWeight& second) {
  if (first.index() != second.index() || ColumnCount(first) != ColumnCount(second) || RowCount(first) == 0)
    return false;
  if (std::holds_alternative<Nvfp4>(first)) return false;  // each has a scale of its own
  return std::visit(
      [](const auto& w) {
        if constexpr (std::is_same_v<std::decay_t<decltype(w)>, Fp8Block>) {
          if (!w.in_squares() || w.first_row != 0 || w.values.shape[0] % kFp8Block != 0) return false;
        }
        bool whole = true;
        ForEachPlane(w, [&](const auto& plane) { whole = whole && PlaneBytes(plane) % kPlaneAlignment == 0; });
        return whole;
      },
      first);
}

LinearWeight Join(const LinearWeight& first, const LinearWeight& second) {
  LinearWeight joined = first;
  std::visit(
      [&](auto& w) {
        const auto& behind = std::get<std::decay_t<decltype(w)>>(second);
        if constexpr (requires { w.values; }) {
          w.values.shape[0] += behind.values.shape[0];
          if constexpr (requires { w.scales; }) w.scales.shape[0] += behind.scales.shape[0];
        } else {
          w.shape[0] += behind.shape[0];
        }
      },
      joined);
  return joined;
}

// The pairs of a layer that are to be joined.
struct Pairs {
  explicit Pairs(LayerWeights& layer) {
    LinearWeight& query = RowCount(layer.q_a_proj) > 0 ? layer.q_a_proj : layer.q_proj;
    if (CanJoin(query, layer.kv_a_proj_with_mqa)) down = {&query, &layer.kv_a_proj_with_mqa};
    MlpWeights& mlp = layer.is_moe ? layer.shared_experts : layer.mlp;
    if (CanJoin(mlp.gate_proj, mlp.up_proj)) gate_up = {&mlp.gate_proj, &mlp.up_proj};
    ExpertWeights& experts = layer.experts;
    for (size_t e = 0; e < experts.gate_proj.size(); ++e) {
      if (!CanJoin(experts.gate_proj[e], experts.up_proj[e])) {
        expert_gate_up.clear();
        break;
      }
      expert_gate_up.emplace_back(&experts.gate_proj[e], &experts.up_proj[e]);
    }
  }

  std::pair<LinearWeight*, LinearWeight*> down{}, gate_up{};
  std::vector<std::pair<LinearWeight*, LinearWeight*>> expert_gate_up;
};

// Rows and columns of a plane, copied to `packed`.
template <class T>
View<T, 2> PackPlane(const View<T, 2>& plane, int64_t column, int64_t columns,
                     std::vector<std::unique_ptr<std::byte[]>>* packed) {
  const auto row_bytes = static_cast<size_t>(columns) * sizeof(T);
  auto memory = std::make_unique<std::byte[]>(static_cast<size_t>(plane.shape[0]) * row_bytes);
  for (int64_t r = 0; r < plane.shape[0]; ++r) {
    std::memcpy(memory.get() + static_cast<size_t>(r) * row_bytes, &plane(r, column), row_bytes);
  }
  const auto result = View<T, 2>::Contiguous(reinterpret_cast<T*>(memory.get()), {plane.shape[0], columns});
  packed->push_back(std::move(memory));
  return result;
}

// Columns `column` .. + `columns`, whole blocks of the format.
LinearWeight PackColumns(const LinearWeight& weight, int64_t column, int64_t columns,
                         std::vector<std::unique_ptr<std::byte[]>>* packed) {
  return std::visit(
      [&](auto w) -> LinearWeight {
        using V = decltype(w);
        if constexpr (std::is_same_v<V, Fp8Block>) {
          w.values = PackPlane(w.values, column, columns, packed);
          w.scales = PackPlane(w.scales, column / kFp8Block, columns / kFp8Block, packed);
          return w;
        } else if constexpr (std::is_same_v<V, Mxfp4<const e2m1x2, 2>>) {
          w.values = PackPlane(w.values, column / 2, columns / 2, packed);
          w.scales = PackPlane(w.scales, column / kMxBlock, columns / kMxBlock, packed);
          return w;
        } else if constexpr (requires { w.shape; }) {
          return PackPlane(w, column, columns, packed);
        } else {
          Fail(ErrorCode::kInternal, "weights for a device", "shared experts in a format that can be cut",
               FormatName(w));
        }
      },
      weight);
}

// Rows `row` .. + `rows`, whole blocks of the format, as a matrix with scales of its own.
LinearWeight RowsAlone(const LinearWeight& weight, int64_t row, int64_t rows) {
  LinearWeight part = Rows(weight, row, rows);
  if (auto* fp8 = std::get_if<Fp8Block>(&part)) {
    fp8->scales = fp8->scales.Rows(fp8->first_row / fp8->scale_rows, internal::CeilDiv(rows, fp8->scale_rows));
    fp8->first_row = 0;
  }
  return part;
}

// Whether `parts` parts of the layer's shared experts can stand behind the routed ones: of one format and width.
bool CanStandWithRouted(const LayerWeights& layer, int64_t parts) {
  const auto& [gate, up, down] = layer.shared_experts;
  const int64_t width = RowCount(layer.experts.gate_proj.front());
  if (RowCount(gate) != parts * width || ColumnCount(down) != parts * width) return false;
  if (parts > 1) {
    const auto* fp8 = std::get_if<Fp8Block>(&gate);
    const bool mxfp4 = std::holds_alternative<Mxfp4<const e2m1x2, 2>>(gate);
    if (IsQuantized(gate) && !mxfp4 && !(fp8 && fp8->in_squares())) return false;
    if (width % (fp8 ? kFp8Block : mxfp4 ? kMxBlock : 1) != 0) return false;
  }
  const auto alike = [](const std::vector<LinearWeight>& experts, const LinearWeight& shared) {
    return std::ranges::all_of(experts, [&](const LinearWeight& w) { return w.index() == shared.index(); });
  };
  return alike(layer.experts.gate_proj, gate) && alike(layer.experts.up_proj, up) &&
         alike(layer.experts.down_proj, down);
}

// Moves every layer's shared experts behind its routed ones, where that can be done in all of them. Columns of
// down_proj are copied to the result, which must live until all is on the device.
std::vector<std::unique_ptr<std::byte[]>> JoinSharedExperts(PlacedWeights* placed) {
  std::vector<std::unique_ptr<std::byte[]>> packed;
  int64_t parts = 0;
  for (const LayerWeights& layer : placed->weights.layers) {
    if (!layer.is_moe) continue;
    const int64_t width = RowCount(layer.experts.gate_proj.front());
    const int64_t own = width == 0 ? 0 : RowCount(layer.shared_experts.gate_proj) / width;
    if (own == 0 || (parts != 0 && own != parts) || !CanStandWithRouted(layer, own)) return packed;
    parts = own;
  }
  placed->shared_parts = parts;
  for (LayerWeights& layer : placed->weights.layers) {
    if (!layer.is_moe) continue;
    const auto& [gate, up, down] = layer.shared_experts;
    const int64_t width = RowCount(layer.experts.gate_proj.front());
    for (int64_t part = 0; part < parts; ++part) {
      layer.experts.gate_proj.push_back(RowsAlone(gate, part * width, width));
      layer.experts.up_proj.push_back(RowsAlone(up, part * width, width));
      layer.experts.down_proj.push_back(parts == 1 ? down : PackColumns(down, part * width, width, &packed));
    }
    layer.shared_experts = {};
  }
  return packed;
}

// Where each plane goes, by its address on the host: a tensor that is viewed twice goes once.
class Layout {
 public:
  explicit Layout(PlacedWeights& placed) {
    // First those that must lie side by side.
    for (LayerWeights& layer : placed.weights.layers) {
      const Pairs pairs(layer);
      if (pairs.down.first) AddPair(*pairs.down.first, *pairs.down.second);
      if (pairs.gate_up.first) AddPair(*pairs.gate_up.first, *pairs.gate_up.second);
      for (const auto& [gate, up] : pairs.expert_gate_up) AddPair(*gate, *up);
    }
    const auto add = [&](auto& plane) { Add(plane, false); };
    Tensors(ByPlane(add)).Walk(placed);
  }

  // Of one allocation of all planes.
  size_t room() const {
    size_t room = 0;
    for (const Plane& plane : planes_) room = Begin(plane, room) + plane.transfer.bytes;
    return room;
  }

  // In the order of the host's addresses, which is that of a file.
  std::vector<Transfer> Place(std::byte* device) {
    std::vector<Transfer> transfers;
    size_t offset = 0;
    for (Plane& plane : planes_) {
      offset = Begin(plane, offset);
      plane.transfer.device = device + offset;
      offset += plane.transfer.bytes;
      transfers.push_back(plane.transfer);
    }
    std::ranges::sort(transfers, std::less<const std::byte*>(), &Transfer::host);
    return transfers;
  }

  const std::byte* DeviceOf(const void* host) const { return planes_[index_.at(host)].transfer.device; }

 private:
  struct Plane {
    Transfer transfer;
    bool behind = false;  // directly behind the one before
  };

  static size_t Begin(const Plane& plane, size_t offset) {
    constexpr size_t kAlignment = 256;
    return plane.behind ? offset : (offset + kAlignment - 1) / kAlignment * kAlignment;
  }

  void AddPair(const LinearWeight& first, const LinearWeight& second) {
    std::visit(
        [&](const auto& w) {
          const auto& other = std::get<std::decay_t<decltype(w)>>(second);
          if constexpr (requires { w.values; }) {
            Add(w.values, false);
            Add(other.values, true);
            if constexpr (requires { w.scales; }) {
              Add(w.scales, false);
              Add(other.scales, true);
            }
          } else {
            Add(w, false);
            Add(other, true);
          }
        },
        first);
  }

  template <class T, int Rank>
  void Add(const View<T, Rank>& plane, bool behind) {
    if (!plane.data || plane.empty()) return;
    const size_t bytes = PlaneBytes(plane);
    const auto [at, is_new] = index_.try_emplace(plane.data, planes_.size());
    if (is_new) {
      planes_.push_back({{nullptr, reinterpret_cast<const std::byte*>(plane.data), bytes}, behind});
    } else if (planes_[at->second].transfer.bytes != bytes) {
      Fail(ErrorCode::kInternal, "weights for a device", "one extent of each tensor", "two");
    }
  }

  std::unordered_map<const void*, size_t> index_;
  std::vector<Plane> planes_;
};

void JoinWeights(LayerWeights& layer, JoinedWeights* joined) {
  const Pairs pairs(layer);
  if (pairs.down.first) joined->down = Join(*pairs.down.first, *pairs.down.second);
  if (pairs.gate_up.first) joined->gate_up = Join(*pairs.gate_up.first, *pairs.gate_up.second);
  for (const auto& [gate, up] : pairs.expert_gate_up) joined->expert_gate_up.push_back(Join(*gate, *up));
}

// Matrices of F16 whose every value BF16 holds become BF16, exactly. The values live in the result, which must live
// until all is on the device.
std::vector<std::unique_ptr<bf16[]>> HalvesAsBf16(PlacedWeights* placed) {
  std::vector<std::unique_ptr<bf16[]>> made;
  std::unordered_map<const void*, LinearWeight> done;  // by the address on the host
  const auto change = [&](auto& tensor) {
    if constexpr (std::is_same_v<std::decay_t<decltype(tensor)>, LinearWeight>) {
      const auto* half = std::get_if<View<const f16, 2>>(&tensor);
      if (!half || half->empty()) return;
      const auto [at, is_new] = done.try_emplace(half->data, tensor);
      if (is_new) {
        const int64_t n = half->shape[0], k = half->shape[1];
        auto values = std::make_unique<bf16[]>(static_cast<size_t>(n * k));
        std::vector<float> row(static_cast<size_t>(k));
        for (int64_t r = 0; r < n; ++r) {
          Dequantize(*half, r, 0, k, row.data());
          for (int64_t i = 0; i < k; ++i) {
            const float value = row[static_cast<size_t>(i)];
            if ((std::bit_cast<uint32_t>(value) & 0xffffu) != 0) return;
            values[static_cast<size_t>(r * k + i)] = bf16::FromFloat(value);
          }
        }
        at->second = View<const bf16, 2>::Contiguous(values.get(), {n, k});
        made.push_back(std::move(values));
      }
      tensor = at->second;
    }
  };
  Tensors(change).Walk(*placed);
  if (!made.empty())
    ReportNote(fmt::format("{} matrices of F16 are given to the device as BF16, exactly", made.size()));
  return made;
}

}  // namespace

size_t PlacedBytes(const PlacedWeights& placed) {
  PlacedWeights copy = placed;  // views alone are visited
  return Layout(copy).room();
}

void UploadWeights(Backend& backend, const std::function<void(size_t done)>& progress, PlacedWeights* placed) {
  const auto halves = backend.prefers_bf16() ? HalvesAsBf16(placed) : std::vector<std::unique_ptr<bf16[]>>();
  const auto packed = JoinSharedExperts(placed);
  Layout layout(*placed);
  auto memory = std::make_shared<Memory>(
      backend.Allocate(layout.room(), Fill::kUntouched, "weights", "choose a smaller model or a lower precision"));
  backend.UploadAll(layout.Place(memory->data()), progress);
  const auto move = [&]<class T, int Rank>(View<T, Rank>& plane) {
    if (plane.data && !plane.empty()) plane.data = reinterpret_cast<T*>(layout.DeviceOf(plane.data));
  };
  Tensors(ByPlane(move)).Walk(*placed);
  for (size_t i = 0; i < placed->joined.size(); ++i) JoinWeights(placed->weights.layers[i], &placed->joined[i]);
  for (AbsorbedLayer& layer : placed->absorbed) {
    layer.values = {};
    layer.codes_kc = layer.codes_vc = {};
    layer.scales_kc = layer.scales_vc = {};
  }
  placed->weights.storage = memory;
  placed->storage = std::move(memory);
}

}  // namespace mxmla
