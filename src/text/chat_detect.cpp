// Recognises chat templates by their markers.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "text/chat.h"
#include "text/json_file.h"

namespace mxmla {
namespace {

constexpr std::string_view kKnown = "the chat templates of DeepSeek-V2, V2.5, V3, R1, V3.1 and Kimi-K2";
constexpr std::string_view kAdvice = "format the prompt yourself and pass it as plain text";

[[noreturn]] void Refuse(const std::string& subject, std::string_view found) {
  Fail(ErrorCode::kChatTemplate, subject, fmt::format("one of {}", kKnown), found, kAdvice);
}

void ReplaceAll(std::string_view from, std::string_view to, std::string* text) {
  for (size_t at = text->find(from); at != std::string::npos; at = text->find(from, at + to.size())) {
    text->replace(at, from.size(), to);
  }
}

// Spellings that render alike brought to one: "\n" as a newline, tags without their white-space dashes.
std::string Canonical(std::string_view chat_template) {
  std::string text(chat_template);
  ReplaceAll("\r\n", "\n", &text);
  ReplaceAll("\\n", "\n", &text);
  for (std::string_view tag : {"{%", "{{"}) ReplaceAll(std::string(tag) + "-", tag, &text);
  for (std::string_view tag : {"%}", "}}"}) ReplaceAll("-" + std::string(tag), tag, &text);
  return text;
}

// Without the white space that does not show: in a tag that outside quotes, in text that beside a tag or a line's end.
std::string WithoutSpace(std::string_view text) {
  const auto is_space = [](char c) { return c == ' ' || c == '\n' || c == '\t'; };
  std::string dense;
  bool is_in_tag = false;
  char quote = 0;
  for (size_t at = 0; at < text.size();) {
    const std::string_view rest = text.substr(at);
    if (quote == 0 && (rest.starts_with("{{") || rest.starts_with("{%"))) is_in_tag = true;
    if (quote == 0 && (rest.starts_with("}}") || rest.starts_with("%}"))) is_in_tag = false;
    if (is_in_tag && (text[at] == '\'' || text[at] == '"') && (quote == 0 || quote == text[at])) {
      quote = quote == 0 ? text[at] : 0;
    }
    if (quote != 0 || !is_space(text[at])) {
      dense += text[at++];
      continue;
    }
    size_t end = at;
    while (end < text.size() && is_space(text[end])) ++end;
    const std::string_view run = text.substr(at, end - at);
    const std::string_view next = text.substr(end, 2);
    const bool shows = !is_in_tag && run.find('\n') == std::string_view::npos && !dense.ends_with("%}") &&
                       !dense.ends_with("}}") && next != "{%" && next != "{{";
    if (shows) dense += run;
    at = end;
  }
  return dense;
}

class Recognizer {
 public:
  Recognizer(std::string_view chat_template, const std::string& subject)
      : text_(Canonical(chat_template)), dense_(WithoutSpace(text_)), subject_(subject) {}

  ChatFormat Run() const {
    const bool is_deepseek = Has("<｜User｜>") && Has("<｜Assistant｜>");
    const bool is_kimi = Has("<|im_user|>") && Has("<|im_assistant|>") && Has("<|im_middle|>") && Has("<|im_end|>");
    const bool is_plain = Has("'User: ' + message['content'] + '\n\n'");
    if (is_deepseek + is_kimi + is_plain != 1) Refuse(subject_, "another one");
    return is_deepseek ? DeepSeekV3() : is_kimi ? Kimi() : DeepSeekV2();
  }

 private:
  bool Has(std::string_view marker) const { return text_.find(marker) != std::string::npos; }
  bool HasDense(std::string_view marker) const { return dense_.find(marker) != std::string::npos; }

  ChatFormat DeepSeekV2() const {
    const bool is_known = Has("'Assistant: ' + message['content'] + eos_token") && Has("bos_token") &&
                          Has("{{ message['content'] + '\n\n' }}") && Has("{{ 'Assistant:' }}");
    if (!is_known) Refuse(subject_, "one like DeepSeek-V2's that differs in its messages");
    ChatFormat format;
    format.family = ChatFormat::Family::kDeepSeekV2;
    return format;
  }

  ChatFormat DeepSeekV3() const {
    ChatFormat format;
    format.family = ChatFormat::Family::kDeepSeekV3;
    if (!HasDense("{{bos_token}}{{ns.system_prompt}}")) Refuse(subject_, "one that does not begin as DeepSeek-V3's");
    if (Has("ns.system_prompt + '\n\n' + message['content']")) {
      format.joins_system_messages = true;
    } else if (HasDense("setns.system_prompt=message['content']")) {
      format.joins_system_messages = false;
    } else {
      Refuse(subject_, "one like DeepSeek-V3's that differs in its system messages");
    }
    if (Has("split('</think>')[-1]")) {
      format.kept_thinking = ChatFormat::Thinking::kBehindLast;
    } else if (HasDense("split('</think>',1)[1]")) {
      format.kept_thinking = ChatFormat::Thinking::kBehindFirst;
    } else if (Has("split(")) {
      Refuse(subject_, "one like DeepSeek-V3's that differs in what it keeps of an answer");
    }
    const bool is_tag_after_user = HasDense("'<｜User｜>'+message['content']+'<｜Assistant｜>'") ||
                                   HasDense("'<｜User｜>'+content+'<｜Assistant｜>'");
    const bool is_bare_user = HasDense("{{'<｜User｜>'+message['content']}}");
    const bool is_tag_with_answer = HasDense("{{'<｜Assistant｜>'+message['content']+'<｜end▁of▁sentence｜>'}}") ||
                                    HasDense("{{'<｜Assistant｜>'+content+'<｜end▁of▁sentence｜>'}}");
    const bool is_bare_answer = HasDense("{{content+'<｜end▁of▁sentence｜>'}}");
    const size_t condition = dense_.rfind("ifadd_generation_prompt");
    const std::string tail = condition == std::string::npos ? "" : dense_.substr(condition);
    if (is_bare_user && is_tag_with_answer && !is_tag_after_user) {
      format.assistant_tag = ChatFormat::AssistantTag::kBeforeAnswer;
      if (tail == "ifadd_generation_promptandnotns.is_tool%}{{'<｜Assistant｜><think>\n'}}{%endif%}") {
        format.opens_thinking = true;
      } else if (tail != "ifadd_generation_promptandnotns.is_tool%}{{'<｜Assistant｜>'}}{%endif%}") {
        Refuse(subject_, "one like DeepSeek-V3's that differs in its prompt for an answer");
      }
    } else if (is_tag_after_user && is_bare_answer && !is_bare_user && !is_tag_with_answer) {
      format.assistant_tag = ChatFormat::AssistantTag::kAfterUser;
      if (tail != "ifadd_generation_promptandnotns.is_last_userandnotns.is_tool%}{{'<｜Assistant｜>'}}{%endif%}") {
        Refuse(subject_, "one like DeepSeek-V3-0324's that differs in its prompt for an answer");
      }
    } else if (is_bare_user && is_bare_answer && !is_tag_with_answer &&
               HasDense("{%ifns.is_last_user%}{{'<｜Assistant｜>'}}")) {
      format.assistant_tag = ChatFormat::AssistantTag::kBeforeFirstAnswer;
      if (tail !=
          "ifadd_generation_promptandns.is_last_userandnotns.is_tool%}{{'<｜Assistant｜>'}}"
          "{%ifnotthinking%}{{'</think>'}}{%else%}{{'<think>'}}{%endif%}{%endif%}") {
        Refuse(subject_, "one like DeepSeek-V3.1's that differs in its prompt for an answer");
      }
    } else {
      Refuse(subject_, "one like DeepSeek-V3's that differs in its messages");
    }
    return format;
  }

  ChatFormat Kimi() const {
    ChatFormat format;
    format.family = ChatFormat::Family::kKimiK2;
    const bool has_prompt =
        HasDense("{%ifadd_generation_prompt%}<|im_assistant|>assistant<|im_middle|>{%endif%}") ||
        HasDense("{%ifadd_generation_prompt%}{{'<|im_assistant|>assistant<|im_middle|>'}}{%endif%}");
    if (!has_prompt) Refuse(subject_, "one like Kimi-K2's that differs in its prompt for an answer");
    format.default_system = KimiDefaultSystem();
    format.closes_last_only_for_prompt = HasDense("(loop.lastandadd_generation_prompt)ornotloop.last");
    format.has_empty_thinking = HasDense("<think></think>{{render_content(message)}}");
    if (!format.has_empty_thinking && Has("<think>"))
      Refuse(subject_, "one like Kimi-K2's that differs in its thinking");
    return format;
  }

  // The system message that the template spells out; other mentions of its tags have expressions or quotes inside.
  std::string KimiDefaultSystem() const {
    constexpr std::string_view kOpening = "<|im_system|>system<|im_middle|>";
    constexpr std::string_view kClosing = "<|im_end|>";
    for (size_t at = text_.find(kOpening); at != std::string::npos; at = text_.find(kOpening, at + 1)) {
      const size_t begin = at + kOpening.size();
      const size_t end = text_.find(kClosing, begin);
      if (end == std::string::npos) break;
      std::string said = text_.substr(begin, end - begin);
      if (!said.empty() && said.find_first_of("{'\"") == std::string::npos) return said;
    }
    return {};
  }

  std::string text_;
  std::string dense_;
  const std::string& subject_;
};

// The template named "default" of a list, or the string itself.
std::string TemplateOf(const nlohmann::json& value, const std::string& subject) {
  if (value.is_string()) return value.get<std::string>();
  if (!value.is_array()) Fail(ErrorCode::kChatTemplate, subject, "a string or a list of templates", value.type_name());
  for (const nlohmann::json& entry : value) {
    const bool is_template = entry.is_object() && HasField(entry, "name") && entry["name"] == "default" &&
                             HasField(entry, "template") && entry["template"].is_string();
    if (is_template) return entry["template"].get<std::string>();
  }
  Fail(ErrorCode::kChatTemplate, subject, "a template named \"default\"", "none", kAdvice);
}

}  // namespace

ChatFormat RecognizeChatTemplate(std::string_view chat_template, const std::string& subject) {
  return Recognizer(chat_template, subject).Run();
}

ChatFormat DetectChatFormat(const std::filesystem::path& folder) {
  const std::filesystem::path jinja = folder / "chat_template.jinja";
  const std::filesystem::path config_path = folder / "tokenizer_config.json";
  std::error_code error;
  if (std::filesystem::exists(jinja, error)) {
    return RecognizeChatTemplate(ReadTextFile(jinja, ErrorCode::kChatTemplate), jinja.string());
  }
  const std::string subject = config_path.string() + ": chat_template";
  if (!std::filesystem::exists(config_path, error)) Refuse(subject, "no such file and no chat_template.jinja");
  const nlohmann::json config = ReadJsonObject(config_path, ErrorCode::kChatTemplate);
  if (!HasField(config, "chat_template")) Refuse(subject, "no template");
  return RecognizeChatTemplate(TemplateOf(config["chat_template"], subject), subject);
}

std::string_view ChatFormatName(const ChatFormat& format) {
  switch (format.family) {
    case ChatFormat::Family::kDeepSeekV2:
      return "DeepSeek-V2";
    case ChatFormat::Family::kKimiK2:
      return format.has_empty_thinking ? "Kimi-K2-Thinking" : "Kimi-K2";
    case ChatFormat::Family::kDeepSeekV3:
      break;
  }
  if (format.assistant_tag == ChatFormat::AssistantTag::kBeforeFirstAnswer) return "DeepSeek-V3.1";
  if (!format.joins_system_messages) return "DeepSeek-V2.5";
  return format.kept_thinking == ChatFormat::Thinking::kAll ? "DeepSeek-V3" : "DeepSeek-R1";
}

}  // namespace mxmla
