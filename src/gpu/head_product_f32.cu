#include "gpu/head_product.cuh"

namespace mxmla::gpu {

void LaunchHeadProductF32(const HeadProductParams& p, Stream stream) { LaunchHeadProduct<Format::kF32>(p, stream); }

}  // namespace mxmla::gpu
