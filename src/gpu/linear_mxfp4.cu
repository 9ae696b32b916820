#include "gpu/linear.cuh"

namespace mxmla::gpu {

void LaunchLinearMxfp4(const LinearParams& p, Stream stream) { LaunchLinear<Format::kMxfp4>(p, stream); }
void LaunchGroupedLinearMxfp4(const GroupedParams& p, int64_t pairs, Stream stream) {
  LaunchGroupedLinear<Format::kMxfp4>(p, pairs, stream);
}

}  // namespace mxmla::gpu
