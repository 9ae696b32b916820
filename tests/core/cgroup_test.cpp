#include "core/cgroup.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>

#include "../checkpoint/temp_folder.h"

namespace mxmla {
namespace {

// A process in the group /a/b of a hierarchy that is mounted in the folder.
class CgroupTest : public testing::Test {
 protected:
  CgroupTest() { std::filesystem::create_directories(folder_ / "mount/a/b"); }

  void Mount(const std::string& type, const std::string& controllers) const {
    folder_.Write("cgroup", "1:" + (type == "cgroup2" ? "" : controllers) + ":/a/b\n");
    folder_.Write("mountinfo",
                  "30 24 0:26 / " + folder_ / "mount" + " rw - " + type + " cgroup rw," + controllers + "\n");
  }

  TempFolder folder_;
};

TEST_F(CgroupTest, WithoutLimitsNothingIsLimited) {
  Mount("cgroup2", "");
  folder_.Write("mount/a/b/memory.max", "max\n");
  folder_.Write("mount/a/b/cpu.max", "max 100000\n");
  EXPECT_EQ(CgroupMemory(folder_.path()), SIZE_MAX);
  EXPECT_GT(CgroupProcessors(folder_.path()), 1000);
}

TEST_F(CgroupTest, TheSmallestOfTheLevelsCounts) {
  Mount("cgroup2", "");
  folder_.Write("mount/a/b/cpu.max", "350000 100000\n");
  folder_.Write("mount/a/cpu.max", "250000 100000\n");
  EXPECT_EQ(CgroupProcessors(folder_.path()), 2);
  folder_.Write("mount/a/b/memory.max", "9000\n");
  folder_.Write("mount/a/b/memory.current", "1000\n");
  EXPECT_EQ(CgroupMemory(folder_.path()), 8000u);
  folder_.Write("mount/a/memory.max", "10000\n");
  folder_.Write("mount/a/memory.current", "7000\n");
  EXPECT_EQ(CgroupMemory(folder_.path()), 3000u);
}

TEST_F(CgroupTest, WhatIsHeldOfFilesIsLeft) {
  Mount("cgroup2", "");
  folder_.Write("mount/a/b/memory.max", "9000\n");
  folder_.Write("mount/a/b/memory.current", "8500\n");
  folder_.Write("mount/a/b/memory.stat", "anon 1000\nfile 7000\ninactive_file 4000\nactive_file 2000\n");
  EXPECT_EQ(CgroupMemory(folder_.path()), 6500u);
  folder_.Write("mount/a/b/memory.current", "9100\n");
  folder_.Write("mount/a/b/memory.stat", "anon 9100\n");
  EXPECT_EQ(CgroupMemory(folder_.path()), 0u);
}

TEST_F(CgroupTest, TheFirstVersionHasOtherNames) {
  Mount("cgroup", "memory");
  folder_.Write("mount/a/b/memory.limit_in_bytes", "9000\n");
  folder_.Write("mount/a/b/memory.usage_in_bytes", "8000\n");
  folder_.Write("mount/a/b/memory.stat", "inactive_file 1\ntotal_inactive_file 3000\ntotal_active_file 500\n");
  EXPECT_EQ(CgroupMemory(folder_.path()), 4500u);
  EXPECT_GT(CgroupProcessors(folder_.path()), 1000);
}

}  // namespace
}  // namespace mxmla
