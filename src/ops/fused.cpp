#include "ops/fused.h"

#include "ops/kernel_set.h"

namespace mxmla {
namespace {

// Runs the first kernel that takes `args`, else `parts(context)`. Workspace is planned for both.
template <class Args, class Parts>
void RunFused(const ExecContext& context, const KernelTable<Args>& table, std::string_view name, const Args& args,
              const Parts& parts) {
  if (context.counted) return parts(context);
  const Kernel<Args>* taken = nullptr;
  for (const Kernel<Args>& kernel : table) {
    if (context.planned && kernel.workspace) context.planned->Include(kernel.workspace(args, context.pool->threads()));
    if (!taken && Holds(kernel, args)) taken = &kernel;
  }
  if (context.planned || !taken) return parts(context);
  int64_t bytes = 0;
  ExecContext counting = context;
  counting.counted = &bytes;
  parts(counting);  // which also checks the operands
  const Profiler::Scope scope(context.profiler, name, bytes);
  taken->run(context, args);
}

}  // namespace

void NormLinear(const ExecContext& context, const NormLinearArgs& args, std::string_view name) {
  RunFused(context, context.kernels->norm_linear, name, args, [&](const ExecContext& on) {
    RmsNorm(on, args.norm);
    Linear(on, args.linear, name);
  });
}

void LatentQuery(const ExecContext& context, const LatentQueryArgs& args) {
  RunFused(context, context.kernels->latent_query, "latent_query", args, [&](const ExecContext& on) {
    RmsNorm(on, args.latent);
    Rope(on, args.key);
    if (args.quantize) Quantize(on, *args.quantize);
    QueryAbsorb(on, args.absorb);
    Rope(on, args.query);
  });
}

void AttendProject(const ExecContext& context, const AttendProjectArgs& args) {
  RunFused(context, context.kernels->attend_project, "attend_project", args, [&](const ExecContext& on) {
    DecodeAttention(on, args.attend);
    if (args.quantize) Quantize(on, *args.quantize);
    ValueProject(on, args.project);
  });
}

void NormRouter(const ExecContext& context, const NormRouterArgs& args) {
  RunFused(context, context.kernels->norm_router, "norm_router", args, [&](const ExecContext& on) {
    RmsNorm(on, args.norm);
    Router(on, args.router);
    GroupExperts(on, args.group);
  });
}

void GatedExperts(const ExecContext& context, const GatedExpertsArgs& args) {
  RunFused(context, context.kernels->gated_experts, "experts", args, [&](const ExecContext& on) {
    GroupedLinear(on, args.product, "experts");
    SiluMul(on, args.gating);
  });
}

void CombinedExperts(const ExecContext& context, const CombinedExpertsArgs& args) {
  RunFused(context, context.kernels->combined_experts, "experts", args, [&](const ExecContext& on) {
    GroupedLinear(on, args.product, "experts");
    CombineExperts(on, args.combine);
  });
}

}  // namespace mxmla
