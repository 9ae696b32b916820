#include <algorithm>
#include <array>

#include "grammar/grammar.h"

namespace mxmla {

ThinkingTokens ThinkingAfter(const Tokenizer& tokenizer, std::span<const int32_t> prompt) {
  // How near the prompt's end the end of thoughts has to be, so that it stands for thoughts left out: "</think>\n\n".
  constexpr std::ptrdiff_t kNearEnd = 3;
  for (const auto& [open, close] : {std::array{"<think>", "</think>"}, std::array{"[THINK]", "[/THINK]"}}) {
    const auto begin = tokenizer.AddedTokenId(open);
    const auto end = tokenizer.AddedTokenId(close);
    if (!begin || !end) continue;
    ThinkingTokens thinking{.begin = *begin, .end = *end};
    const auto last = std::find_if(prompt.rbegin(), prompt.rend(), [&](int32_t t) { return t == *begin || t == *end; });
    thinking.open = last != prompt.rend() && *last == *begin;
    thinking.may_open = !thinking.open && (last == prompt.rend() || last - prompt.rbegin() >= kNearEnd);
    return thinking;
  }
  return {};
}

}  // namespace mxmla
