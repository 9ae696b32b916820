// One opcode a case; expectations follow the pseudocode of AMD's CDNA4 instruction set, worked out by hand.
#include <gtest/gtest.h>

#include <cmath>

#include "lab.h"

namespace gfx950emu {
namespace {

constexpr uint32_t kNan = 0x7fc00000u, kInf = 0x7f800000u;

uint32_t Bits(float value) { return AsBits(value); }

// v1, v2, v3 (and s4, s5, vcc) in, v0 out.
struct Case {
  const char* text;
  uint32_t v1, v2, v3, expected;
};

class VectorCase : public testing::TestWithParam<Case> {};

TEST_P(VectorCase, Result) {
  const Case& c = GetParam();
  Lab lab;
  lab.Set(1, c.v1);
  lab.Set(2, c.v2);
  lab.Set(3, c.v3);
  lab.wave().s[4] = 0x00000004;
  lab.wave().s[kVcc] = 0xaaaaaaaa;  // odd lanes
  lab.wave().s[kVcc + 1] = 0xaaaaaaaa;
  lab.Run(c.text);
  EXPECT_EQ(lab.Get(0, 1), c.expected) << c.text;
  EXPECT_EQ(lab.Get(0, 63), c.expected) << c.text;
}

INSTANTIATE_TEST_SUITE_P(
    Integer, VectorCase,
    testing::Values(
        Case{"v_mov_b32_e32 v0, 0x12345678", 0, 0, 0, 0x12345678}, Case{"v_mov_b32_e32 v0, -1", 0, 0, 0, 0xffffffff},
        Case{"v_mov_b32_e32 v0, 0.5", 0, 0, 0, 0x3f000000}, Case{"v_not_b32_e32 v0, v1", 0xf0f0f0f0, 0, 0, 0x0f0f0f0f},
        Case{"v_bfrev_b32_e32 v0, v1", 0x00000005, 0, 0, 0xa0000000},
        Case{"v_add_u32_e32 v0, v1, v2", 0xffffffff, 2, 0, 1},
        Case{"v_add_u32_e64 v0, v1, v2 clamp", 0xffffffff, 2, 0, 0xffffffff},
        Case{"v_sub_u32_e32 v0, v1, v2", 1, 2, 0, 0xffffffff}, Case{"v_subrev_u32_e32 v0, v1, v2", 1, 3, 0, 2},
        Case{"v_mul_lo_u32 v0, v1, v2", 0x10001, 0x10001, 0, 0x00020001},
        Case{"v_mul_hi_u32 v0, v1, v2", 0xffffffff, 0xffffffff, 0, 0xfffffffe},
        Case{"v_mul_hi_i32 v0, v1, v2", 0xffffffff, 2, 0, 0xffffffff},
        Case{"v_mad_u32_u24 v0, v1, v2, v3", 0xff000003, 0xff000005, 7, 22},
        Case{"v_mad_i32_i24 v0, v1, v2, v3", 0x00ffffff, 5, 7, 2}, Case{"v_lshlrev_b32_e32 v0, v1, v2", 33, 1, 0, 2},
        Case{"v_lshrrev_b32_e32 v0, 4, v2", 0, 0xf0, 0, 0xf},
        Case{"v_ashrrev_i32_e32 v0, 31, v2", 0, 0x80000000, 0, 0xffffffff},
        Case{"v_lshl_add_u32 v0, v1, 3, v3", 5, 0, 2, 42}, Case{"v_add_lshl_u32 v0, v1, v2, s4", 1, 2, 0, 48},
        Case{"v_lshl_or_b32 v0, v1, 8, v3", 0x12, 0, 0x34, 0x1234},
        Case{"v_and_or_b32 v0, v1, v2, v3", 0xff, 0x0f, 0xf0, 0xff}, Case{"v_or3_b32 v0, v1, v2, v3", 1, 2, 4, 7},
        Case{"v_xad_u32 v0, v1, v2, v3", 6, 3, 10, 15}, Case{"v_add3_u32 v0, v1, v2, v3", 1, 2, 3, 6},
        Case{"v_bfe_u32 v0, v1, 4, 8", 0xabcd, 0, 0, 0xbc},
        Case{"v_bfe_i32 v0, v1, 4, 4", 0x000000f0, 0, 0, 0xffffffff},
        Case{"v_bfi_b32 v0, v1, v2, v3", 0xffff0000, 0x12345678, 0x9abcdef0, 0x1234def0},
        Case{"v_alignbit_b32 v0, v1, v2, 16", 0x11112222, 0x33334444, 0, 0x22223333},
        Case{"v_alignbyte_b32 v0, v1, v2, 1", 0x11223344, 0x55667788, 0, 0x44556677},
        Case{"v_perm_b32 v0, v1, v2, v3", 0x33221100, 0x77665544, 0x07000c0d, 0x334400ff},
        Case{"v_perm_b32 v0, v1, v2, v3", 0x80000000, 0x00008000, 0x0b0a0908, 0xff0000ff},
        Case{"v_min_i32_e32 v0, v1, v2", 0xffffffff, 1, 0, 0xffffffff},
        Case{"v_min_u32_e32 v0, v1, v2", 0xffffffff, 1, 0, 1}, Case{"v_max3_u32 v0, v1, v2, v3", 1, 9, 5, 9},
        Case{"v_med3_i32 v0, v1, v2, v3", 0xffffffff, 7, 3, 3}, Case{"v_bcnt_u32_b32 v0, v1, v2", 0xf0f0, 5, 0, 13},
        Case{"v_ffbh_u32_e32 v0, v1", 0x00010000, 0, 0, 15}, Case{"v_ffbl_b32_e32 v0, v1", 0x00010000, 0, 0, 16},
        Case{"v_ffbh_u32_e32 v0, v1", 0, 0, 0, 0xffffffff}, Case{"v_cndmask_b32_e32 v0, v1, v2, vcc", 10, 20, 0, 20},
        // Truth table 0xe8: at least two of three.
        Case{"v_bitop3_b32 v0, v1, v2, v3 bitop3:0xe8", 0xff00ff00, 0xffff0000, 0xf0f0f0f0, 0xfff0f000},
        Case{"v_lshlrev_b16_e32 v0, v1, v2", 4, 0xffff1234, 0, 0x2340},
        Case{"v_and_b32_sdwa v0, v1, v2 dst_sel:DWORD dst_unused:UNUSED_PAD src0_sel:BYTE_1 src1_sel:WORD_1",
             0x0000ab00, 0x00f00000, 0, 0xa0}),
    [](const auto& info) { return std::to_string(info.index); });

INSTANTIATE_TEST_SUITE_P(
    Float, VectorCase,
    testing::Values(
        Case{"v_add_f32_e32 v0, v1, v2", Bits(1.5f), Bits(2.25f), 0, Bits(3.75f)},
        Case{"v_sub_f32_e64 v0, |v1|, -v2", Bits(-1.5f), Bits(2.0f), 0, Bits(3.5f)},
        Case{"v_mul_f32_e64 v0, v1, v2 mul:2", Bits(1.5f), Bits(3.0f), 0, Bits(9.0f)},
        Case{"v_mul_f32_e64 v0, v1, v2 clamp", Bits(1.5f), Bits(3.0f), 0, Bits(1.0f)},
        Case{"v_max_f32_e32 v0, v1, v2", kNan, Bits(3.0f), 0, Bits(3.0f)},
        Case{"v_max_f32_e32 v0, v1, v2", 0x80000000, 0, 0, 0},
        Case{"v_min_f32_e32 v0, v1, v2", 0x80000000, 0, 0, 0x80000000},
        Case{"v_max3_f32 v0, v1, v2, v3", Bits(1.0f), Bits(5.0f), Bits(2.0f), Bits(5.0f)},
        Case{"v_fma_f32 v0, v1, v2, v3", Bits(1.0f + 0x1p-23f), Bits(1.0f - 0x1p-23f), Bits(-1.0f), Bits(-0x1p-46f)},
        Case{"v_fmamk_f32 v0, v1, 0x40000000, v3", Bits(3.0f), 0, Bits(1.0f), Bits(7.0f)},
        Case{"v_rcp_f32_e32 v0, v1", Bits(4.0f), 0, 0, Bits(0.25f)},
        Case{"v_rcp_f32_e32 v0, v1", 0x00000001, 0, 0, kInf},  // a subnormal counts as 0
        Case{"v_rsq_f32_e32 v0, v1", Bits(16.0f), 0, 0, Bits(0.25f)},
        Case{"v_sqrt_f32_e32 v0, v1", Bits(9.0f), 0, 0, Bits(3.0f)},
        Case{"v_exp_f32_e32 v0, v1", Bits(3.0f), 0, 0, Bits(8.0f)},
        Case{"v_exp_f32_e32 v0, v1", Bits(-130.0f), 0, 0, 0},
        Case{"v_log_f32_e32 v0, v1", Bits(8.0f), 0, 0, Bits(3.0f)},
        Case{"v_rndne_f32_e32 v0, v1", Bits(2.5f), 0, 0, Bits(2.0f)},
        Case{"v_floor_f32_e32 v0, v1", Bits(-1.5f), 0, 0, Bits(-2.0f)},
        Case{"v_trunc_f32_e32 v0, v1", Bits(-1.5f), 0, 0, Bits(-1.0f)},
        Case{"v_fract_f32_e32 v0, v1", Bits(-1.25f), 0, 0, Bits(0.75f)},
        Case{"v_ldexp_f32 v0, v1, v2", Bits(1.5f), 0xfffffffe, 0, Bits(0.375f)},
        Case{"v_frexp_mant_f32_e32 v0, v1", Bits(12.0f), 0, 0, Bits(0.75f)},
        Case{"v_frexp_exp_i32_f32_e32 v0, v1", Bits(12.0f), 0, 0, 4},
        Case{"v_div_fixup_f32 v0, v1, v2, v3", Bits(7.0f), Bits(-0.0f), Bits(2.0f), kInf | 0x80000000},
        Case{"v_div_fixup_f32 v0, v1, v2, v3", Bits(7.0f), 0, 0, kNan},
        Case{"v_cvt_f32_i32_e32 v0, v1", 0xffffffff, 0, 0, Bits(-1.0f)},
        Case{"v_cvt_f32_u32_e32 v0, v1", 0xffffffff, 0, 0, Bits(4294967296.0f)},
        Case{"v_cvt_u32_f32_e32 v0, v1", Bits(-3.0f), 0, 0, 0},
        Case{"v_cvt_i32_f32_e32 v0, v1", Bits(3e9f), 0, 0, 0x7fffffff}, Case{"v_cvt_i32_f32_e32 v0, v1", kNan, 0, 0, 0},
        Case{"v_cvt_f32_ubyte2_e32 v0, v1", 0x00070000, 0, 0, Bits(7.0f)},
        // Ties to even, twice: 1 + 2^-8 and 1 + 3 * 2^-8.
        Case{"v_cvt_pk_bf16_f32 v0, v1, v2", 0x3f808000, 0x3f818000, 0, 0x3f823f80},
        // 2.5 / 2^0 and 3.5 / 2^0 lie between codes; the even ones are 2 (code 4) and 4 (code 6).
        Case{"v_cvt_scalef32_pk_fp4_f32 v0, v1, v2, 1.0 op_sel:[0,0,0,0]", Bits(2.5f), Bits(3.5f), 0, 0xffdead64},
        Case{"v_cvt_scalef32_pk_fp4_f32 v0, v1, v2, 1.0 op_sel:[0,0,1,0]", Bits(-6.0f), Bits(100.0f), 0, 0xffde7fbe},
        Case{"v_cvt_scalef32_pk_bf16_fp4 v0, v1, v2 op_sel:[1,0,0]", 0x0000fa00, Bits(0.5f), 0, 0xc040bf00},
        Case{"v_cvt_pk_fp8_f32 v0, v1, v2 op_sel:[0,0,1]", Bits(1.0f), Bits(500.0f), 0, 0x7f38adbe}),
    [](const auto& info) { return std::to_string(info.index); });

TEST(Instruction, DppReadsAllLanesBeforeItWritesOne) {
  Lab lab;
  lab.SetLanes(1, [](int l) { return Bits(static_cast<float>(l)); });
  lab.Run("v_add_f32_dpp v1, v1, v1 row_shr:1 row_mask:0xf bank_mask:0xf");
  EXPECT_EQ(lab.GetFloat(1, 0), 0.0f);    // the first of a row has no source and keeps its value
  EXPECT_EQ(lab.GetFloat(1, 16), 16.0f);  // so it is in every row
  EXPECT_EQ(lab.GetFloat(1, 5), 9.0f);
  EXPECT_EQ(lab.GetFloat(1, 63), 125.0f);
}

TEST(Instruction, DppControls) {
  const auto read = [](const char* control, int lane) {
    Lab lab;
    lab.SetLanes(1, [](int l) { return l; });
    lab.Set(0, 1000);
    lab.Run(std::string("v_mov_b32_dpp v0, v1 ") + control + " row_mask:0xf bank_mask:0xf");
    return lab.Get(0, lane);
  };
  EXPECT_EQ(read("quad_perm:[1,0,3,2]", 6), 7u);
  EXPECT_EQ(read("row_shl:2", 13), 15u);
  EXPECT_EQ(read("row_shl:2", 14), 1000u);
  EXPECT_EQ(read("row_ror:4", 17), 29u);
  EXPECT_EQ(read("row_mirror", 18), 29u);
  EXPECT_EQ(read("row_half_mirror", 9), 14u);
  EXPECT_EQ(read("row_bcast:15", 40), 31u);
  EXPECT_EQ(read("row_bcast:31", 40), 31u);
  EXPECT_EQ(read("row_bcast:31", 20), 1000u);
  EXPECT_EQ(read("row_newbcast:3", 40), 35u);
}

TEST(Instruction, DppMasksAndBoundControl) {
  Lab lab;
  lab.SetLanes(1, [](int l) { return l; });
  lab.Set(0, 1000);
  lab.Run("v_mov_b32_dpp v0, v1 row_shr:1 row_mask:0x2 bank_mask:0x1 bound_ctrl:1");
  EXPECT_EQ(lab.Get(0, 3), 1000u);   // another row
  EXPECT_EQ(lab.Get(0, 20), 1000u);  // another bank
  EXPECT_EQ(lab.Get(0, 17), 16u);
  EXPECT_EQ(lab.Get(0, 16), 0u);  // beyond the row: 0
}

TEST(Instruction, LanesThatAreOffKeepTheirRegisters) {
  Lab lab;
  lab.wave().SetExec(0x5);
  lab.Set(0, 7);
  lab.Run("v_mov_b32_e32 v0, 1");
  EXPECT_EQ(lab.Get(0, 0), 1u);
  EXPECT_EQ(lab.Get(0, 1), 7u);
  EXPECT_EQ(lab.Get(0, 2), 1u);
}

TEST(Instruction, ComparisonsGiveMasksOfLanesThatAreOn) {
  Lab lab;
  lab.SetLanes(1, [](int l) { return l; });
  lab.wave().SetExec(0x0000ffff0000ffffull);
  lab.Run("v_cmp_gt_u32_e32 vcc, 4, v1");
  EXPECT_EQ(lab.wave().vcc(), 0xfull);
  lab.Set(2, kNan);
  lab.Run("v_cmp_neq_f32_e64 s[6:7], v2, v2");
  EXPECT_EQ(lab.s(6), 0xffffu);
  EXPECT_EQ(lab.s(7), 0xffffu);
  lab.Run("v_cmp_lg_f32_e32 vcc, v2, v2");
  EXPECT_EQ(lab.wave().vcc(), 0ull);
  lab.Set(2, 0x80000001);  // a negative subnormal: bit 4
  lab.Set(3, 1 << 4);
  lab.Run("v_cmp_class_f32_e32 vcc, v2, v3");
  EXPECT_EQ(lab.wave().vcc(), 0x0000ffff0000ffffull);
}

TEST(Instruction, CarriesChainTo64Bits) {
  Lab lab;
  lab.Set(1, 0xffffffff);
  lab.Set(2, 1);
  lab.Set(3, 5);
  lab.Run("v_add_co_u32_e32 v0, vcc, v1, v2");
  lab.Run("v_addc_co_u32_e32 v4, vcc, 0, v3, vcc");
  EXPECT_EQ(lab.Get(0), 0u);
  EXPECT_EQ(lab.Get(4), 6u);
  lab.Run("v_sub_co_u32_e32 v0, vcc, v2, v1");
  lab.Run("v_subbrev_co_u32_e32 v4, vcc, 0, v3, vcc");
  EXPECT_EQ(lab.Get(0), 2u);
  EXPECT_EQ(lab.Get(4), 4u);
}

TEST(Instruction, WideIntegers) {
  Lab lab;
  lab.Set(2, 0xffffffff);
  lab.Set(3, 0xffffffff);
  lab.Set(4, 1);
  lab.Set(5, 0);
  lab.Run("v_mad_u64_u32 v[0:1], s[6:7], v2, v3, v[4:5]");
  EXPECT_EQ(lab.Get(0), 2u);
  EXPECT_EQ(lab.Get(1), 0xfffffffeu);
  lab.Run("v_mad_i64_i32 v[0:1], s[6:7], v2, 3, v[4:5]");
  EXPECT_EQ(lab.Get(0), 0xfffffffeu);
  EXPECT_EQ(lab.Get(1), 0xffffffffu);
  lab.Run("v_lshlrev_b64 v[0:1], 33, v[4:5]");
  EXPECT_EQ(lab.Get(0), 0u);
  EXPECT_EQ(lab.Get(1), 2u);
  lab.Run("v_lshl_add_u64 v[0:1], v[2:3], 4, v[4:5]");
  EXPECT_EQ(lab.Get(0), 0xfffffff1u);
}

TEST(Instruction, DivisionInStepsIsRoundedOnce) {
  // The sequence that compilers write for a / b.
  for (const auto& [a, b] : {std::pair{1.0f, 3.0f}, {2.0f, 3e38f}, {1e-38f, 7.0f}, {-5.0f, 1e-40f}, {3e38f, 0.1f}}) {
    Lab lab;
    lab.Set(1, Bits(a));
    lab.Set(2, Bits(b));
    lab.Run("v_div_scale_f32 v3, s[6:7], v2, v2, v1");
    lab.Run("v_div_scale_f32 v4, vcc, v1, v2, v1");
    lab.Run("v_rcp_f32_e32 v5, v3");
    lab.Run("v_fma_f32 v6, -v3, v5, 1.0");
    lab.Run("v_fmac_f32_e32 v5, v6, v5");
    lab.Run("v_mul_f32_e32 v6, v4, v5");
    lab.Run("v_fma_f32 v7, -v3, v6, v4");
    lab.Run("v_fmac_f32_e32 v6, v7, v5");
    lab.Run("v_fma_f32 v3, -v3, v6, v4");
    lab.Run("v_div_fmas_f32 v3, v3, v5, v6");
    lab.Run("v_div_fixup_f32 v0, v3, v2, v1");
    EXPECT_EQ(lab.Get(0), Bits(a / b)) << a << " / " << b;
  }
}

TEST(Instruction, Float64) {
  Lab lab;
  const auto set = [&](int reg, double value) {
    lab.Set(reg, static_cast<uint32_t>(AsBits(value)));
    lab.Set(reg + 1, static_cast<uint32_t>(AsBits(value) >> 32));
  };
  const auto get = [&](int reg) { return AsDouble(lab.Get(reg) | uint64_t{lab.Get(reg + 1)} << 32); };
  set(2, 1.5);
  set(4, -2.25);
  lab.Run("v_add_f64 v[0:1], v[2:3], |v[4:5]|");
  EXPECT_EQ(get(0), 3.75);
  lab.Run("v_fma_f64 v[0:1], v[2:3], v[4:5], 1.0");
  EXPECT_EQ(get(0), -2.375);
  lab.Run("v_ldexp_f64 v[0:1], v[2:3], 4");
  EXPECT_EQ(get(0), 24.0);
  lab.Run("v_cvt_f32_f64_e32 v0, v[4:5]");
  EXPECT_EQ(lab.GetFloat(0), -2.25f);
  lab.Run("v_cvt_u32_f64_e32 v0, v[4:5]");
  EXPECT_EQ(lab.Get(0), 0u);
  lab.Set(6, Bits(0.1f));
  lab.Run("v_cvt_f64_f32_e32 v[0:1], v6");
  EXPECT_EQ(get(0), static_cast<double>(0.1f));
}

TEST(Instruction, PackedFloatsChooseHalves) {
  Lab lab;
  lab.Set(2, Bits(1.0f));
  lab.Set(3, Bits(2.0f));
  lab.Set(4, Bits(10.0f));
  lab.Set(5, Bits(20.0f));
  lab.Run("v_pk_add_f32 v[0:1], v[2:3], v[4:5]");
  EXPECT_EQ(lab.GetFloat(0), 11.0f);
  EXPECT_EQ(lab.GetFloat(1), 22.0f);
  lab.Run("v_pk_mul_f32 v[0:1], v[2:3], v[4:5] op_sel:[1,0] op_sel_hi:[0,1] neg_hi:[1,0]");
  EXPECT_EQ(lab.GetFloat(0), 20.0f);
  EXPECT_EQ(lab.GetFloat(1), -20.0f);
  lab.Run("v_pk_fma_f32 v[0:1], v[2:3], v[4:5], v[2:3] op_sel_hi:[1,0,1]");
  EXPECT_EQ(lab.GetFloat(0), 11.0f);
  EXPECT_EQ(lab.GetFloat(1), 22.0f);
  lab.Run("v_pk_mov_b32 v[0:1], v[2:3], v[4:5] op_sel:[1,0]");
  EXPECT_EQ(lab.GetFloat(0), 2.0f);
  EXPECT_EQ(lab.GetFloat(1), 10.0f);
}

TEST(Instruction, Scalars) {
  Lab lab;
  lab.wave().s[1] = 0xffffffff;
  lab.wave().s[2] = 2;
  lab.Run("s_add_u32 s0, s1, s2");
  EXPECT_EQ(lab.s(0), 1u);
  EXPECT_TRUE(lab.wave().scc);
  lab.Run("s_addc_u32 s0, s1, 0");
  EXPECT_EQ(lab.s(0), 0u);
  EXPECT_TRUE(lab.wave().scc);
  lab.Run("s_sub_i32 s0, 0x80000000, 1");
  EXPECT_TRUE(lab.wave().scc);  // overflow
  lab.Run("s_bfe_u32 s0, 0xabcd, 0x80004");
  EXPECT_EQ(lab.s(0), 0xbcu);
  lab.Run("s_bfe_i32 s0, 0xf0, 0x40004");
  EXPECT_EQ(lab.s(0), 0xffffffffu);
  lab.Run("s_lshl2_add_u32 s0, s2, 5");
  EXPECT_EQ(lab.s(0), 13u);
  lab.Run("s_cmp_gt_i32 s1, 0");
  EXPECT_FALSE(lab.wave().scc);
  lab.Run("s_cmp_gt_u32 s1, 0");
  EXPECT_TRUE(lab.wave().scc);
  lab.Run("s_cselect_b32 s0, 10, 20");
  EXPECT_EQ(lab.s(0), 10u);
  lab.Run("s_mul_hi_u32 s0, s1, s1");
  EXPECT_EQ(lab.s(0), 0xfffffffeu);
  lab.Run("s_ff1_i32_b64 s0, s[2:3]");
  EXPECT_EQ(lab.s(0), 1u);
  lab.Run("s_movk_i32 s0, 0xfff0");
  EXPECT_EQ(lab.s(0), 0xfffffff0u);
  lab.Run("s_min_u32 s0, s1, s2");
  EXPECT_EQ(lab.s(0), 2u);
  EXPECT_FALSE(lab.wave().scc);
  lab.wave().SetExec(0xff);
  lab.wave().s[4] = 0xf;
  lab.wave().s[5] = 0;
  lab.Run("s_and_saveexec_b64 s[6:7], s[4:5]");
  EXPECT_EQ(lab.s(6), 0xffu);
  EXPECT_EQ(lab.wave().exec(), 0xfull);
  lab.Run("s_andn2_b64 s[6:7], s[6:7], exec");
  EXPECT_EQ(lab.s(6), 0xf0u);
  lab.Run("s_flbit_i32 s0, 0x00ffffff");
  EXPECT_EQ(lab.s(0), 8u);
}

TEST(Instruction, OtherLanes) {
  Lab lab;
  lab.SetLanes(1, [](int l) { return 100 + l; });
  lab.SetLanes(2, [](int l) { return 4 * (63 - l); });
  lab.Run("ds_bpermute_b32 v0, v2, v1");
  EXPECT_EQ(lab.Get(0, 0), 163u);
  lab.wave().SetExec(~0ull << 1);
  lab.Run("ds_bpermute_b32 v0, v2, v1");
  EXPECT_EQ(lab.Get(0, 63), 0u);  // lane 0 is off
  lab.Run("v_readfirstlane_b32 s0, v1");
  EXPECT_EQ(lab.s(0), 101u);
  lab.wave().SetExec(~0ull);
  lab.Run("ds_permute_b32 v0, v2, v1");
  EXPECT_EQ(lab.Get(0, 60), 103u);
  lab.Run("v_readlane_b32 s0, v1, 17");
  EXPECT_EQ(lab.s(0), 117u);
  lab.Run("v_writelane_b32 v1, 5, 17");
  EXPECT_EQ(lab.Get(1, 17), 5u);
  lab.Run("ds_swizzle_b32 v0, v1 offset:swizzle(SWAP,16)");
  EXPECT_EQ(lab.Get(0, 40), 156u);
  lab.SetLanes(3, [](int l) { return l; });
  lab.SetLanes(4, [](int l) { return 64 + l; });
  lab.Run("v_permlane32_swap_b32_e32 v3, v4");
  EXPECT_EQ(lab.Get(3, 33), 65u);
  EXPECT_EQ(lab.Get(4, 1), 33u);
  lab.Set(5, ~0u);
  lab.Run("v_mbcnt_lo_u32_b32 v6, v5, 0");
  lab.Run("v_mbcnt_hi_u32_b32 v6, v5, v6");
  EXPECT_EQ(lab.Get(6, 45), 45u);
}

TEST(Instruction, GlobalMemory) {
  Lab lab;
  alignas(16) uint32_t words[256];
  for (uint32_t i = 0; i < 256; ++i) words[i] = i;
  lab.memory().Register(words, sizeof(words), true);
  const auto address = reinterpret_cast<uint64_t>(words);
  lab.wave().s[2] = static_cast<uint32_t>(address);
  lab.wave().s[3] = static_cast<uint32_t>(address >> 32);
  lab.SetLanes(1, [](int l) { return 4 * l; });
  lab.Run("global_load_dwordx2 v[4:5], v1, s[2:3] offset:8");
  EXPECT_EQ(lab.Get(4, 10), 12u);
  EXPECT_EQ(lab.Get(5, 10), 13u);
  lab.Run("global_store_short v1, v4, s[2:3] offset:512");
  EXPECT_EQ(words[130], 4u);
  lab.Run("global_load_ubyte v6, v1, s[2:3] offset:1");
  EXPECT_EQ(lab.Get(6, 10), 0u);
  lab.Set(7, 1);
  lab.Set(8, 0);
  lab.Run("global_atomic_add v9, v8, v7, s[2:3] sc0");
  EXPECT_EQ(words[0], 64u);
  EXPECT_EQ(lab.Get(9, 5), 5u);
  lab.Run("s_load_dwordx2 s[6:7], s[2:3], 0x10");
  EXPECT_EQ(lab.s(7), 5u);
  EXPECT_EQ(lab.counters().global_load_bytes, 64u * (8 + 1));
  EXPECT_THROW(lab.Run("global_load_dword v4, v1, s[2:3] offset:1000"), Error);
  lab.memory().Register(words, sizeof(words), false);
  lab.wave().last_buffer = {};
  EXPECT_THROW(lab.Run("global_store_dword v1, v4, s[2:3]"), Error);
}

TEST(Instruction, Lds) {
  Lab lab;
  lab.SetLanes(1, [](int l) { return 8 * l; });
  lab.SetLanes(2, [](int l) { return l; });
  lab.SetLanes(3, [](int l) { return 100 + l; });
  lab.Run("ds_write_b64 v1, v[2:3]");
  lab.Run("ds_read2_b32 v[4:5], v1 offset0:1 offset1:0");
  EXPECT_EQ(lab.Get(4, 20), 120u);
  EXPECT_EQ(lab.Get(5, 20), 20u);
  lab.Run("ds_read_u16 v6, v1 offset:4");
  EXPECT_EQ(lab.Get(6, 20), 120u);
  lab.group().races.NextEpoch();
  lab.Set(7, 0);
  lab.Set(8, 2);
  lab.Run("ds_add_rtn_u32 v9, v7, v8");
  EXPECT_EQ(lab.Get(9, 3), 6u);
  lab.Set(7, 1024);
  EXPECT_THROW(lab.Run("ds_read_b32 v9, v7"), Error);
}

TEST(Instruction, AnUnknownOpcodeIsNamedWhenItRuns) {
  Lab lab;
  try {
    lab.Run("v_no_such_thing_f32 v0, v1");
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("v_no_such_thing_f32"), std::string::npos);
  }
}

}  // namespace
}  // namespace gfx950emu
