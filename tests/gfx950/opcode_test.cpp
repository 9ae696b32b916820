// Opcodes that work in registers, a line each where that is enough. Expectations follow the pseudocode of AMD's CDNA4
// instruction set, worked out by hand.
#include <gtest/gtest.h>

#include <cmath>
#include <tuple>

#include "lab.h"
#include "number_formats.h"
#include "operations.h"

namespace gfx950emu {
namespace {

enum class To {
  kVector,    // v0
  kVector64,  // v[0:1]
  kScalar,    // s0
  kScalar64,  // s[0:1]
};

// Run with LabWith(in); -1: SCC is not looked at.
struct Case {
  const char* text;
  Words in;
  uint64_t expected;
  To to = To::kVector;
  int scc = -1;
};

constexpr uint64_t kA = 0x0000000f'0000f0f0, kB = 0x000000ff'0000ff00;
constexpr uint32_t kNan = 0x7fc00000;

const Case kCases[] = {
    // --- scalars ---
    {"s_and_b32 s0, s2, s4", In(kA, kB), 0xf000, To::kScalar, 1},
    {"s_or_b32 s0, s2, s4", In(kA, kB), 0xfff0, To::kScalar, 1},
    {"s_xor_b32 s0, s2, s4", In(5, 5), 0, To::kScalar, 0},
    {"s_andn2_b32 s0, s2, s4", In(kA, kB), 0xf0, To::kScalar, 1},
    {"s_orn2_b32 s0, s2, s4", In(kA, kB), 0xfffff0ff, To::kScalar, 1},
    {"s_nand_b32 s0, s2, s4", In(kA, kB), 0xffff0fff, To::kScalar, 1},
    {"s_nor_b32 s0, s2, s4", In(kA, kB), 0xffff000f, To::kScalar, 1},
    {"s_xnor_b32 s0, s2, s4", In(kA, kB), 0xfffff00f, To::kScalar, 1},
    {"s_not_b32 s0, s2", In(0xffffffff), 0, To::kScalar, 0},
    {"s_mov_b32 s0, s2", In(kA), 0xf0f0, To::kScalar, 1},
    {"s_cselect_b32 s0, s2, s4", In(kA, kB), 0xf0f0, To::kScalar, 1},
    {"s_and_b64 s[0:1], s[2:3], s[4:5]", In(kA, kB), 0x0000000f'0000f000, To::kScalar64, 1},
    {"s_or_b64 s[0:1], s[2:3], s[4:5]", In(kA, kB), 0x000000ff'0000fff0, To::kScalar64, 1},
    {"s_xor_b64 s[0:1], s[2:3], s[4:5]", In(kA, kB), 0x000000f0'00000ff0, To::kScalar64, 1},
    {"s_andn2_b64 s[0:1], s[2:3], s[4:5]", In(kA, kB), 0xf0, To::kScalar64, 1},
    {"s_orn2_b64 s[0:1], s[2:3], s[4:5]", In(kA, kB), 0xffffff0f'fffff0ff, To::kScalar64, 1},
    {"s_nand_b64 s[0:1], s[2:3], s[4:5]", In(kA, kB), 0xfffffff0'ffff0fff, To::kScalar64, 1},
    {"s_nor_b64 s[0:1], s[2:3], s[4:5]", In(kA, kB), 0xffffff00'ffff000f, To::kScalar64, 1},
    {"s_xnor_b64 s[0:1], s[2:3], s[4:5]", In(kA, kB), 0xffffff0f'fffff00f, To::kScalar64, 1},
    {"s_not_b64 s[0:1], s[2:3]", In(kA), 0xfffffff0'ffff0f0f, To::kScalar64, 1},
    {"s_mov_b64 s[0:1], s[2:3]", In(kA), kA, To::kScalar64, 1},
    {"s_cselect_b64 s[0:1], s[2:3], s[4:5]", In(kA, kB), kA, To::kScalar64, 1},
    {"s_add_u32 s0, s2, s4", In(0xffffffff, 2), 1, To::kScalar, 1},
    {"s_addc_u32 s0, s2, s4", In(0xffffffff, 0), 0, To::kScalar, 1},
    {"s_add_i32 s0, s2, s4", In(0x7fffffff, 1), 0x80000000, To::kScalar, 1},
    {"s_sub_u32 s0, s2, s4", In(1, 2), 0xffffffff, To::kScalar, 1},
    {"s_sub_i32 s0, s2, s4", In(1, 2), 0xffffffff, To::kScalar, 0},
    {"s_subb_u32 s0, s2, s4", In(5, 2), 2, To::kScalar, 0},
    {"s_mul_i32 s0, s2, s4", In(0x10001, 0x10001), 0x00020001, To::kScalar, 1},
    {"s_mul_hi_u32 s0, s2, s4", In(0xffffffff, 2), 1, To::kScalar, 1},
    {"s_mul_hi_i32 s0, s2, s4", In(0xffffffff, 2), 0xffffffff, To::kScalar, 1},
    {"s_lshl_b32 s0, s2, s4", In(1, 33), 2, To::kScalar, 1},
    {"s_lshr_b32 s0, s2, s4", In(0xf0, 4), 0xf, To::kScalar, 1},
    {"s_ashr_i32 s0, s2, s4", In(0x80000000, 31), 0xffffffff, To::kScalar, 1},
    {"s_lshl_b64 s[0:1], s[2:3], s4", In(1, 33), 0x2'00000000, To::kScalar64, 1},
    {"s_lshr_b64 s[0:1], s[2:3], s4", In(0x2'00000000, 33), 1, To::kScalar64, 1},
    {"s_ashr_i64 s[0:1], s[2:3], s4", In(0x80000000'00000000, 63), ~0ull, To::kScalar64, 1},
    {"s_lshl1_add_u32 s0, s2, s4", In(5, 2), 12, To::kScalar, 0},
    {"s_lshl2_add_u32 s0, s2, s4", In(5, 2), 22, To::kScalar, 0},
    {"s_lshl3_add_u32 s0, s2, s4", In(5, 2), 42, To::kScalar, 0},
    {"s_lshl4_add_u32 s0, s2, s4", In(0xf0000000, 2), 2, To::kScalar, 1},
    {"s_min_u32 s0, s2, s4", In(0xffffffff, 2), 2, To::kScalar, 0},
    {"s_max_u32 s0, s2, s4", In(0xffffffff, 2), 0xffffffff, To::kScalar, 1},
    {"s_min_i32 s0, s2, s4", In(0xffffffff, 2), 0xffffffff, To::kScalar, 1},
    {"s_max_i32 s0, s2, s4", In(0xffffffff, 2), 2, To::kScalar, 0},
    {"s_bfe_u32 s0, s2, s4", In(0xabcd, 0x80004), 0xbc, To::kScalar, 1},
    {"s_bfe_i32 s0, s2, s4", In(0xf0, 0x40004), 0xffffffff, To::kScalar, 1},
    {"s_bfm_b32 s0, s2, s4", In(4, 8), 0xf00, To::kScalar, 1},
    {"s_pack_ll_b32_b16 s0, s2, s4", In(0x1111aaaa, 0x2222bbbb), 0xbbbbaaaa, To::kScalar, 1},
    {"s_pack_lh_b32_b16 s0, s2, s4", In(0x1111aaaa, 0x2222bbbb), 0x2222aaaa, To::kScalar, 1},
    {"s_pack_hh_b32_b16 s0, s2, s4", In(0x1111aaaa, 0x2222bbbb), 0x22221111, To::kScalar, 1},
    {"s_abs_i32 s0, s2", In(0xfffffffb), 5, To::kScalar, 1},
    {"s_sext_i32_i8 s0, s2", In(0x80), 0xffffff80, To::kScalar, 1},
    {"s_sext_i32_i16 s0, s2", In(0x8000), 0xffff8000, To::kScalar, 1},
    {"s_brev_b32 s0, s2", In(5), 0xa0000000, To::kScalar, 1},
    {"s_ff1_i32_b32 s0, s2", In(0x10), 4, To::kScalar, 1},
    {"s_ff1_i32_b64 s0, s[2:3]", In(0x10'00000000), 36, To::kScalar, 1},
    {"s_flbit_i32_b32 s0, s2", In(0x10000), 15, To::kScalar, 1},
    {"s_flbit_i32_b64 s0, s[2:3]", In(0x1'00000000), 31, To::kScalar, 1},
    {"s_flbit_i32 s0, s2", In(0xffff0000), 16, To::kScalar, 1},
    {"s_flbit_i32_i64 s0, s[2:3]", In(0xffffffff'00000000), 32, To::kScalar, 1},
    {"s_bcnt1_i32_b32 s0, s2", In(0xf0f0), 8, To::kScalar, 1},
    {"s_bcnt1_i32_b64 s0, s[2:3]", In(0xff'0000000f), 12, To::kScalar, 1},
    {"s_bitset0_b32 s0, s2", In(1), 0xffdeadbc, To::kScalar, 1},
    {"s_bitset1_b32 s0, s2", In(0), 0xffdeadbf, To::kScalar, 1},
    {"s_movk_i32 s0, 0xfff0", In(0), 0xfffffff0, To::kScalar, 1},
    {"s_addk_i32 s0, 0x2", In(0), 0xffdeadc0, To::kScalar, 0},
    {"s_mulk_i32 s0, 0x2", In(0), 0xffbd5b7c, To::kScalar, 1},
    // --- integers ---
    {"v_mov_b32_e32 v0, v2", In(7), 7},
    {"v_mov_b64 v[0:1], v[2:3]", In(kA), kA, To::kVector64},
    {"v_not_b32_e32 v0, v2", In(0xf0), 0xffffff0f},
    {"v_and_b32_e32 v0, v2, v4", In(kA, kB), 0xf000},
    {"v_or_b32_e32 v0, v2, v4", In(kA, kB), 0xfff0},
    {"v_xor_b32_e32 v0, v2, v4", In(kA, kB), 0x0ff0},
    {"v_xnor_b32_e32 v0, v2, v4", In(kA, kB), 0xfffff00f},
    {"v_add_u32_e32 v0, v2, v4", In(0xffffffff, 2), 1},
    {"v_sub_u32_e32 v0, v2, v4", In(1, 2), 0xffffffff},
    {"v_subrev_u32_e32 v0, v2, v4", In(1, 3), 2},
    {"v_add_i32 v0, v2, v4", In(5, 0xfffffff9), 0xfffffffe},
    {"v_sub_i32 v0, v2, v4", In(5, 7), 0xfffffffe},
    {"v_add3_u32 v0, v2, v4, v6", In(1, 2, 3), 6},
    {"v_lshl_add_u32 v0, v2, v4, v6", In(5, 3, 2), 42},
    {"v_add_lshl_u32 v0, v2, v4, v6", In(1, 2, 4), 48},
    {"v_xad_u32 v0, v2, v4, v6", In(6, 3, 10), 15},
    {"v_mad_u32_u24 v0, v2, v4, v6", In(0xff000003, 0xff000005, 7), 22},
    {"v_mad_i32_i24 v0, v2, v4, v6", In(0xffffff, 5, 7), 2},
    {"v_mul_u32_u24_e32 v0, v2, v4", In(0xff000003, 5), 15},
    {"v_mul_hi_u32_u24_e32 v0, v2, v4", In(0xff800000, 0xffffff), 0x7fff},
    {"v_mul_i32_i24_e32 v0, v2, v4", In(0xffffff, 5), 0xfffffffb},
    {"v_mul_lo_u32 v0, v2, v4", In(0x10001, 0x10001), 0x20001},
    {"v_mul_hi_u32 v0, v2, v4", In(0xffffffff, 0xffffffff), 0xfffffffe},
    {"v_mul_hi_i32 v0, v2, v4", In(0xffffffff, 2), 0xffffffff},
    {"v_min_u32_e32 v0, v2, v4", In(0xffffffff, 1), 1},
    {"v_max_u32_e32 v0, v2, v4", In(0xffffffff, 1), 0xffffffff},
    {"v_min_i32_e32 v0, v2, v4", In(0xffffffff, 1), 0xffffffff},
    {"v_max_i32_e32 v0, v2, v4", In(0xffffffff, 1), 1},
    {"v_min3_u32 v0, v2, v4, v6", In(0xffffffff, 9, 5), 5},
    {"v_max3_u32 v0, v2, v4, v6", In(1, 9, 5), 9},
    {"v_min3_i32 v0, v2, v4, v6", In(0xffffffff, 9, 5), 0xffffffff},
    {"v_max3_i32 v0, v2, v4, v6", In(0xffffffff, 9, 5), 9},
    {"v_med3_u32 v0, v2, v4, v6", In(0xffffffff, 9, 5), 9},
    {"v_med3_i32 v0, v2, v4, v6", In(0xffffffff, 9, 5), 5},
    {"v_subb_co_u32_e32 v0, vcc, v2, v4, vcc", In(5, 2), 2},  // lane 1 borrows
    {"v_subrev_co_u32_e32 v0, vcc, v2, v4", In(5, 7), 2},
    {"v_lshlrev_b64 v[0:1], v2, v[4:5]", In(33, 1), 0x2'00000000, To::kVector64},
    {"v_lshrrev_b64 v[0:1], v2, v[4:5]", In(33, 0x2'00000000), 1, To::kVector64},
    {"v_ashrrev_i64 v[0:1], v2, v[4:5]", In(63, 0x80000000'00000000), ~0ull, To::kVector64},
    {"v_add_u16_e32 v0, v2, v4", In(0x1ffff, 2), 1},
    {"v_sub_u16_e32 v0, v2, v4", In(1, 2), 0xffff},
    {"v_mul_lo_u16_e32 v0, v2, v4", In(0x101, 0x101), 0x201},
    {"v_lshlrev_b16_e32 v0, v2, v4", In(4, 0xffff1234), 0x2340},
    {"v_lshrrev_b16_e32 v0, v2, v4", In(4, 0xffff1234), 0x123},
    {"v_ashrrev_i16_e32 v0, v2, v4", In(4, 0xffff9234), 0xf923},
    {"v_min_u16_e32 v0, v2, v4", In(0x10005, 7), 5},
    {"v_max_u16_e32 v0, v2, v4", In(0x10005, 7), 7},
    {"v_bfrev_b32_e32 v0, v2", In(5), 0xa0000000},
    {"v_ffbh_u32_e32 v0, v2", In(0x10000), 15},
    {"v_ffbl_b32_e32 v0, v2", In(0x10000), 16},
    {"v_lshlrev_b32_e32 v0, v2, v4", In(33, 1), 2},
    {"v_lshrrev_b32_e32 v0, v2, v4", In(4, 0xf0), 0xf},
    {"v_ashrrev_i32_e32 v0, v2, v4", In(31, 0x80000000), 0xffffffff},
    {"v_bfm_b32 v0, v2, v4", In(4, 8), 0xf00},
    {"v_bcnt_u32_b32 v0, v2, v4", In(0xf0f0, 5), 13},
    {"v_bfe_u32 v0, v2, v4, v6", In(0xabcd, 4, 8), 0xbc},
    {"v_bfe_i32 v0, v2, v4, v6", In(0xf0, 4, 4), 0xffffffff},
    {"v_bfi_b32 v0, v2, v4, v6", In(0xffff0000, 0x12345678, 0x9abcdef0), 0x1234def0},
    {"v_and_or_b32 v0, v2, v4, v6", In(0xff, 0x0f, 0xf0), 0xff},
    {"v_or3_b32 v0, v2, v4, v6", In(1, 2, 4), 7},
    {"v_lshl_or_b32 v0, v2, v4, v6", In(0x12, 8, 0x34), 0x1234},
    {"v_alignbit_b32 v0, v2, v4, v6", In(0x11112222, 0x33334444, 16), 0x22223333},
    {"v_alignbyte_b32 v0, v2, v4, v6", In(0x11223344, 0x55667788, 1), 0x44556677},
    {"v_perm_b32 v0, v2, v4, v6", In(0x33221100, 0x77665544, 0x07000c0d), 0x334400ff},
    {"v_bitop3_b32 v0, v2, v4, v6 bitop3:0xe8", In(0xff00ff00, 0xffff0000, 0xf0f0f0f0), 0xfff0f000},
    {"v_bitop3_b16 v0, v2, v4, v6 bitop3:0xe8", In(0xff00ff00, 0xffff00ff, 0xf0f0f0f0), 0xf0f0},
    {"v_cndmask_b32_e32 v0, v2, v4, vcc", In(10, 20), 20},
    // --- float32 ---
    {"v_add_f32_e32 v0, v2, v4", In(F(1.5f), F(2.25f)), F(3.75f)},
    {"v_sub_f32_e32 v0, v2, v4", In(F(1.5f), F(2.25f)), F(-0.75f)},
    {"v_subrev_f32_e32 v0, v2, v4", In(F(1.5f), F(2.25f)), F(0.75f)},
    {"v_mul_f32_e32 v0, v2, v4", In(F(1.5f), F(3.0f)), F(4.5f)},
    {"v_max_f32_e32 v0, v2, v4", In(kNan, F(3.0f)), F(3.0f)},
    {"v_min_f32_e32 v0, v2, v4", In(F(-1.0f), F(3.0f)), F(-1.0f)},
    {"v_max3_f32 v0, v2, v4, v6", In(F(1.0f), F(5.0f), F(2.0f)), F(5.0f)},
    {"v_min3_f32 v0, v2, v4, v6", In(F(1.0f), F(5.0f), kNan), F(1.0f)},
    {"v_med3_f32 v0, v2, v4, v6", In(F(1.0f), F(5.0f), F(2.0f)), F(2.0f)},
    {"v_maximum3_f32 v0, v2, v4, v6", In(F(1.0f), kNan, F(2.0f)), kNan},
    {"v_minimum3_f32 v0, v2, v4, v6", In(F(1.0f), F(5.0f), F(2.0f)), F(1.0f)},
    {"v_fma_f32 v0, v2, v4, v6", In(F(2.0f), F(3.0f), F(1.0f)), F(7.0f)},
    {"v_fmaak_f32 v0, v2, v4, 0x40000000", In(F(2.0f), F(3.0f)), F(8.0f)},
    {"v_fmamk_f32 v0, v2, 0x40000000, v4", In(F(3.0f), F(1.0f)), F(7.0f)},
    {"v_floor_f32_e32 v0, v2", In(F(-1.5f)), F(-2.0f)},
    {"v_ceil_f32_e32 v0, v2", In(F(-1.5f)), F(-1.0f)},
    {"v_trunc_f32_e32 v0, v2", In(F(1.5f)), F(1.0f)},
    {"v_rndne_f32_e32 v0, v2", In(F(3.5f)), F(4.0f)},
    {"v_fract_f32_e32 v0, v2", In(F(-1.25f)), F(0.75f)},
    {"v_frexp_mant_f32_e32 v0, v2", In(F(12.0f)), F(0.75f)},
    {"v_frexp_exp_i32_f32_e32 v0, v2", In(F(12.0f)), 4},
    {"v_ldexp_f32 v0, v2, v4", In(F(1.5f), 3), F(12.0f)},
    {"v_rcp_f32_e32 v0, v2", In(F(4.0f)), F(0.25f)},
    {"v_rcp_iflag_f32_e32 v0, v2", In(F(8.0f)), F(0.125f)},
    {"v_rsq_f32_e32 v0, v2", In(F(16.0f)), F(0.25f)},
    {"v_exp_f32_e32 v0, v2", In(F(3.0f)), F(8.0f)},
    {"v_log_f32_e32 v0, v2", In(F(8.0f)), F(3.0f)},
    {"v_sin_f32_e32 v0, v2", In(F(0.25f)), F(1.0f)},
    {"v_cos_f32_e32 v0, v2", In(F(0.5f)), F(-1.0f)},
    {"v_sqrt_f32_e32 v0, v2", In(F(9.0f)), F(3.0f)},
    {"v_div_fixup_f32 v0, v2, v4, v6", In(F(7.0f), F(-2.0f), F(14.0f)), F(-7.0f)},
    // --- float64 ---
    {"v_add_f64 v[0:1], v[2:3], v[4:5]", In(D(1.5), D(-2.25)), D(-0.75), To::kVector64},
    {"v_mul_f64 v[0:1], v[2:3], v[4:5]", In(D(1.5), D(-2.25)), D(-3.375), To::kVector64},
    {"v_fma_f64 v[0:1], v[2:3], v[4:5], v[6:7]", In(D(1.5), D(2.0), D(0.25)), D(3.25), To::kVector64},
    {"v_min_f64 v[0:1], v[2:3], v[4:5]", In(D(1.5), D(-2.25)), D(-2.25), To::kVector64},
    {"v_max_f64 v[0:1], v[2:3], v[4:5]", In(D(1.5), D(-2.25)), D(1.5), To::kVector64},
    {"v_floor_f64_e32 v[0:1], v[2:3]", In(D(-1.5)), D(-2.0), To::kVector64},
    {"v_ceil_f64_e32 v[0:1], v[2:3]", In(D(-1.5)), D(-1.0), To::kVector64},
    {"v_trunc_f64_e32 v[0:1], v[2:3]", In(D(1.5)), D(1.0), To::kVector64},
    {"v_rndne_f64_e32 v[0:1], v[2:3]", In(D(2.5)), D(2.0), To::kVector64},
    {"v_fract_f64_e32 v[0:1], v[2:3]", In(D(-1.25)), D(0.75), To::kVector64},
    {"v_rcp_f64_e32 v[0:1], v[2:3]", In(D(4.0)), D(0.25), To::kVector64},
    {"v_rsq_f64_e32 v[0:1], v[2:3]", In(D(16.0)), D(0.25), To::kVector64},
    {"v_frexp_mant_f64_e32 v[0:1], v[2:3]", In(D(12.0)), D(0.75), To::kVector64},
    {"v_frexp_exp_i32_f64_e32 v0, v[2:3]", In(D(12.0)), 4},
    {"v_ldexp_f64 v[0:1], v[2:3], v4", In(D(1.5), 3), D(12.0), To::kVector64},
    {"v_div_fixup_f64 v[0:1], v[2:3], v[4:5], v[6:7]", In(D(7), D(-2), D(14)), D(-7), To::kVector64},
    {"v_cvt_f64_f32_e32 v[0:1], v2", In(F(0.1f)), D(static_cast<double>(0.1f)), To::kVector64},
    {"v_cvt_f64_i32_e32 v[0:1], v2", In(0xfffffffe), D(-2.0), To::kVector64},
    {"v_cvt_f64_u32_e32 v[0:1], v2", In(0xfffffffe), D(4294967294.0), To::kVector64},
    {"v_cvt_f32_f64_e32 v0, v[2:3]", In(D(-2.25)), F(-2.25f)},
    {"v_cvt_i32_f64_e32 v0, v[2:3]", In(D(-2.75)), 0xfffffffe},
    {"v_cvt_u32_f64_e32 v0, v[2:3]", In(D(1e12)), 0xffffffff},
    // --- conversions ---
    {"v_cvt_f32_i32_e32 v0, v2", In(0xffffffff), F(-1.0f)},
    {"v_cvt_f32_u32_e32 v0, v2", In(3), F(3.0f)},
    {"v_cvt_f32_ubyte0_e32 v0, v2", In(0x04030201), F(1.0f)},
    {"v_cvt_f32_ubyte1_e32 v0, v2", In(0x04030201), F(2.0f)},
    {"v_cvt_f32_ubyte2_e32 v0, v2", In(0x04030201), F(3.0f)},
    {"v_cvt_f32_ubyte3_e32 v0, v2", In(0x04030201), F(4.0f)},
    {"v_cvt_u32_f32_e32 v0, v2", In(F(3.75f)), 3},
    {"v_cvt_i32_f32_e32 v0, v2", In(F(-3.75f)), 0xfffffffd},
    {"v_cvt_f32_f16_e32 v0, v2", In(0xc100), F(-2.5f)},
    {"v_cvt_f16_f32_e32 v0, v2", In(F(-2.5f)), 0xc100},
    {"v_cvt_f32_bf16_e32 v0, v2", In(0xc020), F(-2.5f)},
    {"v_cvt_pk_bf16_f32 v0, v2, v4", In(F(1.0f), F(-2.5f)), 0xc0203f80},
    {"v_cvt_scalef32_pk_fp4_f32 v0, v2, v4, v6", In(F(2.0f), F(-6.0f), F(1.0f)), 0xffdeadf4},
    {"v_cvt_scalef32_pk_fp8_f32 v0, v2, v4, v6", In(F(2.0f), F(4.0f), F(2.0f)), 0xffde4038},
    {"v_cvt_scalef32_pk_f32_fp4 v[0:1], v2, v4", In(0x64, F(0.5f)), F(1.0f) | uint64_t{F(2.0f)} << 32, To::kVector64},
    {"v_cvt_scalef32_pk_bf16_fp4 v0, v2, v4", In(0x64, F(0.5f)), 0x40003f80},
    {"v_cvt_scalef32_pk_f32_fp8 v[0:1], v2, v4", In(0x4038, F(2.0f)), F(2.0f) | uint64_t{F(4.0f)} << 32, To::kVector64},
    {"v_cvt_scalef32_pk_bf16_fp8 v0, v2, v4", In(0x4038, F(1.0f)), 0x40003f80},
    {"v_cvt_pk_fp8_f32 v0, v2, v4", In(F(1.0f), F(2.0f)), 0xffde4038},
    {"v_cvt_pk_f32_fp8_e32 v[0:1], v2", In(0x4038), F(1.0f) | uint64_t{F(2.0f)} << 32, To::kVector64},
};

TEST(Opcode, Cases) {
  for (const Case& c : kCases) {
    SCOPED_TRACE(c.text);
    LabWith lab(c.in);
    lab.Run(c.text);
    const bool wide = c.to == To::kVector64 || c.to == To::kScalar64;
    const auto word = [&](int i) { return c.to == To::kVector || c.to == To::kVector64 ? lab.Get(i, 1) : lab.s(i); };
    EXPECT_EQ(word(0) | (wide ? uint64_t{word(1)} << 32 : 0), c.expected);
    if (c.scc >= 0) {
      EXPECT_EQ(lab.wave().scc, c.scc == 1);
    }
  }
}

// --- comparisons: every type with -1 and 1, with like values, and with a NaN ---

struct Comparison {
  const char* name;
  bool less, same, greater;  // what it answers when the first is less, the same, greater
};
constexpr Comparison kComparisons[] = {
    {"eq", false, true, false}, {"ne", true, false, true},  {"lg", true, false, true}, {"lt", true, false, false},
    {"le", true, true, false},  {"gt", false, false, true}, {"ge", false, true, true}};
struct FloatComparison {
  const char* name;
  bool less, same, greater, unordered;
};
constexpr FloatComparison kFloatComparisons[] = {
    {"eq", false, true, false, false}, {"lg", true, false, true, false},  {"lt", true, false, false, false},
    {"le", true, true, false, false},  {"gt", false, false, true, false}, {"ge", false, true, true, false},
    {"neq", true, false, true, true},  {"nlg", false, true, false, true}, {"nlt", false, true, true, true},
    {"nle", false, false, true, true}, {"ngt", true, true, false, true},  {"nge", true, false, false, true},
    {"o", true, true, true, false},    {"u", false, false, false, true}};

TEST(Opcode, ScalarComparisons) {
  for (const Comparison& c : kComparisons) {
    if (std::string(c.name) == "ne") continue;  // vectors' name for it
    for (const std::string type : {"u32", "i32", "u64"}) {
      const bool wide = type == "u64", is_signed = type == "i32";
      if (wide && std::string(c.name) != "eq" && std::string(c.name) != "lg") continue;
      for (const bool constant : {false, true}) {
        if (wide && constant) continue;
        const std::string name = std::string(constant ? "s_cmpk_" : "s_cmp_") + c.name + "_" + type;
        const std::string text = name + (wide ? " s[2:3], s[4:5]" : constant ? " s2, 0x1" : " s2, s4");
        SCOPED_TRACE(text);
        for (const auto& [first, expected] : {std::pair{~0ull, is_signed ? c.less : c.greater}, {1ull, c.same}}) {
          LabWith lab(In(first, 1));
          lab.Run(text);
          EXPECT_EQ(lab.wave().scc, expected) << first;
        }
      }
    }
  }
  for (const auto& [text, expected] : {std::pair{"s_bitcmp0_b32 s2, s4", false}, {"s_bitcmp1_b32 s2, s4", true}}) {
    LabWith lab(In(4, 2));
    lab.Run(text);
    EXPECT_EQ(lab.wave().scc, expected) << text;
  }
}

bool Answer(const std::string& text, const Words& in) {
  LabWith lab(in);
  lab.Run(text);
  const uint64_t mask = lab.wave().vcc();
  EXPECT_TRUE(mask == 0 || mask == ~0ull) << text;
  return mask != 0;
}

TEST(Opcode, VectorComparisons) {
  for (const Comparison& c : kComparisons) {
    if (std::string(c.name) == "lg") continue;
    for (const std::string type : {"i16", "u16", "i32", "u32", "i64", "u64"}) {
      const bool wide = type[1] == '6' && type[2] == '4';
      const std::string text =
          "v_cmp_" + std::string(c.name) + "_" + type + (wide ? "_e32 vcc, v[2:3], v[4:5]" : "_e32 vcc, v2, v4");
      EXPECT_EQ(Answer(text, In(~0ull, 1)), type[0] == 'i' ? c.less : c.greater) << text;
      EXPECT_EQ(Answer(text, In(7, 7)), c.same) << text;
    }
  }
  for (const FloatComparison& c : kFloatComparisons) {
    const std::string name = "v_cmp_" + std::string(c.name);
    const double nan = std::nan("");
    for (const auto& [a, b, expected] : {std::tuple{-1.0, 1.0, c.less},
                                         {2.0, 2.0, c.same},
                                         {3.0, -3.0, c.greater},
                                         {nan, 1.0, c.unordered},
                                         {1.0, nan, c.unordered}}) {
      EXPECT_EQ(Answer(name + "_f32_e32 vcc, v2, v4", In(F(static_cast<float>(a)), F(static_cast<float>(b)))),
                expected);
      EXPECT_EQ(Answer(name + "_f64_e32 vcc, v[2:3], v[4:5]", In(D(a), D(b))), expected) << name;
    }
  }
  EXPECT_TRUE(Answer("v_cmp_class_f32_e32 vcc, v2, v4", In(F(-0.0f), 1 << 5)));
  EXPECT_FALSE(Answer("v_cmp_class_f32_e32 vcc, v2, v4", In(F(0.0f), 1 << 5)));
  EXPECT_TRUE(Answer("v_cmp_class_f64_e32 vcc, v[2:3], v4", In(D(-INFINITY), 1 << 2)));
  EXPECT_FALSE(Answer("v_cmp_class_f64_e32 vcc, v[2:3], v4", In(D(1.0), 1 << 2)));
}

TEST(Opcode, SavingExec) {
  for (const auto& [name, expected] : {std::pair{"and", 0x0full},
                                       {"or", 0xfffull},
                                       {"xor", 0xff0ull},
                                       {"andn2", 0xf00ull},
                                       {"orn2", 0xffffffffffffff0full},
                                       {"andn1", 0xf0ull},
                                       {"nor", 0xfffffffffffff000ull}}) {
    LabWith lab(In(0xf0f));
    lab.wave().SetExec(0xff);
    lab.Run(std::string("s_") + name + "_saveexec_b64 s[0:1], s[2:3]");
    EXPECT_EQ(lab.s(0), 0xffu) << name;
    EXPECT_EQ(lab.wave().exec(), expected) << name;
    EXPECT_TRUE(lab.wave().scc);
  }
}

TEST(Opcode, Accumulators) {
  LabWith moved(In(77));
  moved.Run("v_accvgpr_write_b32 a0, v2");
  moved.Run("v_accvgpr_mov_b32 a1, a0");
  moved.Run("v_accvgpr_read_b32 v0, a1");
  EXPECT_EQ(moved.Get(0, 5), 77u);
  LabWith summed(In(F(2.0f), F(3.0f)));
  summed.Set(0, F(1.0f));
  summed.Run("v_fmac_f32_e32 v0, v2, v4");
  EXPECT_EQ(summed.GetFloat(0), 7.0f);
  LabWith wide(In(D(2.0), D(3.0)));
  wide.Set(0, 0);
  wide.Set(1, static_cast<uint32_t>(D(1.0) >> 32));
  wide.Run("v_fmac_f64_e32 v[0:1], v[2:3], v[4:5]");
  EXPECT_EQ(wide.Get(1), static_cast<uint32_t>(D(7.0) >> 32));
}

TEST(Opcode, DivisionOfDoublesInSteps) {
  for (const auto& [a, b] : {std::pair{1.0, 3.0}, {2.0, 1e300}, {1e-300, 7.0}, {-5.0, 1e-310}, {-7.5, -2.5}}) {
    LabWith lab(In(D(a), D(b)));
    lab.Run("v_div_scale_f64 v[10:11], s[6:7], v[4:5], v[4:5], v[2:3]");
    lab.Run("v_rcp_f64_e32 v[12:13], v[10:11]");
    lab.Run("v_fma_f64 v[14:15], -v[10:11], v[12:13], 1.0");
    lab.Run("v_fma_f64 v[12:13], v[12:13], v[14:15], v[12:13]");
    lab.Run("v_div_scale_f64 v[14:15], vcc, v[2:3], v[4:5], v[2:3]");
    lab.Run("v_mul_f64 v[16:17], v[14:15], v[12:13]");
    lab.Run("v_fma_f64 v[10:11], -v[10:11], v[16:17], v[14:15]");
    lab.Run("v_div_fmas_f64 v[10:11], v[10:11], v[12:13], v[16:17]");
    lab.Run("v_div_fixup_f64 v[0:1], v[10:11], v[4:5], v[2:3]");
    EXPECT_EQ(lab.Get(0) | uint64_t{lab.Get(1)} << 32, D(a / b)) << a << " / " << b;
  }
}

TEST(Opcode, RowsOfLanesSwap) {
  Lab lab;
  lab.SetLanes(2, [](int l) { return l; });
  lab.SetLanes(3, [](int l) { return 100 + l; });
  lab.Run("v_permlane16_swap_b32_e32 v2, v3");
  EXPECT_EQ(lab.Get(2, 16), 100u);
  EXPECT_EQ(lab.Get(3, 0), 16u);
  EXPECT_EQ(lab.Get(2, 63), 147u);
  EXPECT_EQ(lab.Get(3, 47), 63u);
  EXPECT_EQ(lab.Get(2, 5), 5u);
}

// --- control ---

struct BranchCase {
  const char* name;
  bool scc;
  uint64_t vcc, exec;
  bool taken;
};
constexpr BranchCase kBranches[] = {{"s_branch", false, 0, 0, true},         {"s_cbranch_scc0", false, 0, 1, true},
                                    {"s_cbranch_scc0", true, 0, 1, false},   {"s_cbranch_scc1", true, 0, 1, true},
                                    {"s_cbranch_scc1", false, 0, 1, false},  {"s_cbranch_vccz", false, 0, 1, true},
                                    {"s_cbranch_vccz", false, 4, 1, false},  {"s_cbranch_vccnz", false, 4, 1, true},
                                    {"s_cbranch_vccnz", false, 0, 1, false}, {"s_cbranch_execz", false, 0, 0, true},
                                    {"s_cbranch_execz", false, 0, 1, false}, {"s_cbranch_execnz", false, 0, 1, true},
                                    {"s_cbranch_execnz", false, 0, 0, false}};
constexpr const char* kWithoutEffect[] = {"s_nop",       "s_setprio",  "s_sleep",     "s_icache_inv", "s_dcache_inv",
                                          "s_dcache_wb", "buffer_inv", "buffer_wbl2", "s_code_end"};

TEST(Opcode, Control) {
  const Instruction target, here;
  for (const BranchCase& c : kBranches) {
    Lab lab;
    Wave& w = lab.wave();
    w.scc = c.scc;
    w.s[kVcc] = static_cast<uint32_t>(c.vcc);
    w.s[kVcc + 1] = 0;
    w.SetExec(c.exec);
    w.pc = &here;
    Instruction branch;
    branch.target = &target;
    FindOperation(c.name)->run(w, branch);
    RunOpcodes().insert(c.name);
    EXPECT_EQ(w.pc == &target, c.taken) << c.name;
  }
  for (const char* name : kWithoutEffect) {
    Lab lab;
    FindOperation(name)->run(lab.wave(), here);
    RunOpcodes().insert(name);
    EXPECT_EQ(lab.Get(0), kUntouched) << name;
  }
  Lab lab;
  lab.Run("s_barrier");
  EXPECT_TRUE(lab.wave().at_barrier);
  lab.Run("s_endpgm");
  EXPECT_TRUE(lab.wave().done);
  lab.wave().outstanding = {
      {Counted::kVector, true, 4, 1}, {Counted::kVector, true, 5, 1}, {Counted::kLds, true, 6, 1}};
  lab.Run("s_waitcnt vmcnt(1)");
  EXPECT_EQ(lab.wave().outstanding.size(), 2u);
  EXPECT_EQ(lab.wave().outstanding.front().first, 5);
  lab.Run("s_waitcnt lgkmcnt(0)");
  EXPECT_EQ(lab.wave().outstanding.size(), 1u);
}

// --- matrix operations without scales, against sums by their definition ---

struct MatrixCase {
  const char* name;
  int n, k, words;
  char kind;  // b: bf16, h: f16, 8: e4m3
};
constexpr MatrixCase kMatrices[] = {
    {"v_mfma_f32_16x16x32_bf16", 16, 32, 4, 'b'},     {"v_mfma_f32_32x32x16_bf16", 32, 16, 4, 'b'},
    {"v_mfma_f32_16x16x16_bf16", 16, 16, 2, 'b'},     {"v_mfma_f32_32x32x8_bf16", 32, 8, 2, 'b'},
    {"v_mfma_f32_16x16x32_f16", 16, 32, 4, 'h'},      {"v_mfma_f32_32x32x16_f16", 32, 16, 4, 'h'},
    {"v_mfma_f32_16x16x128_f8f6f4", 16, 128, 8, '8'}, {"v_mfma_f32_32x32x64_f8f6f4", 32, 64, 8, '8'}};

TEST(Opcode, MatricesWithoutScales) {
  for (const MatrixCase& c : kMatrices) {
    SCOPED_TRACE(c.name);
    const int groups = kLanes / c.n, of_lane = c.n * c.k / kLanes;
    const auto value = [&](bool b, int row, int k) {
      return (row * (b ? 5 : 3) + k * (b ? 2 : 7) + (b ? 1 : 0)) % 5 - 2;
    };
    // 8 bits: two runs of 16 a lane.
    const auto k_of = [&](int j, int g) {
      return c.kind == '8' ? j / 16 * 16 * groups + g * 16 + j % 16 : g * of_lane + j;
    };
    const auto code = [&](int small) -> uint32_t {
      const auto number = static_cast<float>(small);
      if (c.kind == 'b') return F(number) >> 16;
      constexpr uint32_t kHalves[] = {0xc000, 0xbc00, 0, 0x3c00, 0x4000};
      if (c.kind == 'h') return kHalves[small + 2];
      return FloatToE4m3(number, 1.0);
    };
    Lab lab;
    const int bits = c.kind == '8' ? 8 : 16, of_word = 32 / bits;
    for (const bool b : {false, true}) {
      for (int word = 0; word < c.words; ++word) {
        lab.SetLanes((b ? 50 : 40) + word, [&](int l) {
          uint32_t packed = 0;
          for (int j = 0; j < of_word; ++j) {
            packed |= code(value(b, l % c.n, k_of(word * of_word + j, l / c.n))) << (bits * j);
          }
          return packed;
        });
      }
    }
    const int results = c.n * c.n / kLanes;
    for (int r = 0; r < results; ++r) lab.Set(r, F(0.5f));
    const std::string d = Registers(0, results);
    lab.Run(std::string(c.name) + " " + d + ", " + Registers(40, c.words) + ", " + Registers(50, c.words) + ", " + d);
    for (int r = 0; r < results; ++r) {
      for (int l = 0; l < kLanes; ++l) {
        const int row = 4 * groups * (r / 4) + 4 * (l / c.n) + r % 4;
        int sum = 0;
        for (int k = 0; k < c.k; ++k) sum += value(false, row, k) * value(true, l % c.n, k);
        ASSERT_EQ(lab.GetFloat(r, l), static_cast<float>(sum) + 0.5f) << r << " of lane " << l;
      }
    }
  }
}

}  // namespace
}  // namespace gfx950emu
