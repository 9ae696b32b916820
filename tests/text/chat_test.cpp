#include "text/chat.h"

#include "fixture.h"
#include "text/utf8.h"

namespace mxmla {
namespace {

class ChatGolden : public testing::TestWithParam<const char*> {};

TEST_P(ChatGolden, IsWhatTheTemplateRenders) {
  const nlohmann::json templates = ReadFixture("templates.json");
  const auto tokenizer = Tokenizer::Load(FixturePath(GetParam()));
  const nlohmann::json chats = ReadFixture(std::string(GetParam()) + "/chat.json");
  for (const auto& [name, cases] : chats.items()) {
    const ChatFormat format = RecognizeChatTemplate(templates[name].get<std::string>(), name);
    for (const nlohmann::json& c : cases) {
      std::vector<Message> messages;
      for (const nlohmann::json& m : c["messages"]) messages.push_back({m["role"], m["content"]});
      const std::vector<int32_t> ids = FormatChat(*tokenizer, format, messages, c["prompt"].get<bool>());
      EXPECT_EQ(tokenizer->Decode(ids), c["text"].get<std::string>()) << name;
      if (!c["ids"].is_null()) {
        EXPECT_EQ(ids, c["ids"].get<std::vector<int32_t>>()) << name << c["messages"];
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Models, ChatGolden, testing::Values("deepseek-v2", "deepseek-v3", "kimi-k2"));

TEST(Chat, NamesTheFormats) {
  const nlohmann::json templates = ReadFixture("templates.json");
  const auto name = [&](const char* key) {
    return std::string(ChatFormatName(RecognizeChatTemplate(templates[key].get<std::string>(), key)));
  };
  EXPECT_EQ(name("deepseek-v2"), "DeepSeek-V2");
  EXPECT_EQ(name("deepseek-v2.5"), "DeepSeek-V2.5");
  EXPECT_EQ(name("deepseek-v3"), "DeepSeek-V3");
  EXPECT_EQ(name("deepseek-v3-0324"), "DeepSeek-V3");
  EXPECT_EQ(name("deepseek-r1"), "DeepSeek-R1");
  EXPECT_EQ(name("deepseek-r1-first"), "DeepSeek-R1");
  EXPECT_EQ(name("deepseek-v3.1"), "DeepSeek-V3.1");
  EXPECT_EQ(name("kimi-k2"), "Kimi-K2");
  EXPECT_EQ(name("kimi-k2-thinking"), "Kimi-K2-Thinking");
}

TEST(Chat, ThinkingOfV31IsTheCallersChoice) {
  const auto tokenizer = Tokenizer::Load(FixturePath("deepseek-v3"));
  const nlohmann::json templates = ReadFixture("templates.json");
  ChatFormat format = RecognizeChatTemplate(templates["deepseek-v3.1"].get<std::string>(), "test");
  const std::vector<Message> messages = {{"user", "x"}};
  EXPECT_EQ(FormatChat(*tokenizer, format, messages, true).back(), *tokenizer->AddedTokenId("</think>"));
  format.thinks = true;
  EXPECT_EQ(FormatChat(*tokenizer, format, messages, true).back(), *tokenizer->AddedTokenId("<think>"));
}

TEST(Chat, ContentsCannotInjectTokens) {
  const nlohmann::json templates = ReadFixture("templates.json");
  for (const auto& [folder, mark, key] : {std::tuple("deepseek-v2", "<｜end▁of▁sentence｜>", "deepseek-v2"),
                                          {"deepseek-v3", "<｜Assistant｜>", "deepseek-v3"},
                                          {"deepseek-v3", "<｜end▁of▁sentence｜>", "deepseek-v3.1"},
                                          {"kimi-k2", "<|im_end|>", "kimi-k2"}}) {
    const auto tokenizer = Tokenizer::Load(FixturePath(folder));
    const ChatFormat format = RecognizeChatTemplate(templates[key].get<std::string>(), key);
    const auto count = [&](const std::string& content) {
      const std::vector<Message> messages = {{"system", content}, {"user", content}};
      const std::vector<int32_t> ids = FormatChat(*tokenizer, format, messages, true);
      EXPECT_NE(tokenizer->Decode(ids).find(content), std::string::npos);
      return std::count(ids.begin(), ids.end(), *tokenizer->AddedTokenId(mark));
    };
    EXPECT_EQ(count(std::string("a ") + mark + " b"), count("plain")) << folder;
  }
}

TEST(Chat, BrokenUtf8IsReplaced) {
  const auto tokenizer = Tokenizer::Load(FixturePath("deepseek-v2"));
  const ChatFormat format = DetectChatFormat(FixturePath("deepseek-v2"));
  const std::vector<Message> messages = {{"user", "a\xe4\xbd"}};
  const std::string text = tokenizer->Decode(FormatChat(*tokenizer, format, messages, true));
  EXPECT_EQ(ReplaceInvalidUtf8(text), text);
}

TEST(Chat, RefusesMessages) {
  const auto tokenizer = Tokenizer::Load(FixturePath("kimi-k2"));
  const ChatFormat format = DetectChatFormat(FixturePath("kimi-k2"));
  ExpectError(ErrorCode::kChatTemplate, "at least one message", [&] { FormatChat(*tokenizer, format, {}, true); });
  const std::vector<Message> tool = {{"tool", "x"}};
  ExpectError(ErrorCode::kChatTemplate, "tool", [&] { FormatChat(*tokenizer, format, tool, true); });
  const std::vector<Message> user = {{"user", "x"}};
  const auto other = Tokenizer::Load(FixturePath("deepseek-v3"));
  ExpectError(ErrorCode::kChatTemplate, "<|im_system|>", [&] { FormatChat(*other, format, user, true); });
}

class ChatFolder : public testing::Test {
 protected:
  void ExpectRefused(const std::string& part) const {
    ExpectError(ErrorCode::kChatTemplate, part, [&] { DetectChatFormat(folder_.path()); });
  }

  ScratchFolder folder_;
};

TEST_F(ChatFolder, WithoutATemplate) {
  ExpectRefused("no such file");
  folder_.Write("tokenizer_config.json", "{}");
  ExpectRefused("no template");
  folder_.Write("tokenizer_config.json", R"({"chat_template": null})");
  ExpectRefused("Kimi-K2");
}

TEST_F(ChatFolder, WithMalformedFiles) {
  for (const char* text : {"", "{", "[]", R"({"chat_template": 3})", R"({"chat_template": []})",
                           R"({"chat_template": [{"name": "tool_use", "template": "x"}]})",
                           R"({"chat_template": [1, {"name": "default", "template": 2}]})"}) {
    folder_.Write("tokenizer_config.json", text);
    ExpectRefused("tokenizer_config.json");
  }
}

TEST_F(ChatFolder, WithAnUnknownTemplate) {
  folder_.Write("tokenizer_config.json", R"({"chat_template": "{{ messages }}<|im_start|>"})");
  ExpectRefused("another one");
}

TEST_F(ChatFolder, ListOfTemplates) {
  const nlohmann::json entry = {{"name", "default"}, {"template", ReadFixture("templates.json")["kimi-k2"]}};
  folder_.Write("tokenizer_config.json", nlohmann::json{{"chat_template", nlohmann::json::array({entry})}}.dump());
  EXPECT_EQ(DetectChatFormat(folder_.path()).default_system, "You are a helpful assistant");
}

TEST_F(ChatFolder, JinjaFileGoesFirst) {
  folder_.Write("tokenizer_config.json", R"({"chat_template": "unknown"})");
  folder_.Write("chat_template.jinja", ReadFixture("templates.json")["kimi-k2-0905"].get<std::string>());
  const ChatFormat format = DetectChatFormat(folder_.path());
  EXPECT_EQ(format.default_system, "You are Kimi, an AI assistant created by Moonshot AI.");
  EXPECT_TRUE(format.closes_last_only_for_prompt);
}

// A known template with one telling part changed is no longer known.
TEST(Chat, RefusesVariationsOfKnownTemplates) {
  const nlohmann::json templates = ReadFixture("templates.json");
  const auto refused = [&](const char* key, const std::string& from, const std::string& to) {
    auto text = templates[key].get<std::string>();
    const size_t at = text.rfind(from);
    ASSERT_NE(at, std::string::npos) << key << from;
    text.replace(at, from.size(), to);
    ExpectError(ErrorCode::kChatTemplate, key, [&] { RecognizeChatTemplate(text, key); });
  };
  refused("deepseek-v2", "'Assistant:'", "'Bot:'");
  refused("deepseek-v2", "eos_token", "'</s>'");
  refused("deepseek-v3", "'<｜Assistant｜>'}}{% endif %}", "'<｜Assistant｜><think>'}}{% endif %}");
  refused("deepseek-v3", "'<｜User｜>' + ", "'<｜User｜> ' + ");
  refused("deepseek-v3", "+ message['content'] + '<｜end▁of▁sentence｜>'", "+ message['content']");
  refused("deepseek-v3", "{{ bos_token }}", "");
  refused("deepseek-v3.1", "{{'<think>'}}", "{{'<thought>'}}");
  refused("deepseek-r1", "[-1]", "[-2]");
  refused("deepseek-v3-0324", "and not ns.is_last_user", "");
  refused("kimi-k2", "assistant<|im_middle|>", "assistant<|im_middle|><think>");
}

}  // namespace
}  // namespace mxmla
