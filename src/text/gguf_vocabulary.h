// What a GGUF file says of its tokenizer and its chat template.
#pragma once

#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "core/gguf.h"

namespace mxmla {

// The file's byte-level BPE ("gpt2") as the tokenizers library would write it to tokenizer.json. Throws kTokenizer for
// another model, an unknown pre-tokenizer (naming it), or lists that do not fit each other.
nlohmann::json GgufAsTokenizerJson(const GgufHeader& header, const std::string& subject);

// What the file says in the spelling of tokenizer_config.json: bos_token, eos_token, pad_token, unk_token,
// add_bos_token, add_eos_token, and chat_template as one text or a list of named ones.
nlohmann::json GgufAsTokenizerConfig(const GgufHeader& header, const std::string& subject);

// Whether its tokenizer cuts a text like Kimi's (TokenizerParts).
bool IsKimiVocabulary(const GgufHeader& header);

}  // namespace mxmla
