// Tokens of an answer as text whose markers are known from text that looks like them.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "text/output/marked_text.h"
#include "text/stream_decoder.h"

namespace mxmla {

class OutputDecoder {
 public:
  // The bytes of `marker_tokens` come out marked, whether they are special or not; everything else is StreamDecoder's
  // text. The text ends before the first stop string. `tokenizer` outlives this. Refused: see StopMatcher.
  OutputDecoder(const Tokenizer& tokenizer, std::vector<int32_t> marker_tokens, std::vector<std::string> stop_strings,
                bool skip_special_tokens);

  // What is certain with this token: whole characters.
  MarkedText Push(int32_t id);
  MarkedText Flush();
  std::optional<size_t> stopped_by() const { return matcher_.found(); }

 private:
  MarkedText Certain(const std::string& bytes);

  const Tokenizer& tokenizer_;
  const std::vector<int32_t> marker_tokens_;
  StreamDecoder decoder_;
  StopMatcher matcher_;
  MarkedText held_;  // what the matcher holds, with its marks
};

}  // namespace mxmla
