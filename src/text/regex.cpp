#include "text/regex.h"

#include <fmt/format.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "core/error.h"
#include "text/utf8.h"

namespace mxmla {
namespace {

constexpr size_t kJitStackStart = 32 * 1024;
constexpr size_t kJitStackLimit = 8 * 1024 * 1024;
constexpr uint32_t kMatchLimit = 10'000'000;
constexpr uint32_t kHeapLimitKib = 256 * 1024;

// What a search needs beside the expression; one a thread, so that a shared tokenizer can be used from many.
struct Scratch {
  pcre2_match_data* match_data = pcre2_match_data_create(1, nullptr);
  pcre2_match_context* context = pcre2_match_context_create(nullptr);
  pcre2_jit_stack* jit_stack = pcre2_jit_stack_create(kJitStackStart, kJitStackLimit, nullptr);

  Scratch() {
    if (match_data == nullptr || context == nullptr) throw std::bad_alloc();
    pcre2_set_match_limit(context, kMatchLimit);
    pcre2_set_heap_limit(context, kHeapLimitKib);
    if (jit_stack != nullptr) pcre2_jit_stack_assign(context, nullptr, jit_stack);
  }
  ~Scratch() {
    pcre2_jit_stack_free(jit_stack);
    pcre2_match_context_free(context);
    pcre2_match_data_free(match_data);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
};

Scratch& ThreadScratch() {
  thread_local Scratch scratch;
  return scratch;
}

std::string Message(int code) {
  char text[256] = {};
  pcre2_get_error_message(code, reinterpret_cast<PCRE2_UCHAR*>(text), sizeof(text));
  return text;
}

}  // namespace

void Regex::CodeDeleter::operator()(pcre2_real_code_8* code) const { pcre2_code_free(code); }

Regex::Regex(const std::string& pattern, std::string subject)
    : Regex(pattern, std::move(subject), PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NO_AUTO_CAPTURE) {}

Regex Regex::Literal(const std::string& text, std::string subject) {
  return Regex(text, std::move(subject), PCRE2_UTF | PCRE2_LITERAL);
}

Regex::Regex(const std::string& pattern, std::string subject, unsigned options) : subject_(std::move(subject)) {
  std::unique_ptr<pcre2_compile_context, decltype(&pcre2_compile_context_free)> context(
      pcre2_compile_context_create(nullptr), &pcre2_compile_context_free);
  if (!context) throw std::bad_alloc();
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  int error = 0;
  PCRE2_SIZE offset = 0;
  code_.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(), options, &error, &offset,
                            context.get()));
  if (!code_) {
    Fail(ErrorCode::kTokenizer, subject_, "a regular expression",
         fmt::format("\"{}\" ({} at byte {})", pattern, Message(error), offset));
  }
  // Without JIT (a machine that forbids writable and executable memory) the interpreter serves.
  pcre2_jit_compile(code_.get(), PCRE2_JIT_COMPLETE);
}

bool Regex::Search(std::string_view text, size_t offset, unsigned options, Span* match) const {
  Scratch& scratch = ThreadScratch();
  const auto run = [&](uint32_t more) {
    return pcre2_match(code_.get(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), offset,
                       options | more | PCRE2_NO_UTF_CHECK, scratch.match_data, scratch.context);
  };
  int result = run(0);
  if (result == PCRE2_ERROR_JIT_STACKLIMIT) result = run(PCRE2_NO_JIT);
  if (result == PCRE2_ERROR_NOMATCH) return false;
  if (result < 0) {
    Fail(ErrorCode::kTokenizer, subject_, "a search that ends",
         fmt::format("\"{}\" in a text of {} bytes", Message(result), text.size()),
         "the expression backtracks too much for this text; shorten or split the text");
  }
  const PCRE2_SIZE* ovector = pcre2_get_ovector_pointer(scratch.match_data);
  *match = {ovector[0], ovector[1]};
  return true;
}

void Regex::FindAll(std::string_view text, std::vector<Span>* matches) const {
  matches->clear();
  size_t offset = 0;
  bool is_after_match = false;
  Span match;
  while (offset <= text.size() && Search(text, offset, 0, &match)) {
    if (match.end > match.begin) {
      matches->push_back(match);
      offset = match.end;
      is_after_match = true;
      continue;
    }
    // An empty match right behind another match does not count.
    if (!(is_after_match && match.begin == matches->back().end)) {
      matches->push_back(match);
      is_after_match = true;
    }
    if (match.end >= text.size()) break;
    offset = match.end + CodePointAt(text, match.end).length;
  }
}

bool Regex::MatchesAt(std::string_view text, size_t offset) const {
  Span match;
  return Search(text, offset, PCRE2_ANCHORED, &match);
}

}  // namespace mxmla
