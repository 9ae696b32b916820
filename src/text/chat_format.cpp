// Conversations written out as token ids.
#include <fmt/format.h>

#include "core/error.h"
#include "text/chat.h"
#include "text/utf8.h"

namespace mxmla {
namespace {

// Collects text and special tokens; text that is not interrupted by a special token is encoded as one.
class Writer {
 public:
  explicit Writer(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}

  void Text(std::string_view text) { text_ += ReplaceInvalidUtf8(text); }

  void Special(std::string_view content) {
    const std::optional<int32_t> id = tokenizer_.AddedTokenId(content);
    if (!id) {
      Fail(ErrorCode::kChatTemplate, "chat format", fmt::format("the special token {}", content),
           "a tokenizer without it", "the tokenizer files and the chat template are of different models");
    }
    Id(*id);
  }

  // A tag that some tokenizers have as a token and others spell out.
  void Tag(std::string_view content) {
    if (const std::optional<int32_t> id = tokenizer_.AddedTokenId(content)) {
      Id(*id);
    } else {
      Text(content);
    }
  }

  void Named(std::optional<int32_t> id, std::string_view name) {
    if (!id) {
      Fail(ErrorCode::kChatTemplate, "chat format", fmt::format("a {}", name), "none",
           "tokenizer_config.json has to name it");
    }
    Id(*id);
  }

  std::vector<int32_t> Finish() {
    FlushText();
    return std::move(ids_);
  }

 private:
  void Id(int32_t id) {
    FlushText();
    ids_.push_back(id);
  }

  void FlushText() {
    const std::vector<int32_t> encoded = tokenizer_.EncodeOrdinary(text_);
    ids_.insert(ids_.end(), encoded.begin(), encoded.end());
    text_.clear();
  }

  const Tokenizer& tokenizer_;
  std::string text_;
  std::vector<int32_t> ids_;
};

constexpr std::string_view kUserTag = "<｜User｜>";
constexpr std::string_view kAssistantTag = "<｜Assistant｜>";
constexpr std::string_view kEndOfSentence = "<｜end▁of▁sentence｜>";
constexpr std::string_view kThinkEnd = "</think>";

void WriteDeepSeekV2(const Tokenizer& tokenizer, std::span<const Message> messages, bool add_generation_prompt,
                     Writer* writer) {
  writer->Named(tokenizer.bos_id(), "bos_token");
  for (const Message& message : messages) {
    if (message.role == "user") {
      writer->Text("User: ");
      writer->Text(message.content);
      writer->Text("\n\n");
    } else if (message.role == "assistant") {
      writer->Text("Assistant: ");
      writer->Text(message.content);
      writer->Named(tokenizer.eos_id(), "eos_token");
    } else {
      writer->Text(message.content);
      writer->Text("\n\n");
    }
  }
  if (add_generation_prompt) writer->Text("Assistant:");
}

std::string_view KeptAnswer(std::string_view content, ChatFormat::Thinking kept) {
  if (kept == ChatFormat::Thinking::kAll) return content;
  const size_t at = kept == ChatFormat::Thinking::kBehindFirst ? content.find(kThinkEnd) : content.rfind(kThinkEnd);
  return at == std::string_view::npos ? content : content.substr(at + kThinkEnd.size());
}

std::string SystemPrompt(std::span<const Message> messages, bool joins) {
  std::string prompt;
  bool is_first = true;
  for (const Message& message : messages) {
    if (message.role != "system") continue;
    if (!joins || is_first) {
      prompt = message.content;
    } else {
      prompt += "\n\n" + message.content;
    }
    is_first = false;
  }
  return prompt;
}

void WriteDeepSeekV3(const Tokenizer& tokenizer, const ChatFormat& format, std::span<const Message> messages,
                     bool add_generation_prompt, Writer* writer) {
  using Tag = ChatFormat::AssistantTag;
  writer->Named(tokenizer.bos_id(), "bos_token");
  writer->Text(SystemPrompt(messages, format.joins_system_messages));
  bool is_last_user = false;
  for (const Message& message : messages) {
    if (message.role == "user") {
      is_last_user = true;
      writer->Special(kUserTag);
      writer->Text(message.content);
      if (format.assistant_tag == Tag::kAfterUser) writer->Special(kAssistantTag);
    } else if (message.role == "assistant") {
      if (format.assistant_tag == Tag::kBeforeAnswer) writer->Special(kAssistantTag);
      if (format.assistant_tag == Tag::kBeforeFirstAnswer && is_last_user) {
        writer->Special(kAssistantTag);
        writer->Tag(kThinkEnd);
      }
      is_last_user = false;
      writer->Text(KeptAnswer(message.content, format.kept_thinking));
      writer->Special(kEndOfSentence);
    }
  }
  if (!add_generation_prompt) return;
  switch (format.assistant_tag) {
    case Tag::kBeforeAnswer:
      writer->Special(kAssistantTag);
      if (format.opens_thinking) {
        writer->Tag("<think>");
        writer->Text("\n");
      }
      break;
    case Tag::kAfterUser:
      if (!is_last_user) writer->Special(kAssistantTag);
      break;
    case Tag::kBeforeFirstAnswer:
      if (is_last_user) {
        writer->Special(kAssistantTag);
        writer->Tag(format.thinks ? "<think>" : kThinkEnd);
      }
      break;
  }
}

void WriteKimi(const ChatFormat& format, std::span<const Message> messages, bool add_generation_prompt,
               Writer* writer) {
  const auto open = [&](std::string_view role) {
    writer->Special(fmt::format("<|im_{}|>", role));
    writer->Text(role);
    writer->Special("<|im_middle|>");
  };
  if (messages.front().role != "system" && !format.default_system.empty()) {
    open("system");
    writer->Text(format.default_system);
    writer->Special("<|im_end|>");
  }
  for (size_t i = 0; i < messages.size(); ++i) {
    open(messages[i].role);
    if (format.has_empty_thinking && messages[i].role == "assistant") {
      writer->Tag("<think>");
      writer->Tag(kThinkEnd);
    }
    writer->Text(messages[i].content);
    const bool is_last = i + 1 == messages.size();
    if (!format.closes_last_only_for_prompt || !is_last || add_generation_prompt) writer->Special("<|im_end|>");
  }
  if (add_generation_prompt) open("assistant");
}

}  // namespace

std::vector<int32_t> FormatChat(const Tokenizer& tokenizer, const ChatFormat& format, std::span<const Message> messages,
                                bool add_generation_prompt) {
  if (messages.empty()) Fail(ErrorCode::kChatTemplate, "chat", "at least one message", "none");
  for (const Message& message : messages) {
    if (message.role != "system" && message.role != "user" && message.role != "assistant") {
      Fail(ErrorCode::kChatTemplate, "chat message", "the role system, user or assistant", message.role);
    }
  }
  Writer writer(tokenizer);
  switch (format.family) {
    case ChatFormat::Family::kDeepSeekV2:
      WriteDeepSeekV2(tokenizer, messages, add_generation_prompt, &writer);
      break;
    case ChatFormat::Family::kDeepSeekV3:
      WriteDeepSeekV3(tokenizer, format, messages, add_generation_prompt, &writer);
      break;
    case ChatFormat::Family::kKimiK2:
      WriteKimi(format, messages, add_generation_prompt, &writer);
      break;
  }
  return writer.Finish();
}

}  // namespace mxmla
