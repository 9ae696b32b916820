// Text out of tokens as they come.
#pragma once

#include <cstdint>
#include <string>

#include "text/tokenizer.h"

namespace mxmla {

// What Push and Flush return, joined, is the tokens' bytes decoded as one, each invalid sequence as U+FFFD; every
// part is valid UTF-8 by itself.
class StreamDecoder {
 public:
  // `tokenizer` outlives the decoder.
  explicit StreamDecoder(const Tokenizer& tokenizer, bool skip_special_tokens = false)
      : tokenizer_(tokenizer), skip_special_tokens_(skip_special_tokens) {}

  // The text that is certain with this token; a character whose bytes are not all there waits. Throws kTokenRange
  // for a negative id.
  std::string Push(int32_t id);

  // What was waiting, as no token will complete it; the decoder is then as new.
  std::string Flush();

 private:
  const Tokenizer& tokenizer_;
  bool skip_special_tokens_;
  std::string pending_;
};

}  // namespace mxmla
