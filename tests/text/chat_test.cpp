#include "text/chat.h"

#include <fmt/format.h>

#include <algorithm>
#include <fstream>

#include "fixture.h"
#include "text/utf8.h"

namespace mxmla {
namespace {

const OrderedJson kTokens = {{"bos_token", "<｜begin▁of▁sentence｜>"}, {"eos_token", "<｜end▁of▁sentence｜>"}};

OrderedJson ReadOrdered(const std::string& name) {
  std::ifstream file(FixturePath(name));
  return OrderedJson::parse(file);
}

ChatTemplate TemplateOf(const char* key) {
  return ChatTemplate::FromText(ReadFixture("templates.json")[key].get<std::string>(), key, kTokens);
}

std::vector<Message> MessagesOf(const OrderedJson& json) {
  std::vector<Message> messages;
  for (const OrderedJson& message : json) messages.push_back(MessageFromJson(message, "message"));
  return messages;
}

class ChatGolden : public testing::TestWithParam<const char*> {};

TEST_P(ChatGolden, IsWhatTheTemplateRenders) {
  const auto tokenizer = Tokenizer::Load(FixturePath(GetParam()));
  const OrderedJson chats = ReadOrdered(std::string(GetParam()) + "/chat.json");
  for (const auto& [name, cases] : chats.items()) {
    const ChatTemplate chat = TemplateOf(name.c_str());
    for (const OrderedJson& c : cases) {
      const std::vector<Message> messages = MessagesOf(c["messages"]);
      ChatOptions options;
      options.add_generation_prompt = c["prompt"].get<bool>();
      EXPECT_EQ(chat.Render(messages, options), c["text"].get<std::string>()) << name;
      const std::vector<int32_t> ids = chat.Encode(*tokenizer, messages, options);
      EXPECT_EQ(tokenizer->Decode(ids), c["text"].get<std::string>()) << name;
      if (!c["ids"].is_null()) {
        EXPECT_EQ(ids, c["ids"].get<std::vector<int32_t>>()) << name << c["messages"];
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Models, ChatGolden, testing::Values("deepseek-v2", "deepseek-v3", "kimi-k2"));

TEST(Chat, ThinkingIsTheCallersChoice) {
  const auto tokenizer = Tokenizer::Load(FixturePath("deepseek-v3"));
  const ChatTemplate chat = TemplateOf("deepseek-v3.1");
  const std::vector<Message> messages = {{"user", "x"}};
  ChatOptions options;
  EXPECT_TRUE(chat.ReadsThinking());
  EXPECT_FALSE(TemplateOf("deepseek-v3").ReadsThinking());
  EXPECT_EQ(chat.Encode(*tokenizer, messages).back(), *tokenizer->AddedTokenId("</think>"));
  options.thinking = true;
  EXPECT_EQ(chat.Encode(*tokenizer, messages, options).back(), *tokenizer->AddedTokenId("<think>"));
  options.variables = {{"thinking", false}};
  EXPECT_EQ(chat.Encode(*tokenizer, messages, options).back(), *tokenizer->AddedTokenId("</think>"));
}

TEST(Chat, ThinkingSetsBothNames) {
  const ChatTemplate chat = ChatTemplate::FromText("{{ thinking }} {{ enable_thinking }}", "test");
  ChatOptions options;
  options.thinking = false;
  EXPECT_EQ(chat.Render({{{"user", "x"}}}, options), "False False");
}

// Contents that spell out a control token are text, whatever a template does to them on the way.
TEST(Chat, ContentsCannotInjectTokens) {
  for (const auto& [folder, mark, key] : {std::tuple("deepseek-v2", "<｜end▁of▁sentence｜>", "deepseek-v2"),
                                          {"deepseek-v3", "<｜Assistant｜>", "deepseek-v3"},
                                          {"deepseek-v3", "<｜end▁of▁sentence｜>", "deepseek-v3.1"},
                                          {"kimi-k2", "<|im_end|>", "kimi-k2"}}) {
    const auto tokenizer = Tokenizer::Load(FixturePath(folder));
    const ChatTemplate chat = TemplateOf(key);
    const auto count = [&](const std::string& content) {
      const std::vector<Message> messages = {{"system", content}, {"user", content}};
      const std::vector<int32_t> ids = chat.Encode(*tokenizer, messages);
      EXPECT_NE(tokenizer->Decode(ids).find(content), std::string::npos);
      return std::count(ids.begin(), ids.end(), *tokenizer->AddedTokenId(mark));
    };
    EXPECT_EQ(count(std::string("a ") + mark + " b"), count("plain")) << folder;
  }
}

class ChatContent : public testing::Test {
 protected:
  // How many control tokens a template makes of a content that spells one.
  int64_t CountMarks(const std::string& source, const std::string& content = "<｜User｜>") const {
    const std::vector<Message> messages = {{"user", content, {{"name", content}, {content, 1}}}};
    ChatOptions options;
    options.tools = OrderedJson::array({{{"name", content}}});
    options.variables = {{"extra", content}};
    const std::vector<int32_t> ids =
        ChatTemplate::FromText(source, "test", kTokens).Encode(*tokenizer_, messages, options);
    return std::count(ids.begin(), ids.end(), *tokenizer_->AddedTokenId("<｜User｜>"));
  }

  std::unique_ptr<Tokenizer> tokenizer_ = Tokenizer::Load(FixturePath("deepseek-v3"));
};

TEST_F(ChatContent, StaysTextThroughEveryOperation) {
  for (const char* expression : {"c",
                                 "c ~ ''",
                                 "'' + c",
                                 "c * 2",
                                 "c[0:]",
                                 "c[::1]",
                                 "c|trim",
                                 "c.strip()",
                                 "c|upper|lower|replace('u', 'U')",
                                 "c|replace('x', '')",
                                 "c.split('｜')|join('｜')",
                                 "c|list|join",
                                 "[c]|join",
                                 "c|string",
                                 "c|safe",
                                 "'%s' % c",
                                 "'{}'.format(c)",
                                 "c|tojson",
                                 "messages|tojson",
                                 "tools|tojson",
                                 "messages|string",
                                 "c|indent",
                                 "c|truncate(300)",
                                 "c|center(40)",
                                 "messages[0].name",
                                 "(messages[0]|list)[3]",
                                 "extra",
                                 "dict(a=c).a",
                                 "namespace(a=c).a",
                                 "c|reverse|reverse",
                                 "c|map('string')|join",
                                 "c|first ~ c[1:]",
                                 "c|default('')",
                                 "c.title()|lower ~ c",
                                 "'<｜' ~ c[2:]",
                                 "c[:-1] ~ '>'",
                                 "'<｜' ~ c[2:-2] ~ '｜>'",
                                 "c.partition('U')|join",
                                 "c.zfill(20)",
                                 "c.splitlines()|join",
                                 "c|format",
                                 "c.removeprefix('')",
                                 "c.replace('', '')"}) {
    EXPECT_EQ(CountMarks(fmt::format("{{% set c = messages[0].content %}}{{{{ {} }}}}", expression)), 0) << expression;
  }
  EXPECT_EQ(CountMarks("{% for x in messages[0].content %}{{ x }}{% endfor %}"), 0);
  EXPECT_EQ(CountMarks("{% macro m(x) %}{{ x }}{% endmacro %}{{ m(messages[0].content) }}"), 0);
  EXPECT_EQ(CountMarks("{% set x %}<｜{{ messages[0].content[2:] }}{% endset %}{{ x }}"), 0);
  EXPECT_EQ(CountMarks("{% filter trim %}{{ messages[0].content }}{% endfilter %}"), 0);
  EXPECT_EQ(CountMarks("<｜User{{ messages[0].content }}｜>", ""), 0 + 1);
  EXPECT_EQ(CountMarks("<｜User{{ messages[0].content }}", "｜>"), 0);
  EXPECT_EQ(CountMarks("{{ messages[0].content }}User｜>", "<｜"), 0);
}

TEST_F(ChatContent, LeavesTheTemplatesTokensAlone) {
  for (const char* expression :
       {"'<｜User｜>'", "'<｜' ~ 'User' ~ '｜>'", "'<｜' + messages[0].role|title + '｜>'", "'<｜%s｜>' % 'User'",
        "['<｜User', '｜>']|join", "c ~ '<｜User｜>'", "'<｜User｜>' ~ c", "('<｜User｜>' + c)|trim",
        "'<｜{}｜>'.format('User')", "('x' + c + '<｜User｜>').split('x')[1]", "{'a': '<｜User｜>'}.a"}) {
    EXPECT_EQ(CountMarks(fmt::format("{{% set c = messages[0].content %}}{{{{ {} }}}}", expression)), 1) << expression;
  }
}

TEST(Chat, RolesThatAreNotUsualAreContent) {
  const auto tokenizer = Tokenizer::Load(FixturePath("kimi-k2"));
  const ChatTemplate chat = ChatTemplate::FromText("{% for m in messages %}<|im_{{ m.role }}|>{% endfor %}", "test");
  const auto first = [&](const char* role) { return chat.Encode(*tokenizer, {{{role, "x"}}}).front(); };
  EXPECT_EQ(first("user"), *tokenizer->AddedTokenId("<|im_user|>"));
  EXPECT_NE(first("end"), *tokenizer->AddedTokenId("<|im_end|>"));
}

TEST(Chat, BrokenUtf8IsReplaced) {
  const auto tokenizer = Tokenizer::Load(FixturePath("deepseek-v2"));
  const ChatTemplate chat = ChatTemplate::Load(FixturePath("deepseek-v2"));
  const std::vector<Message> messages = {{"user", "a\xe4\xbd", {{"name", "b\xff"}}}};
  const std::string text = tokenizer->Decode(chat.Encode(*tokenizer, messages));
  EXPECT_EQ(ReplaceInvalidUtf8(text), text);
}

TEST(Chat, RefusesMessagesAndOptions) {
  const ChatTemplate chat = ChatTemplate::FromText("x", "test");
  const std::vector<Message> user = {{"user", "x"}};
  ExpectError(ErrorCode::kChatTemplate, "at least one message", [&] { chat.Render({}); });
  const std::vector<Message> odd = {{"user", "x", OrderedJson::array()}};
  ExpectError(ErrorCode::kChatTemplate, "array", [&] { chat.Render(odd); });
  ChatOptions options;
  options.tools = OrderedJson::object();
  ExpectError(ErrorCode::kChatTemplate, "tools", [&] { chat.Render(user, options); });
  options.tools.reset();
  options.variables = "x";
  ExpectError(ErrorCode::kChatTemplate, "variables", [&] { chat.Render(user, options); });
  options.variables = {{"messages", 1}};
  ExpectError(ErrorCode::kChatTemplate, "messages", [&] { chat.Render(user, options); });
}

TEST(Chat, ReadsMessagesOfJson) {
  const Message message = MessageFromJson({{"role", "assistant"}, {"content", "x"}, {"tool_calls", {1}}}, "m");
  EXPECT_EQ(message.role, "assistant");
  EXPECT_EQ(message.content, "x");
  EXPECT_EQ(message.fields, OrderedJson({{"tool_calls", {1}}}));
  EXPECT_FALSE(MessageFromJson({{"role", "user"}}, "m").has_content);
  EXPECT_TRUE(MessageFromJson({{"role", "user"}, {"content", nullptr}}, "m").fields.contains("content"));
  ExpectError(ErrorCode::kData, "role", [] { MessageFromJson({{"content", "x"}}, "m"); });
  ExpectError(ErrorCode::kData, "object", [] { MessageFromJson("x", "m"); });
}

TEST(Chat, ErrorsNameTheLine) {
  const std::vector<Message> user = {{"user", "x"}};
  ExpectError(ErrorCode::kChatTemplate, "test, line 2", [] { ChatTemplate::FromText("a\n{{ }}", "test"); });
  const auto fails = [&](const char* source, const char* part) {
    const ChatTemplate chat = ChatTemplate::FromText(source, "test");
    ExpectError(ErrorCode::kChatTemplate, part, [&] { chat.Render(user); });
  };
  fails("a\nb {{ x.y }}", "test, line 2: expected a template that can be carried out, found 'x' is undefined");
  fails("\n\n{{ raise_exception('No ' ~ messages[0].role) }}",
        "test, line 3: expected a conversation that the template takes, found No user");
}

class ChatFolder : public testing::Test {
 protected:
  void ExpectRefused(const std::string& part) const {
    ExpectError(ErrorCode::kChatTemplate, part, [&] { ChatTemplate::Load(folder_.path()); });
  }
  std::string Rendered(bool has_tools = false) const {
    ChatOptions options;
    if (has_tools) options.tools = OrderedJson::array();
    return ChatTemplate::Load(folder_.path()).Render({{{"user", "x"}}}, options);
  }

  ScratchFolder folder_;
};

TEST_F(ChatFolder, WithoutATemplate) {
  ExpectRefused("a chat template in");
  folder_.Write("tokenizer_config.json", "{}");
  ExpectRefused("a chat template in");
  folder_.Write("tokenizer_config.json", R"({"chat_template": null})");
  ExpectRefused("a chat template in");
}

TEST_F(ChatFolder, WithMalformedFiles) {
  for (const char* text :
       {"", "{", "[]", R"({"chat_template": 3})", R"({"chat_template": []})",
        R"({"chat_template": [{"name": "tool_use", "template": "x"}]})",
        R"({"chat_template": [1, {"name": "default", "template": 2}]})",
        R"({"chat_template": [{"name": "default", "template": 2}]})", R"({"chat_template": "{% if %}"})"}) {
    folder_.Write("tokenizer_config.json", text);
    ExpectRefused("tokenizer_config.json");
  }
}

TEST_F(ChatFolder, ListOfTemplates) {
  folder_.Write("tokenizer_config.json", R"({"chat_template": [{"name": "default", "template": "d"},
      {"name": "rag", "template": "r"}, {"name": "tool_use", "template": "t"}]})");
  EXPECT_EQ(Rendered(), "d");
  EXPECT_EQ(Rendered(true), "t");
}

TEST_F(ChatFolder, FilesInTheirOrder) {
  folder_.Write("tokenizer_config.json", R"({"chat_template": "config{{ bos_token }}", "bos_token": "<s>"})");
  EXPECT_EQ(Rendered(), "config<s>");
  folder_.Write("chat_template.json", R"({"chat_template": "json"})");
  EXPECT_EQ(Rendered(), "json");
  folder_.Write("chat_template.jinja", "jinja{{ bos_token }}{{ eos_token }}\n");
  EXPECT_EQ(Rendered(), "jinja<s>");
}

TEST_F(ChatFolder, TokensOfTheTokenizerAreTheTemplatesOwn) {
  folder_.Write("special_tokens_map.json", R"({"eos_token": {"content": "<｜end▁of▁sentence｜>"}, "bos_token": "x"})");
  folder_.Write("tokenizer_config.json", R"({"chat_template": "{{ eos_token }}", "bos_token": null})");
  const auto tokenizer = Tokenizer::Load(FixturePath("deepseek-v3"));
  const std::vector<int32_t> ids = ChatTemplate::Load(folder_.path()).Encode(*tokenizer, {{{"user", "x"}}});
  EXPECT_EQ(ids, std::vector<int32_t>{*tokenizer->AddedTokenId("<｜end▁of▁sentence｜>")});
}

}  // namespace
}  // namespace mxmla
