#include "ops/sample.h"

#include "ops/check.h"
#include "ops/kernel_set.h"

namespace mxmla {

void Sample(const ExecContext& context, const SampleArgs& args) {
  using namespace internal;
  constexpr std::string_view kOp = "sample";
  const int64_t rows = args.logits.shape[0];
  const int64_t vocab = args.logits.shape[1];
  CheckTrue(kOp, "logits extent 1", vocab >= 1, "a vocabulary", "none");
  CheckExtent(kOp, "options extent 0 (rows of logits)", rows, args.options.shape[0]);
  CheckExtent(kOp, "uniform extent 0 (rows of logits)", rows, args.uniform.shape[0]);
  CheckExtent(kOp, "tokens extent 0 (rows of logits)", rows, args.tokens.shape[0]);
  if (!args.penalty_begin.empty()) {
    CheckExtent(kOp, "penalty_begin extent 0 (rows of logits + 1)", rows + 1, args.penalty_begin.shape[0]);
  }
  CheckExtent(kOp, "penalty_counts extent 0 (penalty_tokens)", args.penalty_tokens.shape[0],
              args.penalty_counts.shape[0]);
  if (!args.bias_begin.empty()) {
    CheckExtent(kOp, "bias_begin extent 0 (rows of logits + 1)", rows + 1, args.bias_begin.shape[0]);
  }
  CheckExtent(kOp, "bias_values extent 0 (bias_tokens)", args.bias_tokens.shape[0], args.bias_values.shape[0]);
  if (!args.allowed_index.empty()) {
    CheckExtent(kOp, "allowed_index extent 0 (rows of logits)", rows, args.allowed_index.shape[0]);
    CheckExtent(kOp, "allowed extent 1 (words of vocab)", CeilDiv(vocab, 32), args.allowed.shape[1]);
  }
  if (!args.logprobs.empty()) {
    CheckExtent(kOp, "logprobs extent 0 (rows of logits)", rows, args.logprobs.shape[0]);
  }
  if (!args.top_tokens.empty() || !args.top_logprobs.empty()) {
    CheckExtent(kOp, "top_tokens extent 0 (rows of logits)", rows, args.top_tokens.shape[0]);
    CheckExtent(kOp, "top_logprobs extent 0 (rows of logits)", rows, args.top_logprobs.shape[0]);
    CheckExtent(kOp, "top_logprobs extent 1 (top_tokens)", args.top_tokens.shape[1], args.top_logprobs.shape[1]);
    CheckAtMost(kOp, "top_tokens extent 1", kMaxTopLogprobs, args.top_tokens.shape[1]);
  }
  if (rows == 0) return;
  OperandList operands;
  operands.Add("logits", args.logits);
  operands.Add("allowed", args.allowed);
  Dispatch(context, context.kernels->sample, kOp, args, operands, Bytes(args.logits) + Bytes(args.tokens));
}

}  // namespace mxmla
