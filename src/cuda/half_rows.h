// Activations as fp16, for products of many rows with FP8 weights (half_products.cuh): each row is multiplied by the
// power of two that brings its largest magnitude to 2^15.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "cuda/launch_options.h"

namespace mxmla::cuda {

struct HalfRows {
  const uint8_t* values;  // (rows, k) fp16
  const float* inverses;  // (rows): what a row's results are multiplied by
};

// Of a workspace for `rows` rows of k elements.
int64_t HalfRowsBytes(int64_t rows, int64_t k);

// Brings x (rows, k) bf16 there, whose rows are 16-byte aligned and `row_bytes` apart; k is a multiple of 8. With
// options.programmatic it is a link of the chain.
HalfRows LaunchHalfRows(const uint8_t* x, int64_t row_bytes, int64_t rows, int64_t k, const LaunchOptions& options);

}  // namespace mxmla::cuda
