#include "gpu/query_absorb.cuh"

namespace mxmla::gpu {

void LaunchQueryAbsorb(const QueryAbsorbParams& p, int64_t heads, Stream stream) {
  const dim3 blocks(static_cast<unsigned>((p.latents + kAbsorbColumns - 1) / kAbsorbColumns),
                    static_cast<unsigned>(heads), static_cast<unsigned>((p.rows + kAbsorbRows - 1) / kAbsorbRows));
  const int query = (p.nope + kPiece - 1) / kPiece * kPiece;
  const size_t bytes = sizeof(float) * kAbsorbRows * static_cast<size_t>(query + kWarps * kAbsorbColumns);
  const auto launch = [&](auto x) {
    ForWeightFormat<x()>(p.w.format, [&](auto w) {
      constexpr size_t kAlwaysAllowed = 48 * 1024;
      if (bytes > kAlwaysAllowed) AllowSharedBytes(QueryAbsorbKernel<x(), w()>, bytes, "gpu query_absorb");
      QueryAbsorbKernel<x(), w()><<<blocks, kThreads, bytes, stream>>>(p);
    });
  };
  if (KernelFormat(p.x.format, p.w.format) == Format::kAnyActivation) {
    launch(std::integral_constant<Format, Format::kAnyActivation>{});
  } else {
    ForActivationFormat(p.x.format, launch);
  }
  CheckLaunch("gpu query_absorb");
}

}  // namespace mxmla::gpu
