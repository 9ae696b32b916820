// What a model's chat template and vocabulary show of how the model writes, and what the template asks of messages.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "text/chat.h"
#include "text/output/answer_parser.h"

namespace mxmla {

// How messages about tools must look for this template.
struct ToolMessageForm {
  bool writes_tools = false;        // the template puts ChatOptions::tools into the prompt
  bool writes_calls = false;        // and an assistant's tool_calls
  bool arguments_as_text = false;   // function.arguments as JSON text, not as an object
  bool null_content = false;        // the content beside calls must be null where there is none, not ""
  bool nine_character_ids = false;  // ids of calls must be nine letters and digits
  std::string sample;               // a conversation with a call, as the template writes it
};

// Found by carrying the template out on a small conversation.
ToolMessageForm ProbeToolMessages(const ChatTemplate& chat);

// Names for --tool-parser and --reasoning-parser, beside "auto" and "none".
std::vector<std::string> ToolFormatNames();
std::vector<std::string> ReasoningFormatNames();

// The format of this name; "auto" is what the template writes for a call (tools), or what the vocabulary or the
// template has around thoughts (reasoning). Nothing for "none" and where nothing is known. Refused (kUsage): another
// name.
std::optional<ToolFormat> FindToolFormat(const std::string& name, const Tokenizer& tokenizer,
                                         const ToolMessageForm& form);
std::optional<ReasoningFormat> FindReasoningFormat(const std::string& name, const Tokenizer& tokenizer,
                                                   const ChatTemplate& chat);

// Whether the prompt ends by opening a thought, white space aside.
bool EndsInReasoning(const ReasoningFormat& format, const Tokenizer& tokenizer, std::span<const int32_t> prompt);

}  // namespace mxmla
