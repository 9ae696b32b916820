// What generated text has to match: the flags of run.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "engine/request.h"

namespace mxmla::app {

struct GrammarFlags {
  std::string json_schema, regex, grammar;  // files, but for the expression
  std::vector<std::string> choices;

  // --json-schema, --regex, --grammar and --choice, of which one may be given.
  void AddTo(CLI::App& command);

  bool given() const { return !json_schema.empty() || !regex.empty() || !grammar.empty() || !choices.empty(); }

  // Restricts the request, whose prompt, tokenizer and stop tokens are there. Errors: ReadText's, GrammarCompiler's.
  void ApplyTo(GenerateRequest* request, int64_t vocab_size) const;
};

}  // namespace mxmla::app
