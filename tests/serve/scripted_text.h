// The text side of a server whose model answers what the conversation tells it to say.
#pragma once

#include "scripted_engine.h"
#include "serve/served_text.h"

namespace mxmla::serve {

// Bytes as tokens, and every format's markers; a template of the family of `tool_format`, with tools and thoughts.
// Context: 4096 tokens.
ServedText MakeScriptedText(const std::string& tool_format = "glm47");

// Says what stands between the last [say] and [/say] of the prompt, its markers as tokens, and then <|end|>. An [error]
// in it throws. `tokenizer` outlives the script.
ScriptedEngine::Script SayScript(const Tokenizer& tokenizer);

}  // namespace mxmla::serve
