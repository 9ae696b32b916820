// mxmla logits: the model's logits for given tokens, as a .npy file.
#include <algorithm>
#include <cmath>
#include <memory>
#include <span>

#include "common.h"
#include "engine/session.h"
#include "npy.h"

namespace mxmla::app {
namespace {

struct LogitsFlags {
  std::string model, tokens, output;
  std::string path = "prefill";
  int64_t every = 1;
  CommonFlags common;
};

// `length` is the number of tokens behind the step that gave the logits.
void WriteRows(View<const float, 2> logits, int64_t length, OutputFile& file) {
  for (int64_t r = 0; r < logits.shape[0]; ++r) {
    const std::span<const float> row(&logits(r, 0), static_cast<size_t>(logits.shape[1]));
    if (std::any_of(row.begin(), row.end(), [](float value) { return std::isnan(value); })) FailNanLogits(length);
    file.Write(row.data(), row.size_bytes());
  }
}

void Logits(const LogitsFlags& flags) {
  const std::string folder = ResolveModel(flags.model);
  const std::vector<int32_t> tokens = ParseTokens(flags.tokens);
  const auto count = static_cast<int64_t>(tokens.size());
  OutputFile file(flags.output);
  const LoadedModel model = OpenModel(folder, flags.common.device);
  CheckTokens(tokens, model.config.vocab_size);
  const bool decode = flags.path == "decode";
  const int64_t step = decode ? 1 : std::min(model.backend->prefill_rows(), count);

  ModelOptions options = flags.common.ToModelOptions();
  options.max_context = count;
  options.max_batch_tokens = step;
  options.max_logit_rows = (step + flags.every - 1) / flags.every;
  Session session(model, options);
  const int sequence = session.Add();
  file.Write(NpyHeader((count + flags.every - 1) / flags.every, model.config.vocab_size));
  for (int64_t begin = 0; begin < count; begin += step) {
    const int64_t rows = std::min(step, count - begin);
    StepInput input{sequence, std::span(tokens).subspan(begin, rows), {}, decode};
    for (int64_t r = (flags.every - begin % flags.every) % flags.every; r < rows; r += flags.every) {
      input.logit_rows.push_back(static_cast<int32_t>(r));
    }
    WriteRows(session.Step({&input, 1}), begin + rows, file);
  }
  file.Commit();
}

}  // namespace

void AddLogits(CLI::App& app) {
  auto flags = std::make_shared<LogitsFlags>();
  CLI::App* command = app.add_subcommand("logits", "Write the logits of given tokens to a .npy file");
  command->add_option("MODEL", flags->model, "model folder, or tiny-gsm")->required();
  command->add_option("--tokens", flags->tokens, "token ids: 1,2,3 or @FILE")->required();
  command->add_option("--output", flags->output, "file for float32 (ceil(T/N), vocab_size)")->required();
  command->add_option("--every", flags->every, "keep rows 0, N, 2N, ...")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 40))
      ->capture_default_str();
  command->add_option("--path", flags->path, "prefill (all tokens at once) or decode (one by one, absorbed)")
      ->check(CLI::IsMember({"prefill", "decode"}))
      ->capture_default_str();
  flags->common.AddTo(*command);
  command->footer("Example:\n  mxmla logits tiny-gsm --tokens 0,15,27,9 --output logits.npy --path decode");
  command->callback([flags] { Logits(*flags); });
}

}  // namespace mxmla::app
