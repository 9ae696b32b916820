#include "gpu/head_product.cuh"

namespace mxmla::gpu {

void LaunchHeadProductMxfp4(const HeadProductParams& p, Stream stream) { LaunchHeadProduct<Format::kMxfp4>(p, stream); }

}  // namespace mxmla::gpu
