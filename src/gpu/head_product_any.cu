#include "gpu/head_product.cuh"

namespace mxmla::gpu {

void LaunchHeadProductAny(const HeadProductParams& p, Stream stream) {
  LaunchHeadProduct<Format::kAnyActivation>(p, stream);
}

}  // namespace mxmla::gpu
