// The embedded model's vocabulary, and texts that a constraint lets through.
#pragma once

#include <algorithm>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "grammar/grammar.h"
#include "text/tokenizer.h"

namespace mxmla {

inline const Tokenizer& TinyTokenizer() {
  static const std::unique_ptr<Tokenizer> tokenizer = Tokenizer::Load(MXMLA_TINY_GSM);
  return *tokenizer;
}

// Ids behind the tokenizer's, as models whose vocabulary is padded have them.
inline int64_t TinyVocabulary() { return TinyTokenizer().vocab_size() + 5; }

inline std::unique_ptr<GrammarCompiler> TinyCompiler() {
  const int32_t end = *TinyTokenizer().eos_id();
  return std::make_unique<GrammarCompiler>(TinyTokenizer(), TinyVocabulary(), std::span(&end, 1));
}

// The allowed tokens behind `generated`.
inline std::vector<int32_t> Allowed(GrammarConstraint& constraint, const std::vector<int32_t>& generated) {
  std::vector<uint32_t> words(static_cast<size_t>((TinyVocabulary() + 31) / 32), ~0u);
  constraint(generated, words);
  std::vector<int32_t> tokens;
  for (int64_t t = 0; t < TinyVocabulary(); ++t) {
    if (words[static_cast<size_t>(t / 32)] >> (t % 32) & 1) tokens.push_back(static_cast<int32_t>(t));
  }
  return tokens;
}

inline bool Contains(const std::vector<int32_t>& tokens, int32_t token) {
  return std::find(tokens.begin(), tokens.end(), token) != tokens.end();
}

// Whether the tokens of `text`, and then the end, are allowed one after the other.
inline bool Accepts(const std::shared_ptr<const CompiledGrammar>& grammar, const std::string& text) {
  GrammarConstraint constraint(grammar);
  std::vector<int32_t> generated;
  for (const int32_t token : TinyTokenizer().EncodeOrdinary(text)) {
    if (!Contains(Allowed(constraint, generated), token)) return false;
    generated.push_back(token);
  }
  return Contains(Allowed(constraint, generated), *TinyTokenizer().eos_id());
}

}  // namespace mxmla
