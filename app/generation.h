// What run and chat share of generating: the prompt's format, where an answer ends, and what is said of it afterwards.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/generate.h"
#include "text/chat.h"

namespace mxmla::app {

// A model's way of writing a conversation down.
class ChatPrompt {
 public:
  // `thinking`: "on", "off", or "" for what the template does by itself. Throws kChatTemplate where the folder has no
  // template or one that cannot be carried out, or where `thinking` would change nothing.
  ChatPrompt(const std::string& folder, const std::string& thinking);

  // The ids up to where the assistant's answer begins.
  std::vector<int32_t> Encode(const Tokenizer& tokenizer, std::span<const Message> messages) const;

 private:
  ChatTemplate template_;
  ChatOptions options_;
};

// Ends of text and, with `chat`, of an answer: a config may name only the former.
std::vector<int32_t> StopTokens(const ModelConfig& config, const Tokenizer* tokenizer, bool chat);

// Why a generation ended: "stop token", "stop text", "stopped" (by a callback), "length", "cancelled" or "error".
const char* EndName(const GenerateResult& result);

// The same with the token or text, such as: stop token 1 "</s>"; stop text "\n\n"; length, 256 tokens. `tokenizer` may
// be null.
std::string DescribeEnd(const GenerateRequest& request, const GenerateResult& result, const Tokenizer* tokenizer);

// The lines prompt, decode and end, on stderr.
void PrintGenerationStats(const GenerateStats& stats, const std::string& end);

}  // namespace mxmla::app
