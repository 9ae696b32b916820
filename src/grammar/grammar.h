// Structured output: which tokens may follow, so that the text matches a JSON schema, a regular expression, a grammar
// or one of several texts. A wrapper of xgrammar (Apache-2.0), whose types and headers stay in grammar.cpp.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "text/tokenizer.h"

namespace mxmla {

enum class GrammarKind {
  kJsonSchema,     // a JSON Schema; what it does not name may not be in an object unless it says additionalProperties
  kRegex,          // a regular expression of the whole text, of ECMAScript's syntax
  kEbnf,           // rules NAME ::= ..., the first named root, in the syntax of GGML's GBNF
  kStructuralTag,  // xgrammar's tree of formats: texts, schemas and tags one behind the other
};

struct GrammarSource {
  GrammarKind kind = GrammarKind::kJsonSchema;
  std::string text;

  bool operator==(const GrammarSource&) const = default;
};

// Any JSON object.
GrammarSource JsonObjectGrammar();
// One of the texts. Refused (kUsage): none, an empty one.
GrammarSource ChoiceGrammar(std::span<const std::string> choices);

// Whether this build has xgrammar. Without it GrammarCompiler refuses to be made.
bool HasGrammars();

class CompiledGrammar;

// Compiles grammars for one vocabulary.
class GrammarCompiler {
 public:
  // `vocab_size` is the model's. Special tokens of the tokenizer stand for no text: a grammar allows none of them but
  // those that a structural tag names by their ids, and `end_tokens`, which may follow what the grammar accepts as a
  // whole. Errors: kUsage in a build without xgrammar.
  GrammarCompiler(const Tokenizer& tokenizer, int64_t vocab_size, std::span<const int32_t> end_tokens);
  ~GrammarCompiler();
  GrammarCompiler(const GrammarCompiler&) = delete;
  GrammarCompiler& operator=(const GrammarCompiler&) = delete;

  // Errors (kUsage, naming what is wrong): a source that is malformed, that nothing matches, or that xgrammar does not
  // carry out. Takes as long and as much memory as the source asks for: see GrammarService for sources of strangers.
  // Safe from several threads.
  std::shared_ptr<const CompiledGrammar> Compile(const GrammarSource& source) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// About how many bytes it holds.
size_t GrammarBytes(const CompiledGrammar& grammar);

// What a model that thinks before it answers writes around its thoughts. Within them everything is allowed.
struct ThinkingTokens {
  int32_t begin = -1, end = -1;  // -1: there is none
  bool open = false;             // the prompt ends within thoughts
  bool may_open = false;         // the answer's first token may be `begin`
};

// What the tokens <think> and </think>, or Mistral's, make of an answer to `prompt`.
ThinkingTokens ThinkingAfter(const Tokenizer& tokenizer, std::span<const int32_t> prompt);

// What GenerateRequest::restrict_tokens calls. A copy starts anew, so that each of a request's choices has its own.
class GrammarConstraint {
 public:
  explicit GrammarConstraint(std::shared_ptr<const CompiledGrammar> grammar, ThinkingTokens thinking = {});
  ~GrammarConstraint();
  GrammarConstraint(const GrammarConstraint& other);
  GrammarConstraint& operator=(const GrammarConstraint&) = delete;

  // Clears the bits of tokens that may not follow those generated, in which earlier calls' are the first. Errors:
  // kUsage for a grammar so ambiguous that to follow it takes seconds.
  void operator()(std::span<const int32_t> generated, std::span<uint32_t> allowed);

 private:
  struct State;

  void Accept(int32_t token);

  const std::shared_ptr<const CompiledGrammar> grammar_;
  const ThinkingTokens thinking_;
  bool free_;
  size_t seen_ = 0;
  double seconds_ = 0;
  std::unique_ptr<State> state_;  // null until it is needed
};

}  // namespace mxmla
