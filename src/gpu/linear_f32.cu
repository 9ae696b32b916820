#include "gpu/linear.cuh"

namespace mxmla::gpu {

void LaunchLinearF32(const LinearParams& p, Stream stream) { LaunchLinear<Format::kF32>(p, stream); }
void LaunchGroupedLinearF32(const GroupedParams& p, int64_t pairs, Stream stream) {
  LaunchGroupedLinear<Format::kF32>(p, pairs, stream);
}

}  // namespace mxmla::gpu
