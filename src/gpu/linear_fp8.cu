#include "gpu/linear.cuh"

namespace mxmla::gpu {

void LaunchLinearFp8(const LinearParams& p, Stream stream) { LaunchLinear<Format::kFp8>(p, stream); }
void LaunchGroupedLinearFp8(const GroupedParams& p, int64_t pairs, Stream stream) {
  LaunchGroupedLinear<Format::kFp8>(p, pairs, stream);
}

}  // namespace mxmla::gpu
