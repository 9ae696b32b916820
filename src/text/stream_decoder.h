// Text out of tokens as they come.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "text/stop_matcher.h"
#include "text/tokenizer.h"

namespace mxmla {

// What Push and Flush return, joined, is what Tokenizer::Decode gives of the tokens, each invalid sequence as U+FFFD;
// every part is valid UTF-8 by itself.
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
  bool is_first_ = true;
  std::string pending_;
};

// The text of a generation: StreamDecoder's up to the first stop string.
class TextOutput {
 public:
  // `tokenizer` outlives this. Refused: see StopMatcher.
  TextOutput(const Tokenizer& tokenizer, std::vector<std::string> stop_strings, bool skip_special_tokens)
      : decoder_(tokenizer, skip_special_tokens), matcher_(std::move(stop_strings)) {}

  // The text that is certain with this token.
  std::string Push(int32_t id) { return matcher_.Push(decoder_.Push(id)); }

  // The rest, as no token will follow.
  std::string Flush() {
    const std::string unfinished = decoder_.Flush();
    return matcher_.Flush() + (matcher_.found() ? std::string() : unfinished);
  }

  // Which of the stop strings ended the text, if any.
  std::optional<size_t> stopped_by() const { return matcher_.found(); }

 private:
  StreamDecoder decoder_;
  StopMatcher matcher_;
};

}  // namespace mxmla
