#include "text/stream_decoder.h"

#include "text/utf8.h"

namespace mxmla {

std::string StreamDecoder::Push(int32_t id) {
  std::string bytes = tokenizer_.TokenBytes(id);
  if (skip_special_tokens_ && tokenizer_.IsSpecial(id)) return {};
  if (is_first_) bytes = tokenizer_.WithoutLeadingSpace(std::move(bytes));
  is_first_ = false;
  pending_ += bytes;
  std::string text;
  pending_.erase(0, AppendReplacingInvalid(pending_, false, &text));
  return text;
}

std::string StreamDecoder::Flush() {
  std::string text;
  AppendReplacingInvalid(pending_, true, &text);
  pending_.clear();
  is_first_ = true;
  return text;
}

}  // namespace mxmla
