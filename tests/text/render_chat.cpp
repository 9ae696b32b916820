// Renders chat templates for tools/golden/chat_differences.py: a JSON object a line of standard input, with
// "template", "messages", "tools" (or null), "add_generation_prompt", "variables" and "tokens"; a JSON object a line of
// standard output, {"text": ...} or {"error": ...}.
#include <iostream>

#include "core/error.h"
#include "text/chat.h"

namespace mxmla {
namespace {

OrderedJson RenderOne(const OrderedJson& request) {
  try {
    const ChatTemplate chat =
        ChatTemplate::FromText(request["template"].get<std::string>(), "template", request["tokens"]);
    std::vector<Message> messages;
    for (const OrderedJson& message : request["messages"]) messages.push_back(MessageFromJson(message, "message"));
    ChatOptions options;
    options.add_generation_prompt = request["add_generation_prompt"].get<bool>();
    if (!request["tools"].is_null()) options.tools = request["tools"];
    options.variables = request["variables"];
    return {{"text", chat.Render(messages, options)}};
  } catch (const Error& error) {
    return {{"error", error.what()}};
  }
}

}  // namespace
}  // namespace mxmla

int main() {
  for (std::string line; std::getline(std::cin, line);) {
    std::cout << mxmla::RenderOne(mxmla::OrderedJson::parse(line)).dump() << std::endl;
  }
}
