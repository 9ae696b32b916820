// mxmla run: text from a prompt.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>
#include <optional>

#include "common.h"
#include "engine/generate.h"
#include "engine/session.h"
#include "text/chat.h"
#include "text/stream_decoder.h"

namespace mxmla::app {
namespace {

struct RunFlags {
  std::string model, prompt, prompt_file, tokens;
  int64_t max_tokens = 256;
  SamplingOptions sampling;
  uint64_t seed = 0;
  bool chat = false, print_ids = false, stats = false;
  bool has_prompt = false, has_prompt_file = false, has_tokens = false;
  CommonFlags common;
};

double SecondsSince(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

std::vector<int32_t> PromptTokens(const RunFlags& flags, const std::string& folder, const Tokenizer& tokenizer) {
  const std::string text = flags.has_prompt_file ? ReadText(flags.prompt_file, "--prompt-file") : flags.prompt;
  if (flags.chat) {
    const Message message{"user", text};
    return ChatTemplate::Load(folder).Encode(tokenizer, {&message, 1});
  }
  std::vector<int32_t> tokens = tokenizer.EncodePrompt(text);
  if (tokens.empty()) {
    Fail(ErrorCode::kUsage, "prompt", "some text (this tokenizer adds no first token)", "none", "give --prompt TEXT");
  }
  return tokens;
}

// A range lets NaN through.
std::string IsNumber(const std::string& text) {
  return text.find_first_of("nN") == std::string::npos ? std::string() : text + " is not a number";
}

// New tokens that fit after the prompt, at most --max-tokens.
int64_t RoomFor(const RunFlags& flags, int64_t prompt, const ModelConfig& config) {
  const int64_t context = config.max_position_embeddings;
  if (prompt >= context) {
    Fail(ErrorCode::kPromptTooLong, "prompt",
         fmt::format("at most {} tokens, one less than the model's context of {}", context - 1, context),
         fmt::format("{} tokens", prompt), "shorten the prompt");
  }
  if (flags.max_tokens > context - prompt) {
    Note(fmt::format("at most {} new tokens fit the model's context of {}", context - prompt, context));
  }
  return std::min(flags.max_tokens, context - prompt);
}

void PrintStats(const LoadedModel& model, const Scheduler& scheduler, double load_seconds, const GenerateStats& stats) {
  const auto rate = [](int64_t tokens, double seconds) {
    return seconds > 0 ? static_cast<double>(tokens) / seconds : 0;
  };
  PrintStderr("load     {:.2f} s, weights {}, buffers {}\n", load_seconds,
              HumanBytes(static_cast<double>(SummarizeWeights(model.weights, model.config).bytes)),
              HumanBytes(static_cast<double>(scheduler.buffer_bytes())));
  PrintStderr("device   {}, {} threads\n", model.backend->Name(), model.backend->pool().threads());
  PrintStderr("prompt   {} tokens in {:.3f} s, {:.1f} tokens/s\n", stats.prompt_tokens, stats.prefill_seconds,
              rate(stats.prompt_tokens, stats.prefill_seconds));
  PrintStderr("decode   {} tokens in {:.3f} s, {:.1f} tokens/s\n", stats.decode_tokens, stats.decode_seconds,
              rate(stats.decode_tokens, stats.decode_seconds));
}

void Run(const RunFlags& flags) {
  const auto begin = std::chrono::steady_clock::now();
  const std::string folder = ResolveModel(flags.model);
  std::vector<int32_t> prompt;
  if (flags.has_tokens) prompt = ParseTokens(flags.tokens);
  const LoadedModel model = OpenModel(folder, flags.common.device);
  // Ids in, ids out: such a run needs no tokenizer in the folder.
  std::unique_ptr<Tokenizer> tokenizer;
  if (!flags.has_tokens || !flags.print_ids) tokenizer = OpenTokenizer(folder, model.config);
  if (!flags.has_tokens) prompt = PromptTokens(flags, folder, *tokenizer);
  CheckTokens(prompt, model.config.vocab_size);

  GenerateRequest request;
  request.prompt = prompt;
  request.max_tokens = RoomFor(flags, static_cast<int64_t>(prompt.size()), model.config);
  request.sampling = flags.sampling;
  request.seed = flags.seed;
  request.stop_tokens.assign(model.config.eos_token_ids.begin(), model.config.eos_token_ids.end());
  if (flags.chat) {
    // The end of an answer in the chat formats; a config may name only the end of a document.
    for (const char* end : {"<|im_end|>", "<｜end▁of▁sentence｜>"}) {
      if (const auto id = tokenizer->TokenId(end)) request.stop_tokens.push_back(*id);
    }
  }

  ModelOptions options = flags.common.ToModelOptions();
  options.max_context = static_cast<int64_t>(prompt.size()) + request.max_tokens;
  options.max_batch_tokens = std::min<int64_t>(512, static_cast<int64_t>(prompt.size()));
  options.max_logit_rows = 1;
  Scheduler scheduler(model, options);
  const double load_seconds = SecondsSince(begin);

  std::optional<StreamDecoder> decoder;
  if (!flags.print_ids) decoder.emplace(*tokenizer);
  bool first = true;
  request.on_token = [&](int32_t token) {
    if (flags.print_ids) {
      fmt::print("{}{}", first ? "" : ",", token);
    } else {
      fmt::print("{}", decoder->Push(token));
    }
    first = false;
    if (std::fflush(stdout) != 0) FailStdout();
    return true;
  };
  GenerateStats stats;
  Generate(scheduler, {&request, 1}, &stats);
  fmt::print("{}\n", flags.print_ids ? std::string() : decoder->Flush());
  if (std::fflush(stdout) != 0) FailStdout();
  if (flags.stats) PrintStats(model, scheduler, load_seconds, stats);
}

}  // namespace

void AddRun(CLI::App& app) {
  auto flags = std::make_shared<RunFlags>();
  CLI::App* command = app.add_subcommand("run", "Generate text from a prompt");
  command->add_option("MODEL", flags->model, "model folder, or tiny-gsm")->required();
  CLI::Option_group* source = command->add_option_group("prompt", "what to continue; exactly one of these");
  CLI::Option* prompt = source->add_option("--prompt", flags->prompt, "text");
  CLI::Option* file = source->add_option("--prompt-file", flags->prompt_file, "text from a file; - is standard input");
  CLI::Option* tokens = source->add_option("--tokens", flags->tokens, "token ids: 1,2,3 or @FILE, taken as they are");
  source->require_option(1);
  command->add_option("--max-tokens", flags->max_tokens, "new tokens at most")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 31))
      ->capture_default_str();
  command->add_option("--temperature", flags->sampling.temperature, "0 is greedy")
      ->check(CLI::Range(0.0, 1000.0))
      ->check(IsNumber)
      ->capture_default_str();
  command->add_option("--top-k", flags->sampling.top_k, "sample among the K likeliest tokens; 0 is all")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 31))
      ->capture_default_str();
  command->add_option("--top-p", flags->sampling.top_p, "sample among the likeliest tokens of this joint probability")
      ->check(CLI::Range(1e-6, 1.0))
      ->check(IsNumber)
      ->capture_default_str();
  command->add_option("--seed", flags->seed, "of the random numbers")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command->add_flag("--chat", flags->chat, "format the prompt as a user's message, by the model's chat template");
  command->add_flag("--print-ids", flags->print_ids, "print the new token ids, comma-separated, instead of text");
  command->add_flag("--stats", flags->stats, "print times and rates on stderr");
  flags->common.AddTo(*command);
  command->footer(
      "Example:\n  mxmla run tiny-gsm --prompt \"Tom has 5 apples. He buys 7 more. How many apples does he have?\"");
  command->callback([flags, prompt, file, tokens] {
    flags->has_prompt = prompt->count() > 0;
    flags->has_prompt_file = file->count() > 0;
    flags->has_tokens = tokens->count() > 0;
    if (flags->has_tokens && flags->chat) throw CLI::ValidationError("--chat", "needs --prompt or --prompt-file");
    Run(*flags);
  });
}

}  // namespace mxmla::app
