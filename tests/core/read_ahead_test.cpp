#include "core/read_ahead.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "../checkpoint/temp_folder.h"
#include "core/mapped_file.h"

namespace mxmla {
namespace {

constexpr size_t kBytes = (size_t{40} << 20) + 12345;  // several pieces, the last one not whole

// How many pages of `bytes` this process's page table holds; nothing where the system does not tell.
std::optional<size_t> PagesHeld(std::span<const std::byte> bytes) {
  const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  const int table = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
  if (table < 0) return std::nullopt;
  const size_t pages = (bytes.size() + page - 1) / page;
  std::vector<uint64_t> entries(pages);
  const auto wanted = static_cast<ssize_t>(pages * sizeof(uint64_t));
  const auto begin = static_cast<off_t>(reinterpret_cast<uintptr_t>(bytes.data()) / page * sizeof(uint64_t));
  const bool read = pread(table, entries.data(), static_cast<size_t>(wanted), begin) == wanted;
  close(table);
  if (!read) return std::nullopt;
  return static_cast<size_t>(std::count_if(entries.begin(), entries.end(), [](uint64_t entry) { return entry >> 63; }));
}

size_t PagesOf(size_t bytes) {
  const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  return (bytes + page - 1) / page;
}

class ReadAheadTest : public testing::TestWithParam<ReadAhead::Way> {
 protected:
  // A file of kBytes, mapped.
  std::shared_ptr<const MappedFile> Map(const std::string& name) const {
    folder_.Write(name, "");
    std::filesystem::resize_file(folder_ / name, kBytes);
    return std::make_shared<const MappedFile>(folder_ / name);
  }
  static std::vector<MappedStretch> Stretches(const std::shared_ptr<const MappedFile>& file) {
    return {{file->bytes(), file}};
  }

  TempFolder folder_;
};

TEST_P(ReadAheadTest, EveryPageIsInThePageTable) {
  const auto first = Map("first"), second = Map("second");
  const std::optional<size_t> before = PagesHeld(first->bytes());
  if (!before) GTEST_SKIP() << "this system shows no page table";
  EXPECT_LT(*before, PagesOf(kBytes));
  ReadAhead ahead({{first->bytes(), first}, {second->bytes(), second}}, GetParam());
  ahead.Wait();
  EXPECT_EQ(PagesHeld(first->bytes()), PagesOf(kBytes));
  EXPECT_EQ(PagesHeld(second->bytes()), PagesOf(kBytes));
}

TEST_P(ReadAheadTest, KeepsFilesMappedUntilItEnds) {
  auto file = Map("file");
  const std::weak_ptr<const MappedFile> watch = file;
  auto ahead = std::make_unique<ReadAhead>(Stretches(file), GetParam());
  file.reset();
  EXPECT_FALSE(watch.expired());
  ahead.reset();
  EXPECT_TRUE(watch.expired());
}

INSTANTIATE_TEST_SUITE_P(Ways, ReadAheadTest, testing::Values(ReadAhead::Way::kPopulate, ReadAhead::Way::kTouch),
                         [](const auto& way) { return way.param == ReadAhead::Way::kPopulate ? "Populate" : "Touch"; });

TEST_F(ReadAheadTest, AFileThatShrankIsLeftToItsReader) {
  const auto file = Map("file");
  std::filesystem::resize_file(folder_ / "file", 100);
  ReadAhead ahead(Stretches(file));
  ahead.Wait();  // and no signal
  EXPECT_EQ(file->bytes()[99], std::byte{0});
}

TEST_F(ReadAheadTest, WhatDoesNotFitIsNotRead) {
  const auto file = Map("file");
  EXPECT_EQ(StartReadAhead(Stretches(file), kBytes), nullptr);
  EXPECT_NE(StartReadAhead(Stretches(file), 2 * kBytes), nullptr);
  EXPECT_EQ(StartReadAhead({}, 2 * kBytes), nullptr);
}

}  // namespace
}  // namespace mxmla
