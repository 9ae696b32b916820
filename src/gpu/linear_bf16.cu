#include "gpu/linear.cuh"

namespace mxmla::gpu {

void LaunchLinearBf16(const LinearParams& p, Stream stream) { LaunchLinear<Format::kBf16>(p, stream); }
void LaunchGroupedLinearBf16(const GroupedParams& p, int64_t pairs, Stream stream) {
  LaunchGroupedLinear<Format::kBf16>(p, pairs, stream);
}

}  // namespace mxmla::gpu
