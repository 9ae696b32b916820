// vproj_counts: what the V projection costs in the layouts copy, strided and fused on gfx950, in counts of the
// emulator's (MXMLA_HIP_LIB): rows of docs/gfx950.md. 64 heads, kv_lora_rank 512, v_head_dim 128, MXFP4 weights, bf16
// attention output, o_proj's input in MXFP4.
#include <dlfcn.h>
#include <fmt/format.h>

#include <cstdlib>
#include <cstring>
#include <nlohmann/json.hpp>

#include "core/thread_pool.h"
#include "hip/backend.h"
#include "hip/library.h"
#include "ops/head_product.h"
#include "ops/quantize.h"

namespace mxmla {
namespace {

constexpr int64_t kHeads = 64, kLatents = 512, kValues = 128;

template <class T>
T* Pinned(int64_t count, int byte) {
  void* data = nullptr;
  const auto bytes = static_cast<size_t>(count) * sizeof(T);
  hip::Check(hip::Hip().host_malloc(&data, bytes, hipHostMallocDefault), "vproj_counts", "memory");
  std::memset(data, byte, bytes);
  return static_cast<T*>(data);
}

template <class T>
T* Symbol(const char* name) {
  void* library = dlopen(std::getenv("MXMLA_HIP_LIB"), RTLD_NOW | RTLD_NOLOAD);
  void* symbol = library ? dlsym(library, name) : nullptr;
  if (!symbol) Fail(ErrorCode::kDevice, "MXMLA_HIP_LIB", "the emulator's HIP library", "another");
  return reinterpret_cast<T*>(symbol);
}

void Report(int64_t rows, const char* layout) {
  const nlohmann::json counters = nlohmann::json::parse(Symbol<const char*()>("gfx950emu_counters_json")());
  Symbol<void()>("gfx950emu_reset_counters")();
  int64_t launches = 0, instructions = 0, mfma = 0, loaded = 0, stored = 0;
  for (const auto& [name, kernel] : counters.items()) {
    launches += kernel["launches"].get<int64_t>();
    instructions += kernel["instructions"].get<int64_t>();
    mfma += kernel["mfma"].get<int64_t>();
    loaded += kernel["global_load_bytes"].get<int64_t>();
    stored += kernel["global_store_bytes"].get<int64_t>();
  }
  fmt::print("| {} | {} | {} | {} | {} | {} | {} |\n", rows, layout, launches, instructions, mfma, loaded, stored);
}

void Count() {
  const auto* codes = Pinned<const e2m1x2>(kHeads * kValues * kLatents / 2, 0x35);
  const auto* scales = Pinned<const e8m0>(kHeads * kValues * kLatents / 32, 120);
  const HeadWeight weight{
      Mxfp4<const e2m1x2, 2>{View<const e2m1x2, 2>::Contiguous(codes, {kHeads * kValues, kLatents / 2}),
                             View<const e8m0, 2>::Contiguous(scales, {kHeads * kValues, kLatents / 32})},
      kHeads, kValues, 0, kValues};
  ThreadPool pool(1);
  ExecContext context;
  context.kernels = &hip::Kernels();
  context.pool = &pool;
  fmt::print(
      "| rows | layout | launches | wave instructions | MFMA | bytes loaded | bytes stored "
      "|\n|---|---|---|---|---|---|---|\n");
  Symbol<void()>("gfx950emu_reset_counters")();
  for (const int64_t rows : {1, 8, 32, 128}) {
    const auto attn =
        View<const bf16, 3>::Contiguous(Pinned<const bf16>(rows * kHeads * kLatents, 0x3c), {rows, kHeads, kLatents});
    const auto by_head =
        View<bf16, 3>::Contiguous(Pinned<bf16>(rows * kHeads * kValues, 0), {kHeads, rows, kValues}).Permute({1, 0, 2});
    const auto by_token = View<bf16, 3>::Contiguous(Pinned<bf16>(rows * kHeads * kValues, 0), {rows, kHeads, kValues});
    const Mxfp4<e2m1x2, 2> out{
        View<e2m1x2, 2>::Contiguous(Pinned<e2m1x2>(rows * kHeads * kValues / 2, 0), {rows, kHeads * kValues / 2}),
        View<e8m0, 2>::Contiguous(Pinned<e8m0>(rows * kHeads * kValues / 32, 0), {rows, kHeads * kValues / 32})};
    ValueProject(context, {attn, weight, {FloatOutput<3>(by_head)}});
    Copy(context, {FloatInput<3>(View<const bf16, 3>(by_head)), FloatOutput<3>(by_token)});
    FlattenQuantize(context, {View<const bf16, 3>(by_token), QuantizedOutput<2>(out)});
    Report(rows, "copy");
    ValueProject(context, {attn, weight, {FloatOutput<3>(by_token)}});
    FlattenQuantize(context, {View<const bf16, 3>(by_token), QuantizedOutput<2>(out)});
    Report(rows, "strided");
    ValueProject(context, {attn, weight, {ActivationOutput<2>(out)}});
    Report(rows, "fused");
  }
}

}  // namespace
}  // namespace mxmla

int main() {
  try {
    mxmla::Count();
  } catch (const std::exception& error) {
    fmt::print(stderr, "vproj_counts: {}\n", error.what());
    return 1;
  }
  return 0;
}
