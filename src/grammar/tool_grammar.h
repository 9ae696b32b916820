// Grammars of the calls of tools, as each family of models writes them.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "grammar/grammar.h"

namespace mxmla {

struct ToolGrammar {
  struct Tool {
    std::string name;
    nlohmann::ordered_json parameters;  // a JSON schema of an object; null: any object
    bool strict = true;                 // false: any arguments that can be read
  };

  // How calls are written: deepseek_v3, deepseek_v31, deepseek_v32, kimi_k2, glm47 or mistral.
  std::string format;
  std::vector<Tool> tools;
  bool required = true;   // nothing but calls, at least one; false: text, and whatever begins a call is one
  bool one_call = false;  // at most one
};

// Markers that the vocabulary has a token for are that token, special or not. Errors (kUsage): another format, no tool.
GrammarSource ToolCallGrammar(const ToolGrammar& calls, const Tokenizer& tokenizer);

}  // namespace mxmla
