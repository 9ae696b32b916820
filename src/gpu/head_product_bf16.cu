#include "gpu/head_product.cuh"

namespace mxmla::gpu {

void LaunchHeadProductBf16(const HeadProductParams& p, Stream stream) { LaunchHeadProduct<Format::kBf16>(p, stream); }

}  // namespace mxmla::gpu
