// What the tests of CUDA kernels share: a suite that is skipped by name without a GPU, and memory for both sides.
#pragma once

#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <random>

#include "shared_memory.h"

namespace mxmla::testing {

class GpuTest : public ::testing::Test {
 protected:
  void SetUp() override {
    int devices = 0;
    if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) GTEST_SKIP() << "no CUDA device";
    cudaDeviceProp properties{};
    ASSERT_EQ(cudaGetDeviceProperties(&properties, 0), cudaSuccess);
    if (properties.major != 9) GTEST_SKIP() << "no device of compute capability 9.x";
  }
  std::mt19937_64 rng_{42};
};

}  // namespace mxmla::testing
