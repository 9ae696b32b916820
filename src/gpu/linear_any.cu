#include "gpu/linear.cuh"

namespace mxmla::gpu {

void LaunchLinearAny(const LinearParams& p, Stream stream) { LaunchLinear<Format::kAnyActivation>(p, stream); }
void LaunchGroupedLinearAny(const GroupedParams& p, int64_t pairs, Stream stream) {
  LaunchGroupedLinear<Format::kAnyActivation>(p, pairs, stream);
}

}  // namespace mxmla::gpu
