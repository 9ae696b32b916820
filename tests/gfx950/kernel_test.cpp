// Kernels as clang makes them, run by the emulator: right ones give the right numbers whatever the order of waves, and
// every mutation of them is caught, by an error or by the comparison.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <iterator>
#include <random>

#include "error.h"
#include "lds_races.h"
#include "machine.h"
#include "number_formats.h"

namespace gfx950emu {
namespace {

std::unique_ptr<CodeObject> Open(int mutation) {
  const std::string path = std::string(MUTATED_GEMM) + std::to_string(mutation) + ".co";
  std::ifstream in(path, std::ios::binary);
  return std::make_unique<CodeObject>(std::vector<uint8_t>{std::istreambuf_iterator<char>(in), {}});
}

constexpr int kM = 37, kN = 51, kK = 384;

struct Problem {
  std::vector<uint8_t> a, b, a_scales, b_scales;
  std::vector<double> expected, magnitude;  // (m, n): the sums, and the sums of magnitudes

  Problem() {
    std::mt19937 rng(11);
    const auto bytes = [&](std::vector<uint8_t>* to, int count) {
      for (int i = 0; i < count; ++i) to->push_back(static_cast<uint8_t>(rng()));
    };
    bytes(&a, kM * kK / 2);
    bytes(&b, kN * kK / 2);
    for (int i = 0; i < kM * kK / 32; ++i) a_scales.push_back(static_cast<uint8_t>(115 + rng() % 24));
    for (int i = 0; i < kN * kK / 32; ++i) b_scales.push_back(static_cast<uint8_t>(115 + rng() % 24));
    const auto element = [](const std::vector<uint8_t>& values, const std::vector<uint8_t>& scales, int r, int k) {
      const uint8_t code = values[static_cast<size_t>(r * kK / 2 + k / 2)] >> (k % 2 * 4) & 15;
      return static_cast<double>(kE2m1[code]) * E8m0ToDouble(scales[static_cast<size_t>(r * kK / 32 + k / 32)]);
    };
    for (int row = 0; row < kM; ++row) {
      for (int column = 0; column < kN; ++column) {
        double sum = 0, size = 0;
        for (int k = 0; k < kK; ++k) {
          const double product = element(a, a_scales, row, k) * element(b, b_scales, column, k);
          sum += product;
          size += std::fabs(product);
        }
        expected.push_back(sum);
        magnitude.push_back(size);
      }
    }
  }
};

struct Outcome {
  std::vector<float> out;
  Counters counters;
};

Outcome RunGemm(int mutation, const Problem& problem, const LaunchOptions& options = {}) {
  const auto object = Open(mutation);
  const Kernel& kernel = object->Find("Gemm");
  Outcome outcome;
  outcome.out.assign(kM * kN, std::nanf(""));
  DeviceMemory memory;
  for (const auto* bytes : {&problem.a, &problem.b, &problem.a_scales, &problem.b_scales}) {
    memory.Register(bytes->data(), bytes->size(), false);
  }
  memory.Register(outcome.out.data(), outcome.out.size() * sizeof(float), true);
  const void* a = problem.a.data();
  const void* a_scales = problem.a_scales.data();
  const void* b = problem.b.data();
  const void* b_scales = problem.b_scales.data();
  void* out = outcome.out.data();
  int m = kM, n = kN, k = kK;
  void* values[] = {&a, &a_scales, &b, &b_scales, &out, &m, &n, &k};
  Launch launch;
  launch.groups = {(kN + 31) / 32, (kM + 31) / 32, 1};
  launch.threads = {256, 1, 1};
  launch.kernarg = FillKernarg(kernel, launch, values);
  gfx950emu::Run(*object, kernel, launch, memory, options, &outcome.counters);
  return outcome;
}

// Largest error relative to the sums of magnitudes; NaN is infinite.
double Distance(const Problem& problem, const std::vector<float>& out) {
  double largest = 0;
  for (size_t i = 0; i < out.size(); ++i) {
    const double error = std::fabs(static_cast<double>(out[i]) - problem.expected[i]) / problem.magnitude[i];
    largest = std::isnan(error) ? INFINITY : std::max(largest, error);
  }
  return largest;
}

TEST(Kernel, TheRightGemmIsRight) {
  const Problem problem;
  const Outcome outcome = RunGemm(0, problem);
  EXPECT_LE(Distance(problem, outcome.out), 0x1p-20);
  // Four workgroups of four waves, three steps of 128 each.
  EXPECT_EQ(outcome.counters.matrix, 4u * 4 * 3);
  EXPECT_EQ(outcome.counters.barriers, 4u * 3 * 2);
  // Every step a workgroup stages 64 rows of 64 bytes and their scales, and every wave reads 32 of both kinds.
  EXPECT_EQ(outcome.counters.lds_store_bytes, 4u * 3 * 64 * (64 + 4));
  EXPECT_EQ(outcome.counters.lds_load_bytes, 4u * 3 * 4 * 32 * (64 + 4));
  EXPECT_EQ(outcome.counters.global_load_bytes, 4u * 3 * 64 * (64 + 4));
  EXPECT_EQ(outcome.counters.global_store_bytes, static_cast<uint64_t>(kM) * kN * 4);
}

TEST(Kernel, TheOrderOfWavesDoesNotMatter) {
  const Problem problem;
  const Outcome first = RunGemm(0, problem);
  for (uint64_t seed = 2; seed < 7; ++seed) {
    const Outcome other = RunGemm(0, problem, {seed, seed % 2 == 0 ? 1 : 2});
    EXPECT_EQ(0, std::memcmp(first.out.data(), other.out.data(), first.out.size() * sizeof(float)));
  }
}

class Mutation : public testing::TestWithParam<int> {};

TEST_P(Mutation, IsCaught) {
  const Problem problem;
  try {
    EXPECT_GT(Distance(problem, RunGemm(GetParam(), problem).out), 1e-3);
  } catch (const Error& error) {
    SUCCEED() << error.what();
  }
}

INSTANTIATE_TEST_SUITE_P(OfTheGemm, Mutation, testing::Range(1, 10));

std::string ErrorOf(int mutation) {
  const Problem problem;
  try {
    RunGemm(mutation, problem);
  } catch (const Error& error) {
    return error.what();
  }
  return "none";
}

TEST(Kernel, ErrorsSayWhatAndWhere) {
  EXPECT_THAT(ErrorOf(1), testing::AllOf(testing::HasSubstr("outside of every buffer"), testing::HasSubstr("Gemm"),
                                         testing::HasSubstr("global_load")));
  EXPECT_THAT(ErrorOf(4), testing::AllOf(testing::HasSubstr("LDS race"), testing::HasSubstr("without a barrier")));
  EXPECT_THAT(ErrorOf(7), testing::HasSubstr("LDS race"));
}

TEST(Kernel, ARegisterThatIsNotYetLoadedIsNotRead) {
  std::vector<int> from(64, 41), to(64);
  const int* source = from.data();
  int* target = to.data();
  for (const int mutation : {0, 1}) {
    const auto object = Open(mutation);
    const Kernel& kernel = object->Find("Unawaited");
    DeviceMemory memory;
    memory.Register(from.data(), from.size() * 4, false);
    memory.Register(to.data(), to.size() * 4, true);
    void* values[] = {&source, &target};
    Launch launch;
    launch.threads = {64, 1, 1};
    launch.kernarg = FillKernarg(kernel, launch, values);
    Counters counters;
    if (mutation == 0) {
      gfx950emu::Run(*object, kernel, launch, memory, {}, &counters);
      EXPECT_THAT(to, testing::Each(42));
    } else {
      EXPECT_THROW(gfx950emu::Run(*object, kernel, launch, memory, {}, &counters), Error);
    }
  }
}

TEST(Kernel, TooManyThreadsOrTooMuchLdsIsRefused) {
  const auto object = Open(0);
  const Kernel& kernel = object->Find("Gemm");
  DeviceMemory memory;
  Counters counters;
  Launch launch;
  launch.threads = {257, 1, 1};
  EXPECT_THROW(gfx950emu::Run(*object, kernel, launch, memory, {}, &counters), Error);
  launch.threads = {256, 1, 1};
  launch.dynamic_lds = kMostLdsBytes;
  EXPECT_THROW(gfx950emu::Run(*object, kernel, launch, memory, {}, &counters), Error);
  EXPECT_THROW(object->Find("NoSuchKernel"), Error);
}

TEST(LdsRaces, RulesBetweenBarriers) {
  LdsRaces races(64);
  EXPECT_EQ(races.Touch(0, 0, 8, LdsAccess::kWrite), "");
  EXPECT_EQ(races.Touch(0, 0, 8, LdsAccess::kRead), "");  // one's own
  EXPECT_NE(races.Touch(1, 4, 4, LdsAccess::kRead), "");
  races.NextEpoch();
  EXPECT_EQ(races.Touch(1, 4, 4, LdsAccess::kRead), "");
  EXPECT_EQ(races.Touch(2, 4, 4, LdsAccess::kRead), "");
  EXPECT_NE(races.Touch(1, 4, 4, LdsAccess::kWrite), "");  // wave 2 reads it
  races.NextEpoch();
  EXPECT_EQ(races.Touch(0, 8, 2, LdsAccess::kWrite), "");
  EXPECT_EQ(races.Touch(1, 10, 2, LdsAccess::kWrite), "");  // other bytes of the word
  EXPECT_NE(races.Touch(1, 9, 1, LdsAccess::kWrite), "");
  EXPECT_EQ(races.Touch(0, 16, 4, LdsAccess::kAtomic), "");
  EXPECT_EQ(races.Touch(1, 16, 4, LdsAccess::kAtomic), "");
  EXPECT_NE(races.Touch(1, 16, 4, LdsAccess::kRead), "");
}

}  // namespace
}  // namespace gfx950emu
