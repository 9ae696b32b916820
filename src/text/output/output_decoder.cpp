#include "text/output/output_decoder.h"

#include <algorithm>
#include <utility>

namespace mxmla {

OutputDecoder::OutputDecoder(const Tokenizer& tokenizer, std::vector<int32_t> marker_tokens,
                             std::vector<std::string> stop_strings, bool skip_special_tokens)
    : tokenizer_(tokenizer),
      marker_tokens_(std::move(marker_tokens)),
      decoder_(tokenizer, skip_special_tokens),
      matcher_(std::move(stop_strings)) {}

// The matcher gives back what it was given, in order, up to a stop string.
MarkedText OutputDecoder::Certain(const std::string& bytes) {
  MarkedText certain = held_.substr(0, bytes.size());
  held_.erase(0, bytes.size());
  return certain;
}

MarkedText OutputDecoder::Push(int32_t id) {
  MarkedText text;
  if (std::find(marker_tokens_.begin(), marker_tokens_.end(), id) != marker_tokens_.end()) {
    text = Plain(decoder_.Flush()) + Marked(tokenizer_.TokenBytes(id));
  } else {
    text = Plain(decoder_.Push(id));
  }
  held_ += text;
  return Certain(matcher_.Push(BytesOf(text)));
}

MarkedText OutputDecoder::Flush() {
  const MarkedText rest = Plain(decoder_.Flush());
  held_ += rest;
  MarkedText certain = Certain(matcher_.Push(BytesOf(rest)));
  return certain + Certain(matcher_.Flush());
}

}  // namespace mxmla
