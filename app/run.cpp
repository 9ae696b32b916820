// mxmla run: text from a prompt.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>
#include <vector>

#include "common.h"
#include "engine/generate.h"
#include "engine/generation_config.h"
#include "engine/session.h"
#include "generation.h"
#include "grammar_flags.h"
#include "interrupt.h"
#include "sampling_flags.h"

namespace mxmla::app {
namespace {

struct RunFlags {
  std::string model, prompt, prompt_file, tokens, system, thinking;
  int64_t max_tokens = 256;
  SamplingFlags sampling;
  GrammarFlags grammar;
  bool chat = false, print_ids = false, stats = false;
  bool has_prompt = false, has_prompt_file = false, has_tokens = false, has_system = false;
  CommonFlags common;
};

double SecondsSince(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

std::vector<int32_t> PromptTokens(const RunFlags& flags, const std::string& folder, const Tokenizer& tokenizer) {
  const std::string text = flags.has_prompt_file ? ReadText(flags.prompt_file, "--prompt-file") : flags.prompt;
  if (flags.chat) {
    std::vector<Message> messages;
    if (flags.has_system) messages.push_back({"system", flags.system});
    messages.push_back({"user", text});
    return ChatPrompt(folder, flags.thinking).Encode(tokenizer, messages);
  }
  std::vector<int32_t> tokens = tokenizer.EncodePrompt(text);
  if (tokens.empty()) {
    Fail(ErrorCode::kUsage, "prompt", "some text (this tokenizer adds no first token)", "none", "give --prompt TEXT");
  }
  return tokens;
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

void PrintLoadStats(const LoadedModel& model, const Scheduler& scheduler, double load_seconds) {
  PrintStderr("load     {:.2f} s, weights {}, buffers {}\n", load_seconds,
              HumanBytes(static_cast<double>(SummarizeWeights(model.weights, model.config).bytes)),
              HumanBytes(static_cast<double>(scheduler.buffer_bytes())));
  PrintStderr("device   {}, {} threads\n", model.backend->Name(), model.backend->pool().threads());
}

// How the publishers of the model sample, where that is not what run does.
void NoteSuggestedSampling(const std::string& folder) {
  const std::string suggested = ReadSuggestedSampling(folder).Flags();
  if (suggested.empty()) return;
  Note(fmt::format("generation_config.json suggests {}; without such flags run is greedy", suggested));
}

void Run(const RunFlags& flags) {
  const auto begin = std::chrono::steady_clock::now();
  const std::string folder = ResolveModel(flags.model);
  std::vector<int32_t> prompt;
  if (flags.has_tokens) prompt = ParseTokens(flags.tokens);
  const LoadedModel model = OpenModel(folder, flags.common.device);
  // Ids in, ids out: such a run needs no tokenizer in the folder.
  std::unique_ptr<Tokenizer> tokenizer;
  if (!flags.has_tokens || !flags.print_ids || !flags.sampling.stop_strings.empty() || flags.grammar.given()) {
    tokenizer = OpenTokenizer(folder, model.config);
  }
  if (!flags.has_tokens) prompt = PromptTokens(flags, folder, *tokenizer);
  CheckTokens(prompt, model.config.vocab_size);

  GenerateRequest request;
  request.prompt = prompt;
  request.max_tokens = RoomFor(flags, static_cast<int64_t>(prompt.size()), model.config);
  request.stop_tokens = StopTokens(model.config, tokenizer.get(), flags.chat);
  request.tokenizer = tokenizer.get();
  flags.sampling.ApplyTo(&request, {}, model.config.vocab_size);
  if (flags.grammar.given()) flags.grammar.ApplyTo(&request, model.config.vocab_size);
  if (!flags.sampling.given()) NoteSuggestedSampling(folder);

  ModelOptions options = flags.common.ToModelOptions();
  options.max_context = static_cast<int64_t>(prompt.size()) + request.max_tokens;
  options.max_batch_tokens = std::min(model.backend->prefill_rows(), static_cast<int64_t>(prompt.size()));
  options.max_logit_rows = 1;
  Scheduler scheduler(model, options);
  const double load_seconds = SecondsSince(begin);

  const auto print = [](std::string_view text) {
    std::fwrite(text.data(), 1, text.size(), stdout);
    if (std::fflush(stdout) != 0) FailStdout();
    return true;
  };
  if (flags.print_ids) {
    request.on_token = [&print, first = true](int32_t token) mutable {
      print(fmt::format("{}{}", first ? "" : ",", token));
      first = false;
      return true;
    };
  } else {
    request.on_text = print;
  }
  GenerateStats stats;
  GenerateResult result;
  std::exception_ptr failure;
  {
    const Interrupts interrupts(true);
    try {
      Generate(
          scheduler, {&request, 1}, &stats, [&](size_t, const GenerateResult& done) { result = done; },
          [&] { return interrupts.pending(); });
    } catch (...) {
      failure = std::current_exception();
    }
  }
  if (!failure) print("\n");
  if (flags.stats) {
    PrintLoadStats(model, scheduler, load_seconds);
    PrintGenerationStats(stats, failure ? "error" : DescribeEnd(request, result, tokenizer.get()));
  }
  if (failure) std::rethrow_exception(failure);
  if (result.reason == FinishReason::kCancelled) throw ExitStatus{kInterruptedStatus};
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
  command->add_flag("--chat", flags->chat, "format the prompt as a user's message, by the model's chat template");
  CLI::Option* system = command->add_option("--system", flags->system, "with --chat: the system message before it");
  command->add_option("--thinking", flags->thinking, "with --chat: on or off, where the chat template knows it")
      ->check(CLI::IsMember({"on", "off"}));
  flags->sampling.AddTo(*command);
  flags->grammar.AddTo(*command);
  command->add_flag("--print-ids", flags->print_ids,
                    "print the new token ids, comma-separated, instead of text; also those that spell a --stop");
  command->add_flag("--stats", flags->stats, "print times, rates and the reason of the end on stderr");
  flags->common.AddTo(*command);
  command->footer(
      "Example:\n  mxmla run tiny-gsm --prompt \"Tom has 5 apples. He buys 7 more. How many apples does he have?\"");
  command->callback([flags, prompt, file, tokens, system] {
    flags->has_prompt = prompt->count() > 0;
    flags->has_prompt_file = file->count() > 0;
    flags->has_tokens = tokens->count() > 0;
    flags->has_system = system->count() > 0;
    if (flags->has_tokens && flags->chat) throw CLI::ValidationError("--chat", "needs --prompt or --prompt-file");
    if (flags->has_system && !flags->chat) throw CLI::ValidationError("--system", "needs --chat");
    if (!flags->thinking.empty() && !flags->chat) throw CLI::ValidationError("--thinking", "needs --chat");
    Run(*flags);
  });
}

}  // namespace mxmla::app
