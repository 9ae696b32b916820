// Any schema, expression, grammar or structural tag of a request: refused in one line, or a grammar that can be
// followed; neither late nor fatal. The first byte chooses the field, the rest is its text.
#include <sanitizer/common_interface_defs.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <future>

#include "../text/marker_tokenizer.h"
#include "core/error.h"
#include "serve/chat_request.h"
#include "serve/structured_output.h"

namespace {

using namespace mxmla;
using namespace mxmla::serve;

constexpr int kMostTokens = 48;

const Tokenizer& Vocabulary() {
  static const std::unique_ptr<Tokenizer> tokenizer = MakeMarkerTokenizer();
  return *tokenizer;
}

std::unique_ptr<GrammarCompiler> MakeCompiler() {
  static const pid_t fuzzer = getpid();
  if (getpid() != fuzzer) {  // a trial may end as it likes: that is no finding of the fuzzer's
    __sanitizer_set_death_callback([] {});
    std::signal(SIGABRT, SIG_DFL);
  }
  const int32_t end = *Vocabulary().AddedTokenId("<|end|>");
  return std::make_unique<GrammarCompiler>(Vocabulary(), Vocabulary().vocab_size(), std::span(&end, 1));
}

GrammarService& Service() {
  static GrammarService service(MakeCompiler, [] {
    GrammarServiceOptions options;
    options.limits.seconds = 1;
    options.threads = 1;
    options.cache_entries = 1;
    return options;
  }());
  return service;
}

std::optional<StructuredOutput> Read(int field, const std::string& text) {
  switch (field) {
    case 0:
      return ReadStructuredOutput(ReadBody(text));
    case 1: {
      constexpr const char* kTypes[] = {"text", "json_object", "json_schema"};
      return ReadTypedFormat(ReadBody(text), "text.format", kTypes);
    }
    case 2:
      return ReadStructuredOutput({{"guided_json", text}});
    case 3:
      return ReadStructuredOutput({{"guided_regex", text}});
    case 4:
      return ReadStructuredOutput({{"guided_grammar", text}});
    default:
      return ReadStructuredOutput({{"structured_outputs", {{"structural_tag", text}}}});
  }
}

void CheckLine(std::string_view message) {
  if (message.empty() || message.find('\n') != std::string_view::npos) abort();
}

// Writes what the grammar allows; the text's bytes choose.
void Follow(const std::shared_ptr<const CompiledGrammar>& grammar, const std::string& text) {
  const auto vocabulary = static_cast<size_t>(Vocabulary().vocab_size());
  const int32_t end = *Vocabulary().AddedTokenId("<|end|>");
  GrammarConstraint constraint(grammar);
  std::vector<int32_t> generated;
  for (int i = 0; i < kMostTokens; ++i) {
    std::vector<uint32_t> words((vocabulary + 31) / 32, ~0u);
    try {
      constraint(generated, words);
    } catch (const Error& error) {
      if (error.code() == ErrorCode::kInternal) abort();
      return CheckLine(error.what());
    }
    std::vector<int32_t> allowed;
    for (size_t t = 0; t < vocabulary; ++t) {
      if (words[t / 32] >> (t % 32) & 1) allowed.push_back(static_cast<int32_t>(t));
    }
    if (allowed.empty() && i == 0) abort();  // no text matches
    if (allowed.empty()) return;             // a dead end, which ends the request with an error
    const auto byte = text.empty() ? size_t{0} : static_cast<unsigned char>(text[generated.size() % text.size()]);
    generated.push_back(allowed[byte % allowed.size()]);
    if (generated.back() == end) return;
  }
}

}  // namespace

// The trials' process is forked before there are threads.
extern "C" int LLVMFuzzerInitialize(int*, char***) {
  Service();
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string text(reinterpret_cast<const char*>(data) + 1, size - 1);
  std::optional<StructuredOutput> structured;
  try {
    structured = Read(data[0] % 6, text);
  } catch (const ApiError& error) {
    if (error.status != 400) abort();
    CheckLine(error.message);
    return 0;
  }
  if (!structured) return 0;
  std::promise<GrammarOutcome> promise;
  Service().Compile(structured->source, [&](const GrammarOutcome& outcome) { promise.set_value(outcome); });
  const GrammarOutcome outcome = promise.get_future().get();
  if (outcome.grammar) {
    Follow(outcome.grammar, text);
  } else {
    const ApiError error = GrammarError(*structured, outcome);
    if (error.status != 400) abort();
    CheckLine(error.message);
  }
  return 0;
}
