// DeepSeek-V3.2's chat encoding. Its folders hold Python code in the place of a chat template; this is a template that
// writes what that code writes (encoding/encoding_dsv32.py of the published folders).
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string_view>

namespace mxmla {

// In Jinja. Reads `thinking` or `enable_thinking`, else it is the mode without thinking; `tools` stand in the first
// system message, as a message's own `tools` and `response_format` do in theirs. It refuses what the published code
// refuses. Two things are its own: content that is a list of text parts is their text, and without
// add_generation_prompt nothing that begins an answer stands behind the last message.
std::string_view DeepseekV32Template();

// Whether the folder's config.json names that model.
bool IsDeepseekV32(const std::filesystem::path& folder);

// The arguments of a message's tool calls as objects where they are JSON texts, which is how OpenAI's API has them.
void ParseToolArguments(nlohmann::ordered_json* message_fields);

}  // namespace mxmla
