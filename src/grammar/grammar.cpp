#include "grammar/grammar.h"

#include <dlpack/dlpack.h>
#include <fmt/format.h>
#include <xgrammar/compiler.h>
#include <xgrammar/matcher.h>

#include <algorithm>
#include <ctime>
#include <new>
#include <thread>

#include "core/error.h"

// xgrammar is built to hand its messages over (tools/xgrammar.sh): failures become exceptions without its file names,
// and warnings of what a schema asks for in vain are no news to a server's operator.
namespace xgrammar {
[[noreturn]] void LogFatalImpl(const std::string&, int, const std::string& message) {
  throw std::runtime_error(message);
}
void LogMessageImpl(const std::string&, int, int, const std::string&) {}
}  // namespace xgrammar

namespace mxmla {
namespace {

// A model that hesitates writes white space without end; indentation seldom needs more between two tokens of JSON.
constexpr int kMostWhitespace = 20;
// What following a grammar may take of a step in the long run, and at once.
constexpr double kSecondsPerToken = 0.01;
constexpr double kSecondsAtOnce = 1;

constexpr char kNoText = '\xff';

std::vector<std::string> TokenTexts(const Tokenizer& tokenizer, int64_t vocab_size) {
  std::vector<std::string> texts(static_cast<size_t>(std::min<int64_t>(vocab_size, tokenizer.vocab_size())));
  for (size_t id = 0; id < texts.size(); ++id) {
    const auto token = static_cast<int32_t>(id);
    texts[id] = tokenizer.TokenBytes(token);
    // A byte that no text has: nothing but a structural tag, by its id, allows a special token.
    if (tokenizer.IsSpecial(token) && !texts[id].empty()) texts[id].insert(0, 1, kNoText);
  }
  return texts;
}

xgrammar::TokenizerInfo MakeVocabulary(const Tokenizer& tokenizer, int64_t vocab_size,
                                       std::span<const int32_t> end_tokens) {
  std::vector<int32_t> ends;
  for (const int32_t token : end_tokens) {
    if (token >= 0 && token < std::min<int64_t>(vocab_size, tokenizer.vocab_size())) ends.push_back(token);
  }
  return xgrammar::TokenizerInfo(TokenTexts(tokenizer, vocab_size), xgrammar::VocabType::RAW,
                                 static_cast<int>(vocab_size), std::move(ends));
}

int CompileThreads() { return static_cast<int>(std::clamp(std::thread::hardware_concurrency() / 2, 1u, 8u)); }

const char* KindName(GrammarKind kind) {
  switch (kind) {
    case GrammarKind::kJsonSchema:
      return "JSON schema";
    case GrammarKind::kRegex:
      return "regular expression";
    case GrammarKind::kEbnf:
      return "grammar";
    case GrammarKind::kStructuralTag:
      break;
  }
  return "structural tag";
}

// Of this thread: what else the machine does is not the grammar's fault.
double ThreadSeconds() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

DLTensor MaskTensor(std::span<uint32_t> words, int64_t* count) {
  DLTensor tensor{};
  tensor.data = words.data();
  tensor.device = {kDLCPU, 0};
  tensor.ndim = 1;
  tensor.dtype = {kDLInt, 32, 1};
  *count = static_cast<int64_t>(words.size());
  tensor.shape = count;
  return tensor;
}

// Whether any token may come first.
bool HasBeginning(const xgrammar::CompiledGrammar& grammar) {
  const auto size = static_cast<size_t>(grammar.GetTokenizerInfo().GetVocabSize());
  std::vector<uint32_t> words((size + 31) / 32, ~0u);
  int64_t count = 0;
  DLTensor mask = MaskTensor(words, &count);
  // False where the matcher has nothing to clear.
  if (!xgrammar::GrammarMatcher(grammar).FillNextTokenBitmask(&mask)) return true;
  return std::any_of(words.begin(), words.end(), [](uint32_t word) { return word != 0; });
}

}  // namespace

class CompiledGrammar {
 public:
  explicit CompiledGrammar(xgrammar::CompiledGrammar compiled) : grammar(std::move(compiled)) {}
  const xgrammar::CompiledGrammar grammar;
};

struct GrammarCompiler::State {
  xgrammar::TokenizerInfo vocabulary;
};

struct GrammarConstraint::State {
  xgrammar::GrammarMatcher matcher;
};

bool HasGrammars() { return true; }

GrammarCompiler::GrammarCompiler(const Tokenizer& tokenizer, int64_t vocab_size, std::span<const int32_t> end_tokens)
    : state_(std::make_unique<State>(State{MakeVocabulary(tokenizer, vocab_size, end_tokens)})) {
  if (state_->vocabulary.GetStopTokenIds().empty()) {
    Fail(ErrorCode::kUsage, "structured output", "a model with an end-of-text token", "none");
  }
}

GrammarCompiler::~GrammarCompiler() = default;

std::shared_ptr<const CompiledGrammar> GrammarCompiler::Compile(const GrammarSource& source) const {
  const std::string subject = KindName(source.kind);
  try {
    // No cache: whoever asks has one.
    xgrammar::GrammarCompiler compiler(state_->vocabulary, CompileThreads(), false);
    const auto done = [](xgrammar::CompiledGrammar compiled) {
      if (!HasBeginning(compiled)) throw std::runtime_error("one that no text matches");
      return std::make_shared<const CompiledGrammar>(std::move(compiled));
    };
    switch (source.kind) {
      case GrammarKind::kJsonSchema:
        return done(compiler.CompileJSONSchema(source.text, true, std::nullopt, std::nullopt, true, kMostWhitespace));
      case GrammarKind::kRegex:
        return done(compiler.CompileRegex(source.text));
      case GrammarKind::kEbnf:
        return done(compiler.CompileGrammar(source.text, "root"));
      case GrammarKind::kStructuralTag:
        return done(compiler.CompileStructuralTag(source.text));
    }
  } catch (const std::bad_alloc&) {
    throw;
  } catch (const std::exception& error) {
    Fail(ErrorCode::kUsage, subject, "one that can be carried out", error.what());
  }
  Fail(ErrorCode::kInternal, subject, "a kind of grammar", "none");
}

size_t GrammarBytes(const CompiledGrammar& grammar) { return grammar.grammar.MemorySizeBytes(); }

GrammarConstraint::GrammarConstraint(std::shared_ptr<const CompiledGrammar> grammar, ThinkingTokens thinking)
    : grammar_(std::move(grammar)), thinking_(thinking), free_(thinking.open) {}

GrammarConstraint::~GrammarConstraint() = default;

GrammarConstraint::GrammarConstraint(const GrammarConstraint& other)
    : GrammarConstraint(other.grammar_, other.thinking_) {}

void GrammarConstraint::Accept(int32_t token) {
  if (free_) {
    free_ = token != thinking_.end;
  } else if (seen_ == 0 && thinking_.may_open && token == thinking_.begin) {
    free_ = true;
  } else if (!state_->matcher.AcceptToken(token)) {
    Fail(ErrorCode::kInternal, fmt::format("token {} of the answer", seen_), "one that the grammar allows",
         fmt::format("{}", token));
  }
  ++seen_;
}

void GrammarConstraint::operator()(std::span<const int32_t> generated, std::span<uint32_t> allowed) {
  const double begin = ThreadSeconds();
  if (!state_) state_ = std::make_unique<State>(State{xgrammar::GrammarMatcher(grammar_->grammar)});
  for (const int32_t token : generated.subspan(seen_)) Accept(token);
  if (!free_) {
    int64_t count = 0;
    DLTensor mask = MaskTensor(allowed, &count);
    state_->matcher.FillNextTokenBitmask(&mask);
    if (seen_ == 0 && thinking_.may_open && thinking_.begin >= 0) {
      const auto token = static_cast<size_t>(thinking_.begin);
      allowed[token / 32] |= 1u << (token % 32);
    }
  }
  seconds_ += ThreadSeconds() - begin;
  if (seconds_ > kSecondsAtOnce + kSecondsPerToken * static_cast<double>(seen_)) {
    Fail(ErrorCode::kUsage, "grammar", fmt::format("one that is followed within {} ms a token", kSecondsPerToken * 1e3),
         fmt::format("{:.1f} s for {} tokens", seconds_, seen_), "a less ambiguous one");
  }
}

}  // namespace mxmla
