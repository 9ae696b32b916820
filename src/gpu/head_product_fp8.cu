#include "gpu/head_product.cuh"

namespace mxmla::gpu {

void LaunchHeadProductFp8(const HeadProductParams& p, Stream stream) { LaunchHeadProduct<Format::kFp8>(p, stream); }

}  // namespace mxmla::gpu
