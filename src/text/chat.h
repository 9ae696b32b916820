// Conversations as the token ids that a model was trained to continue: its chat template, carried out.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer.h"

namespace mxmla {

// JSON whose objects keep the order of their keys, which shows where a template writes an object out.
using OrderedJson = nlohmann::ordered_json;

struct Message {
  std::string role;  // "system", "user", "assistant", "tool" or what else the template knows
  std::string content;
  // The message's further keys: null, or an object such as {"reasoning_content": "...", "tool_calls": [...],
  // "name": "...", "tool_call_id": "..."}. A "content" in it (a list of parts, null) takes the place of the text.
  OrderedJson fields = nullptr;
  // Without it the message has no key "content" at all, save one of `fields`.
  bool has_content = true;
};

// A message of the usual JSON form: an object with a string "role"; throws kData, `subject` naming it, for another.
Message MessageFromJson(const OrderedJson& json, const std::string& subject);

struct ChatOptions {
  // Whether the prompt for the assistant's answer is put behind the messages.
  bool add_generation_prompt = true;
  // The template's variables `thinking` and `enable_thinking`; without a value the template's own default counts.
  std::optional<bool> thinking = std::nullopt;
  // A list of tool descriptions, in the form that the template expects.
  std::optional<OrderedJson> tools = std::nullopt;
  // Further variables of the template (chat_template_kwargs): null, or an object. They go before `thinking`.
  OrderedJson variables = nullptr;
};

// A model's chat template. Safe to use from several threads at once.
class ChatTemplate {
 public:
  // Reads the folder's template: chat_template.jinja, else chat_template.json, else chat_template of
  // tokenizer_config.json; each of the latter two a string, or named templates, of which "default" is taken, and
  // "tool_use" where there are tools. DeepSeek-V3.2, whose folders hold none, has a built-in one. Throws kChatTemplate
  // where there is none or it cannot be parsed.
  static ChatTemplate Load(const std::filesystem::path& folder);

  // The template in the file `path`, with the folder's tokens. Throws as Load does, and kMissingFile.
  static ChatTemplate LoadWithTokensOf(const std::filesystem::path& folder, const std::filesystem::path& path);

  // The template of this text; `subject` names it in errors. `special_tokens` is an object of the variables that name
  // the tokenizer's tokens ("bos_token": "<s>"), or null.
  static ChatTemplate FromText(std::string_view text, const std::string& subject,
                               const OrderedJson& special_tokens = nullptr);

  ~ChatTemplate();
  ChatTemplate(ChatTemplate&&) noexcept;
  ChatTemplate& operator=(ChatTemplate&&) noexcept;

  // The conversation as the template writes it. Throws kChatTemplate with the template's line for what the template
  // refuses (raise_exception), for what fails in it, and where it passes the limits of text/template/limits.h.
  std::string Render(std::span<const Message> messages, const ChatOptions& options = {}) const;

  // The ids of what Render writes; the template writes a begin-of-text token where it wants one, none is added. Only
  // text that the template itself spells out becomes added tokens: what comes out of messages, tools and variables is
  // text even where it spells a special token.
  std::vector<int32_t> Encode(const Tokenizer& tokenizer, std::span<const Message> messages,
                              const ChatOptions& options = {}) const;

  // Whether the template reads `thinking` or `enable_thinking`, so that ChatOptions::thinking can change something.
  bool ReadsThinking() const;

  // Whether the template's source holds this text.
  bool Spells(std::string_view text) const;

 private:
  struct Impl;
  explicit ChatTemplate(std::unique_ptr<const Impl> impl);

  std::unique_ptr<const Impl> impl_;
};

}  // namespace mxmla
