#include "core/kv_format.h"

namespace mxmla {
namespace {

int64_t RoundUp4(int64_t bytes) { return (bytes + 3) / 4 * 4; }
int64_t Groups(int64_t kv_lora_rank) { return (kv_lora_rank + kFp8Group - 1) / kFp8Group; }

}  // namespace

int64_t Fp8KvRowStride(int64_t kv_lora_rank, int64_t qk_rope_head_dim) {
  return RoundUp4(RoundUp4(kv_lora_rank) + Groups(kv_lora_rank) * 4 + qk_rope_head_dim * 2);
}

Fp8Kv<e4m3, 3> Fp8KvPages(e4m3* memory, int64_t pages, int64_t page_size, int64_t kv_lora_rank,
                          int64_t qk_rope_head_dim) {
  const int64_t stride = Fp8KvRowStride(kv_lora_rank, qk_rope_head_dim);
  const int64_t groups = Groups(kv_lora_rank);
  e4m3* scales = memory + RoundUp4(kv_lora_rank);
  e4m3* key = scales + groups * 4;
  Fp8Kv<e4m3, 3> kv;
  kv.latent.values = {memory, {pages, page_size, kv_lora_rank}, {page_size * stride, stride, 1}};
  kv.latent.scales = {
      reinterpret_cast<float*>(scales), {pages, page_size, groups}, {page_size * stride / 4, stride / 4, 1}};
  kv.key = {
      reinterpret_cast<bf16*>(key), {pages, page_size, qk_rope_head_dim}, {page_size * stride / 2, stride / 2, 1}};
  return kv;
}

}  // namespace mxmla
