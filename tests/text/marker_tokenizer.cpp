#include "marker_tokenizer.h"

#include "fixture.h"
#include "text/byte_level.h"
#include "text/utf8.h"

namespace mxmla {

const std::vector<std::string>& MarkerTokenNames() {
  static const std::vector<std::string> names = {
      "<think>",
      "</think>",
      "[THINK]",
      "[/THINK]",
      "<｜tool▁calls▁begin｜>",
      "<｜tool▁calls▁end｜>",
      "<｜tool▁call▁begin｜>",
      "<｜tool▁call▁end｜>",
      "<｜tool▁sep｜>",
      "｜DSML｜",
      "<|tool_calls_section_begin|>",
      "<|tool_calls_section_end|>",
      "<|tool_call_begin|>",
      "<|tool_call_argument_begin|>",
      "<|tool_call_end|>",
      "<tool_call>",
      "</tool_call>",
      "<arg_key>",
      "</arg_key>",
      "<arg_value>",
      "</arg_value>",
      "[TOOL_CALLS]",
      "[CALL_ID]",
      "[ARGS]",
      "<|end|>",
  };
  return names;
}

std::unique_ptr<Tokenizer> MakeMarkerTokenizer(bool with_markers) {
  nlohmann::json vocabulary = nlohmann::json::object();
  for (int byte = 0; byte < 256; ++byte) vocabulary[ByteLevelCharacter(static_cast<unsigned char>(byte))] = byte;
  nlohmann::json added = nlohmann::json::array();
  int id = 256;
  for (const std::string& name : MarkerTokenNames()) {
    if (!with_markers) break;
    added.push_back({{"id", id++},
                     {"content", name},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"normalized", false},
                     {"special", name[0] == '[' || name == "<|end|>"}});
  }
  return LoadJson({{"version", "1.0"},
                   {"added_tokens", added},
                   {"normalizer", nullptr},
                   {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}}},
                   {"post_processor", nullptr},
                   {"decoder", {{"type", "ByteLevel"}}},
                   {"model", {{"type", "BPE"}, {"vocab", vocabulary}, {"merges", nlohmann::json::array()}}}});
}

}  // namespace mxmla
