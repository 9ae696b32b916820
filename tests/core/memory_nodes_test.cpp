#include "core/memory_nodes.h"

#include <gtest/gtest.h>
#include <linux/mempolicy.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <thread>

namespace mxmla {
namespace {

TEST(MemoryNodes, AListBecomesBits) {
  EXPECT_EQ(ParseNodeList("0"), 1u);
  EXPECT_EQ(ParseNodeList("0-1,3"), 0b1011u);
  EXPECT_EQ(ParseNodeList("2-3,62-70"), 0b1100u | uint64_t{3} << 62);
  for (const char* bad : {"", "-", "x", "1-", "3-1", "1,,2", "1;2"}) EXPECT_EQ(ParseNodeList(bad), 0u) << bad;
}

TEST(MemoryNodes, PagesGetThePolicy) {
  const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  void* const data = mmap(nullptr, 4 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(data, MAP_FAILED);
  const uint64_t nodes = MemoryNodes() != 0 ? MemoryNodes() : 1;
  const bool done = InterleaveMemory(data, 4 * page, nodes);
  int policy = -1;
  const long asked = syscall(SYS_get_mempolicy, &policy, nullptr, 0, data, MPOL_F_ADDR);
  munmap(data, 4 * page);
  if (!done) GTEST_SKIP() << "this system forbids memory policies";
  ASSERT_EQ(asked, 0);
  EXPECT_EQ(policy, MPOL_INTERLEAVE);
}

TEST(MemoryNodes, AThreadGetsThePolicy) {
  const uint64_t nodes = MemoryNodes() != 0 ? MemoryNodes() : 1;
  bool done = false;
  int here = -1, there = -1;
  std::thread([&] {
    done = InterleaveThreadMemory(nodes);
    syscall(SYS_get_mempolicy, &there, nullptr, 0, nullptr, 0);
  }).join();
  syscall(SYS_get_mempolicy, &here, nullptr, 0, nullptr, 0);
  if (!done) GTEST_SKIP() << "this system forbids memory policies";
  EXPECT_EQ(there, MPOL_INTERLEAVE);
  EXPECT_NE(here, MPOL_INTERLEAVE);  // of that thread alone
}

}  // namespace
}  // namespace mxmla
