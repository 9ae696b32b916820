// DeepSeek-V3.2's published encoding against the template that stands for it (tools/golden/deepseek_v32_fixture.py).
#include "text/deepseek_v32.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <vector>

#include "core/error.h"
#include "fixture.h"
#include "text/chat.h"

namespace mxmla {
namespace {

// A folder with only a config.json.
class Folder {
 public:
  explicit Folder(const std::string& config)
      : path_(std::filesystem::temp_directory_path() /
              ("mxmla-v32-" + std::to_string(std::hash<std::string>()(config)))) {
    std::filesystem::create_directories(path_);
    std::ofstream(path_ / "config.json") << config;
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

OrderedJson ReadFixture() {
  std::ifstream file(FixturePath("deepseek-v32.json"));
  return OrderedJson::parse(file);
}

TEST(DeepseekV32, WritesWhatThePublishedCodeWrites) {
  const Folder folder(R"({"architectures": ["DeepseekV32ForCausalLM"], "model_type": "deepseek_v32"})");
  const ChatTemplate chat = ChatTemplate::Load(folder.path());
  EXPECT_TRUE(chat.ReadsThinking());
  const OrderedJson fixture = ReadFixture();
  const auto offer = fixture["offer"].get<std::string>();
  int refused = 0, rendered = 0;
  for (const OrderedJson& c : fixture["cases"]) {
    std::vector<Message> messages;
    for (const OrderedJson& message : c[1]) messages.push_back(MessageFromJson(message, "message"));
    ChatOptions options;
    if (!c[2].is_null()) options.tools = c[2];
    for (const bool thinking : {false, true}) {
      SCOPED_TRACE(testing::Message() << c[0] << " thinking " << thinking);
      options.thinking = thinking;
      const OrderedJson& text = c[thinking ? 4 : 3];
      if (text.is_null()) {
        ++refused;
        ExpectError(ErrorCode::kChatTemplate, "the built-in encoding of DeepSeek-V3.2, line ",
                    [&] { chat.Render(messages, options); });
        continue;
      }
      ++rendered;
      auto expected = text.get<std::string>();
      for (size_t at = 0; (at = expected.find("@OFFER@", at)) != std::string::npos; at += offer.size()) {
        expected.replace(at, 7, offer);
      }
      EXPECT_EQ(chat.Render(messages, options), expected);
    }
  }
  EXPECT_GT(refused, 10);
  EXPECT_GT(rendered, 50);
}

TEST(DeepseekV32, IsForThatModelAlone) {
  const Folder other(R"({"model_type": "deepseek_v3"})");
  ExpectError(ErrorCode::kChatTemplate, "a chat template in", [&] { ChatTemplate::Load(other.path()); });
  const Folder by_type(R"({"model_type": "deepseek_v32"})");
  EXPECT_TRUE(IsDeepseekV32(by_type.path()));
  // A folder's own template goes before it.
  const Folder both(R"({"model_type": "deepseek_v32", "x": 1})");
  std::ofstream(both.path() / "chat_template.jinja") << "mine";
  const std::vector<Message> messages = {{"user", "x"}};
  EXPECT_EQ(ChatTemplate::Load(both.path()).Render(messages), "mine");
}

TEST(DeepseekV32, TakesPartsOfTextAndLeavesTheAnswerToBegin) {
  const Folder folder(R"({"model_type": "deepseek_v32", "y": 1})");
  const ChatTemplate chat = ChatTemplate::Load(folder.path());
  const auto message = [](const char* json) { return MessageFromJson(OrderedJson::parse(json), "message"); };
  std::vector<Message> messages = {
      message(R"({"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]})")};
  EXPECT_EQ(chat.Render(messages), "<｜begin▁of▁sentence｜><｜User｜>ab<｜Assistant｜></think>");
  ChatOptions options;
  options.add_generation_prompt = false;
  EXPECT_EQ(chat.Render(messages, options), "<｜begin▁of▁sentence｜><｜User｜>ab");
  messages[0] = message(R"({"role": "user", "content": [{"type": "image_url"}]})");
  ExpectError(ErrorCode::kChatTemplate, "Only text is understood", [&] { chat.Render(messages); });
}

}  // namespace
}  // namespace mxmla
