// Conversations as the token ids that a model was trained to continue.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer.h"

namespace mxmla {

struct Message {
  std::string role;  // "system", "user" or "assistant"
  std::string content;
};

// The format of a model's chat template, as far as it shows in text without tools.
struct ChatFormat {
  enum class Family {
    kDeepSeekV2,  // "User: ...\n\nAssistant: ..."
    kDeepSeekV3,  // <｜User｜>...<｜Assistant｜>..., of V2.5, V3, R1 and V3.1
    kKimiK2,      // <|im_user|>user<|im_middle|>...<|im_end|>
  };
  // Where DeepSeek's assistant tag is put.
  enum class AssistantTag {
    kBeforeAnswer,       // with each answer: V2.5, V3, R1
    kAfterUser,          // with each question: V3-0324, R1-0528
    kBeforeFirstAnswer,  // with an answer right behind a question, then </think>: V3.1
  };
  // What is kept of an earlier answer that has </think> in it.
  enum class Thinking { kAll, kBehindFirst, kBehindLast };

  Family family = Family::kDeepSeekV3;
  AssistantTag assistant_tag = AssistantTag::kBeforeAnswer;
  Thinking kept_thinking = Thinking::kAll;
  bool joins_system_messages = true;         // else the last one counts (V2.5)
  bool opens_thinking = false;               // R1: the prompt for an answer ends with <think> and a newline
  bool thinks = false;                       // V3.1: the prompt for an answer opens thinking; a caller may set it
  std::string default_system;                // Kimi's system prompt where the conversation begins with none
  bool closes_last_only_for_prompt = false;  // Kimi-K2-0905: no <|im_end|> on the last message without a prompt
  bool has_empty_thinking = false;           // Kimi-K2-Thinking: <think></think> before each answer
};

// The format's name for people, such as "DeepSeek-V3".
std::string_view ChatFormatName(const ChatFormat& format);

// Recognises the folder's chat template by its markers: chat_template.jinja, else chat_template of
// tokenizer_config.json (a string, or a list with one named "default"). Throws kChatTemplate where there is none or
// it is not one of those above; templates are recognised, not executed.
ChatFormat DetectChatFormat(const std::filesystem::path& folder);

// The same for the text of a template; `subject` names it in errors.
ChatFormat RecognizeChatTemplate(std::string_view chat_template, const std::string& subject);

// The conversation's ids, the begin-of-text token included where the template has it. The template's special tokens
// are ids; contents are text only: one that spells out a special token is encoded as ordinary text, where rendering
// a template and encoding the result would let it through. Kimi's cuts of very long text count from the start of
// each stretch of text here. Throws kChatTemplate for no messages, for a role other
// than system, user and assistant, and for a special token that the tokenizer lacks.
std::vector<int32_t> FormatChat(const Tokenizer& tokenizer, const ChatFormat& format, std::span<const Message> messages,
                                bool add_generation_prompt);

}  // namespace mxmla
