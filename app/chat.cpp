// mxmla chat: a conversation, a line a turn.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <vector>

#include "common.h"
#include "generation.h"
#include "interrupt.h"
#include "line_reader.h"
#include "sampling_flags.h"

namespace mxmla::app {
namespace {

// Shorter than the scheduler's own: whole chunks of a conversation's prompt are found in the cache by its next turn.
constexpr int64_t kPrefillChunk = 256;
constexpr int64_t kDefaultContext = 8192;

struct ChatFlags {
  std::string model, system, thinking;
  int64_t max_tokens = 4096;
  int64_t context = 0;
  SamplingFlags sampling;
  bool stats = false;
  CommonFlags common;
};

constexpr const char* kHelp =
    "/help         this list\n"
    "/reset        begins a new conversation; the system message stays\n"
    "/system TEXT  the system message, from the next turn on; without TEXT there is none\n"
    "/stats        times and rates of the last turn, the reason of its end, tokens of the conversation\n"
    "/exit         ends the program, as Ctrl-D does\n"
    "Other lines are said to the model; //TEXT says a line that begins with /.\n"
    "Ctrl-C stops an answer, and what was said of it stays in the conversation.\n";

ModelOptions Sizes(const ChatFlags& flags, const LoadedModel& model) {
  ModelOptions options = flags.common.ToModelOptions();
  options.max_context =
      flags.context > 0 ? flags.context : std::min(model.config.max_position_embeddings, kDefaultContext);
  // Ctrl-C waits for a step, which on a processor takes seconds.
  const int64_t rows = model.backend->reads_host_memory() ? kPrefillChunk : model.backend->prefill_rows();
  options.max_batch_tokens = std::min(rows, options.max_context);
  options.max_logit_rows = 1;
  options.prefill_chunk = kPrefillChunk;
  return options;
}

class Conversation {
 public:
  Conversation(const ChatFlags& flags, const std::string& folder, const LoadedModel& model, const Tokenizer& tokenizer)
      : tokenizer_(tokenizer),
        prompt_(folder, flags.thinking),
        scheduler_(model, Sizes(flags, model)),
        max_tokens_(flags.max_tokens),
        system_(flags.system) {
    flags.sampling.ApplyTo(&request_, ReadSuggestedSampling(folder), model.config.vocab_size);
    request_.stop_tokens = StopTokens(model.config, &tokenizer, true);
    request_.tokenizer = &tokenizer;
    request_.skip_special_tokens = true;
    request_.on_text = [](std::string_view text) {
      std::fwrite(text.data(), 1, text.size(), stdout);
      if (std::fflush(stdout) != 0) FailStdout();
      return true;
    };
  }

  void Reset() { history_.clear(); }
  void SetSystem(const std::string& text) { system_ = text; }

  // Prints the answer as it comes. Errors: kPromptTooLong when the conversation and this do not fit the context, and
  // those of the chat template; the conversation is then as it was.
  void Say(const std::string& text, const Interrupts& interrupts) {
    std::vector<Message> messages;
    if (!system_.empty()) messages.push_back({"system", system_});
    messages.insert(messages.end(), history_.begin(), history_.end());
    messages.push_back({"user", text});
    request_.prompt = prompt_.Encode(tokenizer_, messages);
    const int64_t context = scheduler_.options().max_context;
    const int64_t room = context - static_cast<int64_t>(request_.prompt.size());
    if (room <= 0) {
      Fail(ErrorCode::kPromptTooLong, "conversation", fmt::format("fewer than {} tokens, the context", context),
           fmt::format("{} with this turn", request_.prompt.size()),
           history_.empty() ? "shorten the message" : "/reset begins a new one");
    }
    request_.max_tokens = std::min(max_tokens_, room);
    stats_ = {};
    result_ = Generate(scheduler_, {&request_, 1}, &stats_, {}, [&] { return interrupts.pending(); })[0];
    fmt::print("\n");
    if (std::fflush(stdout) != 0) FailStdout();
    ++request_.seed;
    if (result_.reason == FinishReason::kLength) {
      Note(room <= max_tokens_
               ? fmt::format("the conversation fills the context of {} tokens; /reset begins a new one", context)
               : fmt::format("the answer was cut at --max-tokens {}", max_tokens_));
    }
    // Templates put a space before an answer themselves.
    const std::string answer = result_.text.substr(std::min(result_.text.find_first_not_of(' '), result_.text.size()));
    if (answer.empty() && result_.reason == FinishReason::kCancelled) return;
    history_.push_back({"user", text});
    history_.push_back({"assistant", answer});
  }

  void PrintStats() const {
    if (request_.prompt.empty()) {
      PrintStderr("nothing was said yet\n");
      return;
    }
    PrintGenerationStats(stats_, DescribeEnd(request_, result_, &tokenizer_));
    PrintStderr("context  {} of {} tokens\n", request_.prompt.size() + result_.tokens.size(),
                scheduler_.options().max_context);
  }

 private:
  const Tokenizer& tokenizer_;
  ChatPrompt prompt_;
  Scheduler scheduler_;
  const int64_t max_tokens_;
  std::string system_;
  std::vector<Message> history_;
  // Of the last turn.
  GenerateRequest request_;
  GenerateResult result_;
  GenerateStats stats_;
};

// False for /exit.
bool Command(const std::string& line, Conversation* conversation) {
  const size_t space = line.find(' ');
  const std::string name = line.substr(0, space);
  const size_t text = line.find_first_not_of(' ', space);
  if (name == "/exit") return false;
  if (name == "/help") {
    fmt::print("{}", kHelp);
    if (std::fflush(stdout) != 0) FailStdout();
  } else if (name == "/reset") {
    conversation->Reset();
    PrintStderr("a new conversation\n");
  } else if (name == "/system") {
    conversation->SetSystem(text == std::string::npos ? "" : line.substr(text));
    PrintStderr(text == std::string::npos ? "no system message\n" : "a system message, from the next turn on\n");
  } else if (name == "/stats") {
    conversation->PrintStats();
  } else {
    PrintStderr("mxmla: {}: no such command; /help lists them\n", PrintableLine(name, 40));
  }
  return true;
}

void Chat(const ChatFlags& flags) {
  const std::string folder = ResolveModel(flags.model);
  ChatPrompt(folder, flags.thinking);  // a model that cannot chat is not read for minutes first
  const LoadedModel model = OpenModel(folder, flags.common.device);
  const std::unique_ptr<Tokenizer> tokenizer = OpenTokenizer(folder, model.config);
  Conversation conversation(flags, folder, model, *tokenizer);

  const bool interactive = isatty(STDIN_FILENO);
  if (interactive) PrintStderr("/help lists the commands; Ctrl-D ends the conversation\n");
  Interrupts interrupts(false);
  LineReader lines(interrupts);
  bool interrupted_before = false;
  int status = 0;
  for (;;) {
    if (interactive) PrintStderr("> ");
    std::string line;
    const LineReader::Outcome outcome = lines.Read(&line);
    if (outcome == LineReader::Outcome::kInterrupt) {
      if (!interactive) throw ExitStatus{kInterruptedStatus};
      if (interrupted_before) {
        PrintStderr("\n");
        break;
      }
      interrupted_before = true;
      PrintStderr("\nCtrl-C again or Ctrl-D ends the conversation\n");
      continue;
    }
    interrupted_before = false;
    if (outcome == LineReader::Outcome::kEnd) {
      if (interactive) PrintStderr("\n");
      break;
    }
    if (line.find_first_not_of(" \t") == std::string::npos) continue;
    if (line[0] == '/' && !line.starts_with("//")) {
      if (!Command(line, &conversation)) break;
      continue;
    }
    try {
      conversation.Say(line[0] == '/' ? line.substr(1) : line, interrupts);
      if (flags.stats) conversation.PrintStats();
    } catch (const Error& error) {
      const bool concerns_turn = error.code() == ErrorCode::kPromptTooLong ||
                                 error.code() == ErrorCode::kChatTemplate || error.code() == ErrorCode::kTokenizer;
      if (!concerns_turn) throw;
      PrintStderr("mxmla: {}\n", error.what());
      if (status == 0) status = static_cast<int>(error.code());
    }
    interrupts.Take();
  }
  // A script sees that a turn failed; someone at a terminal has seen it.
  if (!interactive && status != 0) throw ExitStatus{status};
}

}  // namespace

void AddChat(CLI::App& app) {
  auto flags = std::make_shared<ChatFlags>();
  CLI::App* command = app.add_subcommand("chat", "Talk with a model, a line a turn");
  command->add_option("MODEL", flags->model, "model folder with a chat template")->required();
  command->add_option("--system", flags->system, "the system message");
  command->add_option("--thinking", flags->thinking, "on or off, where the chat template knows it")
      ->check(CLI::IsMember({"on", "off"}));
  command->add_option("--max-tokens", flags->max_tokens, "new tokens an answer at most")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 31))
      ->capture_default_str();
  command
      ->add_option("--context", flags->context,
                   fmt::format("tokens of a conversation at most; 0 is the model's context, but no more than {}",
                               kDefaultContext))
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  flags->sampling.AddTo(*command, "generation_config.json's");
  command->add_flag("--stats", flags->stats, "print times, rates and the reason of the end on stderr after each turn");
  flags->common.AddTo(*command);
  command->footer(
      "Reads lines from standard input; /help lists the commands. Ctrl-C stops the answer, Ctrl-D ends the program.\n"
      "Example:\n  mxmla chat DeepSeek-V2-Lite-MXFP4 --system \"Answer in one sentence.\"");
  command->callback([flags] { Chat(*flags); });
}

}  // namespace mxmla::app
