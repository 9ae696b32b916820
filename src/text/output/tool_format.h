// How models write the calls of tools, one format a file.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "text/output/call_reader.h"

namespace mxmla {

// The tools that a request offers: by name, what JSON schema their arguments have (an object, or null).
using ToolSchemas = std::map<std::string, nlohmann::ordered_json>;

struct ToolFormat {
  std::string name;
  // Around the calls, and around one call. An empty marker is never written; a call ends at the next marker, or where
  // `ends_with_answer`, at the end of the answer as well.
  MarkedText section_begin, section_end;
  MarkedText call_begin, call_end;
  bool ends_with_answer = false;
  std::vector<int32_t> marker_tokens;  // all that the format is made of
  // Reads what stands between call_begin and its end; `schemas` outlive the reader.
  std::function<std::unique_ptr<CallReader>(const ToolSchemas& schemas)> read;
};

// <｜tool▁call▁begin｜>function<｜tool▁sep｜>NAME\n```json\nARGUMENTS\n```<｜tool▁call▁end｜>: DeepSeek-V3 and R1.
ToolFormat DeepSeekV3Tools(const Tokenizer& tokenizer);
// <｜tool▁call▁begin｜>NAME<｜tool▁sep｜>ARGUMENTS<｜tool▁call▁end｜>: DeepSeek-V3.1.
ToolFormat DeepSeekV31Tools(const Tokenizer& tokenizer);
// <｜DSML｜invoke name="NAME"> with a <｜DSML｜parameter name="KEY" string="true|false"> each: DeepSeek-V3.2.
ToolFormat DeepSeekV32Tools(const Tokenizer& tokenizer);
// <|tool_call_begin|>functions.NAME:INDEX<|tool_call_argument_begin|>ARGUMENTS<|tool_call_end|>: Kimi-K2 and K2.5. The
// call's id is functions.NAME:INDEX.
ToolFormat KimiK2Tools(const Tokenizer& tokenizer);
// <tool_call>NAME<arg_key>KEY</arg_key><arg_value>VALUE</arg_value>...</tool_call>: GLM-4.5 to 5. A value is text
// or JSON, as its schema says; without a schema, JSON where it can be read so.
ToolFormat Glm47Tools(const Tokenizer& tokenizer);
// [TOOL_CALLS]NAME[ARGS]ARGUMENTS, with [CALL_ID]ID in some, or [TOOL_CALLS] and a JSON list in the older: Mistral.
ToolFormat MistralTools(const Tokenizer& tokenizer);

// A format of these markers, by their spelling; an empty one is never written.
ToolFormat MarkedFormat(const char* name, const Tokenizer& tokenizer, const char* section_begin,
                        const char* section_end, const char* call_begin, const char* call_end);

// The arguments as a JSON object, bounded as core/json_file.h says; white space around it is dropped and nothing at all
// is {}.
std::optional<std::string> JsonArguments(MarkedView text);
// A name that a tool could have: 1 to 256 bytes without white space or quotes.
bool IsToolName(std::string_view name);
std::string JsonQuoted(const std::string& text);
// Any JSON value, bounded likewise.
bool IsJsonValue(const std::string& text);

}  // namespace mxmla
