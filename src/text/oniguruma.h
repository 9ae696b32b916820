// Oniguruma's regular expressions (Ruby syntax, which the tokenizers library compiles) said in PCRE2's syntax.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "text/regex.h"

namespace mxmla {

// The PCRE2 pattern that matches what `pattern` matches under Oniguruma, to be compiled with UTF, UCP and MULTILINE.
// `subject` names the pattern in errors. Throws kTokenizer for what it does not carry over: back-references, named
// groups, comments, verbs, \G \K \R \X \N, POSIX brackets, quantified intervals ({n}+, {n}?), inline options other
// than (?i:...) and a leading (?i), \W and negated classes inside a class.
std::string TranslateOniguruma(std::string_view pattern, std::string_view subject);

// The "pattern" of a step of a tokenizer.json: {"String": text} or {"Regex": expression}.
Regex PatternField(const nlohmann::json& step, const std::string& subject);

}  // namespace mxmla
