// Matrix operations against sums by their definition, the recorded scale mapping of silicon, and their formats.
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "lab.h"
#include "number_formats.h"

namespace gfx950emu {
namespace {

// Which lane's scale multiplies each run of 16 register positions of row 0, as recorded on hardware by a probe of AMD's
// composable_kernel (test/mx_mfma_op: scale_mapping): positions of lane groups one after the other, 32 bytes of FP8 a
// lane. Row r's are r lanes further.
struct ScaleRecord {
  int n;
  std::vector<int> lanes;
};
const ScaleRecord kRecords[] = {{16, {0, 32, 0, 32, 16, 48, 16, 48}}, {32, {0, 32, 0, 32}}};

TEST(Matrix, ScalesMultiplyWhatTheyDoOnSilicon) {
  constexpr uint32_t kOne = 0x38, kOnes = 0x38383838;  // 1 in e4m3
  for (const ScaleRecord& record : kRecords) {
    const int n = record.n, k = n == 16 ? 128 : 64;
    const std::string name =
        n == 16 ? "v_mfma_scale_f32_16x16x128_f8f6f4 v[0:3], " : "v_mfma_scale_f32_32x32x64_f8f6f4 v[0:15], ";
    for (const bool hot_is_b : {false, true}) {
      for (int row = 0; row < n; row += 5) {
        for (int position = 0; position < k; ++position) {
          Lab lab;
          // One 1 at a register position of `row`; the other operand is all ones.
          for (int word = 0; word < 8; ++word) {
            lab.SetLanes(20 + word, [&](int l) {
              const bool hot = l % n == row && l / n == position / 32 && word == position % 32 / 4;
              return hot ? kOne << (8 * (position % 4)) : 0;
            });
            lab.Set(30 + word, kOnes);
          }
          lab.SetLanes(40, [](int l) { return 127 + l; });  // its scale names the lane
          lab.Set(41, 127);
          const std::string hot = "v[20:27], ", ones = "v[30:37], ";
          lab.Run(name + (hot_is_b ? ones + hot : hot + ones) + "0, " + (hot_is_b ? "v41, v40" : "v40, v41") +
                  " op_sel_hi:[0,0,0]");
          // D[row][0], or D[0][row].
          const int d_row = hot_is_b ? 0 : row, d_column = hot_is_b ? row : 0, groups = 64 / n;
          const int reg = d_row / (4 * groups) * 4 + d_row % 4, lane = d_row % (4 * groups) / 4 * n + d_column;
          EXPECT_EQ(std::log2(lab.GetFloat(reg, lane)),
                    static_cast<float>(record.lanes[static_cast<size_t>(position / 16)] + row))
              << n << " position " << position << " row " << row;
        }
      }
    }
  }
}

TEST(Matrix, Fp4IsRowMajorAsItLies) {
  // Lane (g, i) holds bytes 16 g .. 16 g + 15 of row i of a packed (16, 128) matrix, and the scale of its block g.
  std::mt19937 rng(7);
  std::vector<uint8_t> a(16 * 64), b(16 * 64), scale_a(16 * 4), scale_b(16 * 4);
  for (auto* bytes : {&a, &b}) {
    for (uint8_t& byte : *bytes) byte = static_cast<uint8_t>(rng());
  }
  for (auto* bytes : {&scale_a, &scale_b}) {
    for (uint8_t& byte : *bytes) byte = static_cast<uint8_t>(117 + rng() % 20);
  }
  for (const int sel : {0, 1, 2, 3}) {
    Lab lab;
    for (int word = 0; word < 4; ++word) {
      const auto at = [&](const std::vector<uint8_t>& bytes, int l) {
        uint32_t value = 0;
        std::memcpy(&value, bytes.data() + l % 16 * 64 + l / 16 * 16 + word * 4, 4);
        return value;
      };
      lab.SetLanes(20 + word, [&](int l) { return at(a, l); });
      lab.SetLanes(24 + word, [&](int l) { return at(b, l); });
    }
    const auto scale = [&](const std::vector<uint8_t>& bytes, int l) {
      return uint32_t{bytes[static_cast<size_t>(l % 16 * 4 + l / 16)]} << (8 * sel);
    };
    lab.SetLanes(28, [&](int l) { return scale(scale_a, l); });
    lab.SetLanes(29, [&](int l) { return scale(scale_b, l); });
    for (int r = 0; r < 4; ++r) lab.Set(r, AsBits(0.5f));
    const std::string low = std::to_string(sel & 1), high = std::to_string(sel >> 1);
    lab.Run("v_mfma_scale_f32_16x16x128_f8f6f4 v[0:3], v[20:23], v[24:27], v[0:3], v28, v29 op_sel:[" + low + "," +
            low + ",0] op_sel_hi:[" + high + "," + high + ",0] cbsz:4 blgp:4");
    for (int row = 0; row < 16; ++row) {
      for (int column = 0; column < 16; ++column) {
        double sum = 0.5;
        for (int k = 0; k < 128; ++k) {
          const auto element = [&](const std::vector<uint8_t>& bytes, const std::vector<uint8_t>& scales, int r) {
            const uint8_t code = bytes[static_cast<size_t>(r * 64 + k / 2)] >> (k % 2 * 4) & 15;
            return static_cast<double>(kE2m1[code]) *
                   std::ldexp(1.0, scales[static_cast<size_t>(r * 4 + k / 32)] - 127);
          };
          sum += element(a, scale_a, row) * element(b, scale_b, column);
        }
        EXPECT_EQ(lab.GetFloat(row % 4, row / 4 * 16 + column), static_cast<float>(sum)) << row << " " << column;
      }
    }
  }
}

TEST(Matrix, Bf16) {
  std::mt19937 rng(8);
  Lab lab;
  std::vector<float> a(16 * 32), b(16 * 32);
  for (auto* values : {&a, &b}) {
    for (float& value : *values) value = Bf16ToFloat(FloatToBf16(static_cast<float>(rng() % 1000) / 500 - 1));
  }
  for (int word = 0; word < 4; ++word) {
    const auto pair = [&](const std::vector<float>& values, int l) {
      const size_t at = static_cast<size_t>(l % 16 * 32 + l / 16 * 8 + 2 * word);
      return FloatToBf16(values[at]) | FloatToBf16(values[at + 1]) << 16;
    };
    lab.SetLanes(20 + word, [&](int l) { return pair(a, l); });
    lab.SetLanes(24 + word, [&](int l) { return pair(b, l); });
  }
  lab.wave().SetExec(1);                                                // does not matter
  lab.Run("v_mfma_f32_16x16x32_bf16 v[20:23], v[20:23], v[24:27], 0");  // onto a source
  for (int row = 0; row < 16; ++row) {
    for (int column = 0; column < 16; ++column) {
      double sum = 0;
      for (int k = 0; k < 32; ++k) {
        sum += static_cast<double>(a[static_cast<size_t>(row * 32 + k)]) *
               static_cast<double>(b[static_cast<size_t>(column * 32 + k)]);
      }
      EXPECT_EQ(lab.GetFloat(20 + row % 4, row / 4 * 16 + column), static_cast<float>(sum));
    }
  }
}

TEST(Matrix, ABlockOfScaleNanPoisonsItsRowAlone) {
  Lab lab;
  for (int word = 0; word < 4; ++word) {
    lab.Set(20 + word, 0x22222222);
    lab.Set(24 + word, 0x22222222);
  }
  lab.SetLanes(28, [](int l) { return l == 16 + 5 ? 255 : 127; });  // row 5, block 1
  lab.Set(29, 127);
  lab.Run("v_mfma_scale_f32_16x16x128_f8f6f4 v[0:3], v[20:23], v[24:27], 0, v28, v29 op_sel_hi:[0,0,0] cbsz:4 blgp:4");
  for (int row = 0; row < 16; ++row) {
    const float value = lab.GetFloat(row % 4, row / 4 * 16);
    if (row == 5) {
      EXPECT_TRUE(std::isnan(value));
    } else {
      EXPECT_EQ(value, 128.0f);
    }
  }
}

TEST(Matrix, AScaleThatIsNoVectorRegisterIsRefused) {
  Lab lab;
  EXPECT_THROW(lab.Run("v_mfma_scale_f32_16x16x128_f8f6f4 v[0:3], v[20:23], v[24:27], 0, 1.0, v29 cbsz:4 blgp:4"),
               Error);
  EXPECT_THROW(lab.Run("v_mfma_scale_f32_16x16x128_f8f6f4 v[0:3], v[20:25], v[24:29], 0, v28, v29 cbsz:2 blgp:2"),
               Error);
}

TEST(Matrix, FormatsHaveTheirPublishedValues) {
  EXPECT_EQ(E4m3ToFloat(0x7e), 448.0f);
  EXPECT_TRUE(std::isnan(E4m3ToFloat(0x7f)));
  EXPECT_EQ(E4m3ToFloat(0x01), 0x1p-9f);
  EXPECT_EQ(E4m3ToFloat(0x88), -0x1p-6f);
  EXPECT_EQ(E5m2ToFloat(0x7b), 57344.0f);
  EXPECT_TRUE(std::isinf(E5m2ToFloat(0xfc)));
  EXPECT_EQ(E5m2ToFloat(0x01), 0x1p-16f);
  EXPECT_EQ(E8m0ToDouble(0), 0x1p-127);
  EXPECT_EQ(E8m0ToDouble(254), 0x1p127);
  EXPECT_EQ(FloatToE2m1(5.0f, 1), 6u);  // a tie of 4 and 6: the even code
  EXPECT_EQ(FloatToE2m1(0.25f, 1), 0u);
  EXPECT_EQ(FloatToE2m1(-0.75f, 1), 10u);
  EXPECT_EQ(FloatToE4m3(464.0f, 1), 0x7eu);
}

}  // namespace
}  // namespace gfx950emu
