#include "core/kv_format.h"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

namespace mxmla {
namespace {

TEST(Fp8KvPages, RowsAreThoseOfTheFormat) {
  EXPECT_EQ(Fp8KvRowStride(512, 64), 656);
  EXPECT_EQ(Fp8KvRowStride(256, 32), 256 + 8 + 64);
  EXPECT_EQ(Fp8KvRowStride(96, 0), 96 + 4);
  EXPECT_EQ(Fp8KvRowStride(33, 3), 36 + 4 + 8);

  std::vector<float> memory(2 * 3 * 656 / 4);
  auto* bytes = reinterpret_cast<e4m3*>(memory.data());
  const Fp8Kv<e4m3, 3> kv = Fp8KvPages(bytes, 2, 3, 512, 64);
  EXPECT_EQ(kv.extent(0), 2);
  EXPECT_EQ(kv.extent(1), 3);
  EXPECT_EQ(kv.extent(2), 576);
  EXPECT_EQ(KvRowBytes(AsKvInput<3>(KvOutput<3>(kv))), 656);
  // Page 1, slot 2: the last of six rows.
  const e4m3* row = bytes + 5 * 656;
  EXPECT_EQ(&kv.latent.values(1, 2, 511), row + 511);
  EXPECT_EQ(static_cast<void*>(&kv.latent.scales(1, 2, 3)), static_cast<const void*>(row + 512 + 12));
  EXPECT_EQ(static_cast<void*>(&kv.key(1, 2, 63)), static_cast<const void*>(row + 528 + 126));
}

TEST(Fp8KvPages, PlainRowsCountTheirElements) {
  std::vector<bf16> memory(4 * 576);
  const auto pages = View<bf16, 3>::Contiguous(memory.data(), {1, 4, 576});
  EXPECT_EQ(KvRowBytes(AsKvInput<3>(KvOutput<3>(pages))), 1152);
}

}  // namespace
}  // namespace mxmla
