// What the endpoints share: the model's text side, which is read before the model, and its name.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/config.h"
#include "engine/generation_config.h"
#include "grammar/grammar_service.h"
#include "text/chat.h"
#include "text/output/template_forms.h"
#include "text/tokenizer.h"

namespace mxmla::serve {

struct ServedText {
  std::string name;     // as /v1/models lists it
  int64_t created = 0;  // seconds since 1970
  int64_t vocab_size = 0;
  int64_t max_context = 0;  // tokens of prompt and answer together
  std::unique_ptr<Tokenizer> tokenizer;
  std::optional<ChatTemplate> chat;  // none: chat is refused
  ToolMessageForm tool_form;         // what the template wants to be told of tools
  AnswerFormat format;               // how the model writes thoughts and calls
  SuggestedSampling suggested;
  std::vector<int32_t> end_tokens;           // of text
  std::vector<int32_t> chat_tokens;          // of an answer; holds end_tokens
  std::shared_ptr<GrammarService> grammars;  // null: structured output is refused
};

}  // namespace mxmla::serve
