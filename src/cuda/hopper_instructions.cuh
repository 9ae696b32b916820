// Hopper's instructions for asynchronous copies and products, as functions of addresses in shared memory.
#pragma once

#include <cuda.h>
#include <cuda_bf16.h>

#include <cstdint>

namespace mxmla::cuda {

__device__ __forceinline__ uint32_t SharedAddress(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

// --- mbarriers ---

__device__ __forceinline__ void BarrierInit(uint32_t barrier, uint32_t arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory");
}
__device__ __forceinline__ void BarrierArrive(uint32_t barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}
__device__ __forceinline__ void BarrierExpect(uint32_t barrier, uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}
__device__ __forceinline__ void BarrierWait(uint32_t barrier, uint32_t parity) {
  asm volatile(
      "{.reg .pred done;\n"
      "wait: mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@!done bra wait;}" ::"r"(barrier),
      "r"(parity)
      : "memory");
}
// A barrier of `threads` threads, of whole warps; 0 is __syncthreads.
template <int kThreads>
__device__ __forceinline__ void NamedBarrier(int id) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "n"(kThreads) : "memory");
}
// Orders this thread's ordinary accesses to shared memory before later ones of the copy engine and the tensor cores.
__device__ __forceinline__ void FenceAsyncProxy() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

// --- the copy engine ---

__device__ __forceinline__ void CopyBox(const CUtensorMap& map, uint32_t to, uint32_t barrier, int c0, int c1, int c2) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5}], [%2];" ::
          "r"(to),
      "l"(reinterpret_cast<uint64_t>(&map)), "r"(barrier), "r"(c0), "r"(c1), "r"(c2)
      : "memory");
}
// `bytes` of one block of memory, both sides 16-byte aligned.
__device__ __forceinline__ void CopyBulk(uint32_t to, const void* from, uint32_t bytes, uint32_t barrier) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(to),
               "l"(from), "r"(bytes), "r"(barrier)
               : "memory");
}
__device__ __forceinline__ void PrefetchMap(const CUtensorMap& map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(reinterpret_cast<uint64_t>(&map)) : "memory");
}

// --- wgmma: both operands in shared memory, rows of 128 bytes in the 128-byte swizzle, groups of 8 rows 1024 bytes
// apart ---

// `address` is 16-byte aligned and, less the offset within a row, 1024-byte aligned.
struct SwizzledTile {
  uint32_t low;
  __device__ explicit SwizzledTile(uint32_t address) : low((address & 0x3ffffu) >> 4 | 1u << 16) {}
  __device__ __forceinline__ uint64_t At(uint32_t bytes) const {
    return static_cast<uint64_t>(1024u >> 4 | 1u << 30) << 32 | (low + (bytes >> 4));
  }
};
__device__ __forceinline__ void WgmmaFence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void WgmmaCommit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int kPending>
__device__ __forceinline__ void WgmmaWait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}

#define MXMLA_D4(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define MXMLA_D16(i) MXMLA_D4(i), MXMLA_D4(i + 4), MXMLA_D4(i + 8), MXMLA_D4(i + 12)
// A macro of the operands' type, for the one that kHalves says.
#define MXMLA_OF_TYPE(products) \
  if constexpr (kHalves) {      \
    products("f16");            \
  } else {                      \
    products("bf16");           \
  }
// d (64 x kN, float32) = a (64 x 16) b^T (kN x 16) + (accumulate ? d : 0). b's rows are contiguous in k, a's too, or,
// transposed, a's 16 columns are contiguous in its rows. Both are bf16, or (kHalves) fp16.
template <int kN, bool kTransposedA, bool kHalves = false>
__device__ __forceinline__ void Wgmma(float (&d)[kN / 2], uint64_t a, uint64_t b, int accumulate) {
  if constexpr (kN == 8) {
    static_assert(!kHalves, "bf16 alone");
    asm volatile(
        "{.reg .pred p; setp.ne.b32 p, %6, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {%0,%1,%2,%3}, %4, %5, p, 1, 1, %7, 0;}"
        : MXMLA_D4(0)
        : "l"(a), "l"(b), "r"(accumulate), "n"(kTransposedA ? 1 : 0));
  } else if constexpr (kN == 16) {
    static_assert(!kHalves, "bf16 alone");
    asm volatile(
        "{.reg .pred p; setp.ne.b32 p, %10, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n16k16.f32.bf16.bf16 {%0,%1,%2,%3,%4,%5,%6,%7}, %8, %9, p, 1, 1, %11, 0;}"
        : MXMLA_D4(0), MXMLA_D4(4)
        : "l"(a), "l"(b), "r"(accumulate), "n"(kTransposedA ? 1 : 0));
  } else if constexpr (kN == 32) {
    static_assert(!kHalves, "bf16 alone");
    asm volatile(
        "{.reg .pred p; setp.ne.b32 p, %18, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n32k16.f32.bf16.bf16 {%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15}, "
        "%16, %17, p, 1, 1, %19, 0;}"
        : MXMLA_D16(0)
        : "l"(a), "l"(b), "r"(accumulate), "n"(kTransposedA ? 1 : 0));
  } else if constexpr (kN == 128) {
#define MXMLA_PRODUCTS(type)                                                                     \
  asm volatile(                                                                                  \
      "{.reg .pred p; setp.ne.b32 p, %66, 0;\n"                                                  \
      "wgmma.mma_async.sync.aligned.m64n128k16.f32." type "." type                               \
      " {"                                                                                       \
      "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,"   \
      "%24,%25,%26,%27,%28,%29,%30,%31,%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45," \
      "%46,%47,%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63"                  \
      "}, %64, %65, p, 1, 1, %67, 0;}"                                                           \
      : MXMLA_D16(0), MXMLA_D16(16), MXMLA_D16(32), MXMLA_D16(48)                                \
      : "l"(a), "l"(b), "r"(accumulate), "n"(kTransposedA ? 1 : 0))
    MXMLA_OF_TYPE(MXMLA_PRODUCTS)
#undef MXMLA_PRODUCTS
  } else if constexpr (kN == 192) {
    static_assert(!kHalves, "bf16 alone");
    asm volatile(
        "{.reg .pred p; setp.ne.b32 p, %98, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n192k16.f32.bf16.bf16 {"
        "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,"
        "%28,%29,%30,%31,%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,"
        "%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63,%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,"
        "%78,%79,%80,%81,%82,%83,%84,%85,%86,%87,%88,%89,%90,%91,%92,%93,%94,%95"
        "}, %96, %97, p, 1, 1, %99, 0;}"
        : MXMLA_D16(0), MXMLA_D16(16), MXMLA_D16(32), MXMLA_D16(48), MXMLA_D16(64), MXMLA_D16(80)
        : "l"(a), "l"(b), "r"(accumulate), "n"(kTransposedA ? 1 : 0));
  } else {
    static_assert(kN == 64);
#define MXMLA_PRODUCTS(type)                                                                          \
  asm volatile(                                                                                       \
      "{.reg .pred p; setp.ne.b32 p, %34, 0;\n"                                                       \
      "wgmma.mma_async.sync.aligned.m64n64k16.f32." type "." type                                     \
      " {%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,"                                      \
      "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31}, %32, %33, p, 1, 1, %35, 0;}" \
      : MXMLA_D16(0), MXMLA_D16(16)                                                                   \
      : "l"(a), "l"(b), "r"(accumulate), "n"(kTransposedA ? 1 : 0))
    MXMLA_OF_TYPE(MXMLA_PRODUCTS)
#undef MXMLA_PRODUCTS
  }
}
// d (64 x kN, float32) = a (64 x 16, in registers) b^T (kN x 16) + (accumulate ? d : 0), of bf16 or (kHalves) fp16.
template <int kN, bool kHalves = false>
__device__ __forceinline__ void WgmmaLeft(float (&d)[kN / 2], const uint32_t (&a)[4], uint64_t b, int accumulate) {
  if constexpr (kN == 16) {
    static_assert(!kHalves, "bf16 alone");
    asm volatile(
        "{.reg .pred p; setp.ne.b32 p, %13, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n16k16.f32.bf16.bf16 {"
        "%0,%1,%2,%3,%4,%5,%6,%7"
        "}, {%8, %9, %10, %11}, %12, p, 1, 1, 0;}"
        : MXMLA_D4(0), MXMLA_D4(4)
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(accumulate));
  } else if constexpr (kN == 64) {
#define MXMLA_PRODUCTS(type)                                                                                           \
  asm volatile(                                                                                                        \
      "{.reg .pred p; setp.ne.b32 p, %37, 0;\n"                                                                        \
      "wgmma.mma_async.sync.aligned.m64n64k16.f32." type "." type                                                      \
      " {"                                                                                                             \
      "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29," \
      "%30,%31"                                                                                                        \
      "}, {%32, %33, %34, %35}, %36, p, 1, 1, 0;}"                                                                     \
      : MXMLA_D16(0), MXMLA_D16(16)                                                                                    \
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(accumulate))
    MXMLA_OF_TYPE(MXMLA_PRODUCTS)
#undef MXMLA_PRODUCTS
  } else {
    static_assert(kN == 128);
#define MXMLA_PRODUCTS(type)                                                                                           \
  asm volatile(                                                                                                        \
      "{.reg .pred p; setp.ne.b32 p, %69, 0;\n"                                                                        \
      "wgmma.mma_async.sync.aligned.m64n128k16.f32." type "." type                                                     \
      " {"                                                                                                             \
      "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29," \
      "%30,%31,%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53,%54,%55,%56,%"  \
      "57,%58,%59,%60,%61,%62,%63"                                                                                     \
      "}, {%64, %65, %66, %67}, %68, p, 1, 1, 0;}"                                                                     \
      : MXMLA_D16(0), MXMLA_D16(16), MXMLA_D16(32), MXMLA_D16(48)                                                      \
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(accumulate))
    MXMLA_OF_TYPE(MXMLA_PRODUCTS)
#undef MXMLA_PRODUCTS
  }
}
// d (64 x 256) = a (64 x 16) b (16 x 256) + (accumulate ? d : 0); a in registers or in shared memory.
__device__ __forceinline__ void WgmmaWide(float (&d)[128], const uint32_t* a, uint64_t b, int accumulate) {
  asm volatile(
      "{.reg .pred p; setp.ne.b32 p, %133, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 {"
      "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,"
      "%27,%28,%29,%30,%31,%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,"
      "%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63,%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,"
      "%77,%78,%79,%80,%81,%82,%83,%84,%85,%86,%87,%88,%89,%90,%91,%92,%93,%94,%95,%96,%97,%98,%99,%100,"
      "%101,%102,%103,%104,%105,%106,%107,%108,%109,%110,%111,%112,%113,%114,%115,%116,%117,%118,%119,%120,"
      "%121,%122,%123,%124,%125,%126,%127"
      "}, {%128,%129,%130,%131}, %132, p, 1, 1, 1;}"
      : MXMLA_D16(0), MXMLA_D16(16), MXMLA_D16(32), MXMLA_D16(48), MXMLA_D16(64), MXMLA_D16(80), MXMLA_D16(96),
        MXMLA_D16(112)
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(accumulate));
}
__device__ __forceinline__ void WgmmaWide(float (&d)[128], uint64_t a, uint64_t b) {
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 {"
      "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,"
      "%27,%28,%29,%30,%31,%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,"
      "%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63,%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,"
      "%77,%78,%79,%80,%81,%82,%83,%84,%85,%86,%87,%88,%89,%90,%91,%92,%93,%94,%95,%96,%97,%98,%99,%100,"
      "%101,%102,%103,%104,%105,%106,%107,%108,%109,%110,%111,%112,%113,%114,%115,%116,%117,%118,%119,%120,"
      "%121,%122,%123,%124,%125,%126,%127"
      "}, %128, %129, 1, 1, 1, 0, 1;"
      : MXMLA_D16(0), MXMLA_D16(16), MXMLA_D16(32), MXMLA_D16(48), MXMLA_D16(64), MXMLA_D16(80), MXMLA_D16(96),
        MXMLA_D16(112)
      : "l"(a), "l"(b));
}
// d (64 x 128) = a (64 x 16) b (16 x 128) + (accumulate ? d : 0); a in registers.
__device__ __forceinline__ void WgmmaValues(float (&d)[64], const uint32_t* a, uint64_t b, int accumulate) {
  asm volatile(
      "{.reg .pred p; setp.ne.b32 p, %69, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {"
      "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,"
      "%24,%25,%26,%27,%28,%29,%30,%31,%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,"
      "%46,%47,%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63"
      "}, {%64,%65,%66,%67}, %68, p, 1, 1, 1;}"
      : MXMLA_D16(0), MXMLA_D16(16), MXMLA_D16(32), MXMLA_D16(48)
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(accumulate));
}
#undef MXMLA_OF_TYPE
#undef MXMLA_D16
#undef MXMLA_D4

// `address` is 1024-byte aligned; the right operand's rows k hold 64 columns each, the next 64 lie `stride` bytes on.
struct StridedTile {
  uint32_t low;
  __device__ StridedTile(uint32_t address, uint32_t stride) : low((address & 0x3ffffu) >> 4 | stride >> 4 << 16) {}
  __device__ __forceinline__ uint64_t At(uint32_t bytes) const {
    return static_cast<uint64_t>(1024u >> 4 | 1u << 30) << 32 | (low + (bytes >> 4));
  }
};

// --- 8 x 8 matrices of bf16, as they are or transposed, to shared memory: lane l gives the address of row l % 8 of
// matrix l / 8 as stored ---

__device__ __forceinline__ uint32_t PackBf16(float low, float high) {
  __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<uint32_t*>(&pair);
}
__device__ __forceinline__ float LowBf16(uint32_t pair) { return __uint_as_float(pair << 16); }
__device__ __forceinline__ float HighBf16(uint32_t pair) { return __uint_as_float(pair & 0xffff0000u); }
__device__ __forceinline__ void StoreTransposed(uint32_t address, uint32_t m0, uint32_t m1) {
  asm volatile("stmatrix.sync.aligned.m8n8.x2.trans.shared.b16 [%0], {%1, %2};" ::"r"(address), "r"(m0), "r"(m1)
               : "memory");
}
__device__ __forceinline__ void StoreTransposed(uint32_t address, uint32_t m0, uint32_t m1, uint32_t m2, uint32_t m3) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(address), "r"(m0),
               "r"(m1), "r"(m2), "r"(m3)
               : "memory");
}
__device__ __forceinline__ void StoreMatrices(uint32_t address, uint32_t m0, uint32_t m1, uint32_t m2, uint32_t m3) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(address), "r"(m0), "r"(m1),
               "r"(m2), "r"(m3)
               : "memory");
}

// --- programmatic dependent launch ---

__device__ __forceinline__ void AllowDependents() { asm volatile("griddepcontrol.launch_dependents;"); }
__device__ __forceinline__ void WaitForPredecessor() { asm volatile("griddepcontrol.wait;" ::: "memory"); }

}  // namespace mxmla::cuda
