// What jinja2, set up as transformers does it, makes of templates (tools/golden/chat_fixtures.py).
#include <gtest/gtest.h>

#include <fstream>
#include <string>
#include <vector>

#include "core/error.h"
#include "fixture.h"
#include "text/chat.h"

namespace mxmla {
namespace {

class ChatRendering : public testing::Test {
 protected:
  ChatRendering() {
    std::ifstream file(FixturePath("chat_renderings.json"));
    fixture_ = OrderedJson::parse(file);
  }

  ChatTemplate Parse(const OrderedJson& source, const std::string& name) const {
    return ChatTemplate::FromText(source.get<std::string>(), name, fixture_["tokens"]);
  }

  OrderedJson fixture_;
};

TEST_F(ChatRendering, OfConversations) {
  for (const OrderedJson& c : fixture_["cases"]) {
    const std::string name = c[0].get<std::string>();
    const OrderedJson& conversation = fixture_["conversations"][c[1].get<size_t>()];
    SCOPED_TRACE(name + ": " + conversation[0].get<std::string>());
    std::vector<Message> messages;
    for (const OrderedJson& message : conversation[1]) messages.push_back(MessageFromJson(message, "message"));
    ChatOptions options;
    if (!conversation[2].is_null()) options.tools = conversation[2];
    options.add_generation_prompt = c[2].get<bool>();
    options.variables = c[3];
    const ChatTemplate chat = Parse(fixture_["templates"][name], name);
    if (c[4].is_null()) {
      ExpectError(ErrorCode::kChatTemplate, name + ", line ", [&] { chat.Render(messages, options); });
    } else {
      EXPECT_EQ(chat.Render(messages, options), c[4].get<std::string>());
    }
  }
}

TEST_F(ChatRendering, OfSmallTemplates) {
  const std::vector<Message> messages = {{"user", "Hi <b>\n"}, {"assistant", "Hö"}};
  ChatOptions options;
  options.variables = fixture_["variables"];
  const OrderedJson tokens = {{"bos_token", "<s>"}};
  for (const OrderedJson& c : fixture_["small"]) {
    const ChatTemplate chat = ChatTemplate::FromText(c[0].get<std::string>(), "small", tokens);
    EXPECT_EQ(chat.Render(messages, options), c[1].get<std::string>()) << c[0];
  }
}

TEST_F(ChatRendering, OfCorners) {
  const std::vector<Message> messages = {{"user", "x"}};
  for (const OrderedJson& c : fixture_["corners"]) {
    SCOPED_TRACE(c[0]);
    const auto render = [&] { return ChatTemplate::FromText(c[0].get<std::string>(), "corner").Render(messages); };
    if (c[1].is_null()) {
      ExpectError(ErrorCode::kChatTemplate, "corner, line 1", render);
    } else {
      EXPECT_EQ(render(), c[1].get<std::string>());
    }
  }
}

// Each would take for ever, or more memory or stack than there is.
TEST(ChatLimits, EndWhatWouldNot) {
  const std::vector<Message> messages = {{"user", "x"}};
  const std::string deep(100000, '(');
  for (const std::string& source :
       {std::string("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"),
        std::string("{{ 'x' * 1000000000000 }}"), std::string("{{ [1] * 100000000000 }}"),
        std::string("{% set ns = namespace(x='x') %}{% for a in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}"),
        std::string("{% set ns = namespace(x=[]) %}{% for a in range(9999) %}{% set ns.x = [ns.x] %}{% endfor %}"),
        std::string("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}"), std::string("{{ 2 ** 2 ** 9999999 }}"),
        std::string("{{ '%999999999d' % 1 }}"), std::string("{{ ('a' * 1000000)|replace('', 'b' * 1000000) }}"),
        std::string("{% set ns = namespace() %}{% set ns.x = ns %}{{ ns }}")}) {
    const ChatTemplate chat = ChatTemplate::FromText(source, "limits");
    ExpectError(ErrorCode::kChatTemplate, "limits, line 1", [&] { chat.Render(messages); });
  }
  for (const std::string& source :
       {"{{ " + deep, "{{ " + std::string(100000, '['), "{{ " + std::string(100000, '-') + "1 }}", [] {
          std::string blocks;
          for (int i = 0; i < 10000; ++i) blocks += "{% if x %}";
          return blocks;
        }()}) {
    ExpectError(ErrorCode::kChatTemplate, "nested too deep", [&] { ChatTemplate::FromText(source, "limits"); });
  }
}

}  // namespace
}  // namespace mxmla
