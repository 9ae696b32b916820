// The products of a device vendor's own library, for benchmarks: what our kernels are held against.
#pragma once

#include <string>

#include "core/dtype.h"
#include "core/view.h"

namespace mxmla {

// out[h, r, j] = sum over k of x[h, r, k] * weight[h, j, k], bf16 throughout, summed in float32. The last dimension of
// each view has stride 1; the other strides are free.
struct VendorProductArgs {
  View<const bf16, 3> x;       // (heads, rows, k)
  View<const bf16, 3> weight;  // (heads, n, k)
  View<bf16, 3> out;           // (heads, rows, n)
};

class VendorProducts {
 public:
  virtual ~VendorProducts() = default;

  // "cuBLAS 13.0.2"
  virtual std::string Name() const = 0;
  // Behind the kernels that the backend started before; a recorder may capture it.
  virtual void Multiply(const VendorProductArgs& args) = 0;
};

}  // namespace mxmla
