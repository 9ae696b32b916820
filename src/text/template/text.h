// Text that knows which part of it is the template's own and which came in from outside.
//
// A chat template mixes two kinds of text: what it spells out itself (among it the model's control tokens), and what it
// takes from messages, tools and variables. A message that spells out "<|im_end|>" must not end a turn, so the two are
// kept apart all the way to the tokenizer: each text carries the byte ranges that are content, and every operation
// hands them on to what it makes. A byte counts as content where it came from content; a byte that an operation makes
// out of content (an escape, a changed case) is content too, and what a template makes out of numbers or its own text
// is not. Rounding is to content throughout: where an operation cannot tell, the result is content. So no operation
// turns content into text of the template, and added tokens are looked for in the template's stretches only.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "text/regex.h"

namespace mxmla::jinja {

class Text {
 public:
  Text() = default;
  // Of valid UTF-8.
  static Text Literal(std::string_view bytes) { return Text(bytes, false); }
  static Text Content(std::string_view bytes) { return Text(bytes, true); }
  Text(std::string_view bytes, bool is_content) { Append(bytes, is_content); }

  const std::string& bytes() const { return bytes_; }
  size_t size() const { return bytes_.size(); }
  bool empty() const { return bytes_.empty(); }

  // The byte ranges that are content: in order, apart from each other, none empty.
  const std::vector<Span>& content() const { return content_; }
  bool has_content() const { return !content_.empty(); }
  bool IsContentAt(size_t offset) const;

  // What jinja2's `safe` and `escape` make: joined with other text it escapes that.
  bool is_markup() const { return is_markup_; }
  void set_is_markup(bool is_markup) { is_markup_ = is_markup; }

  void Append(std::string_view bytes, bool is_content);
  void Append(const Text& other) { Append(other, 0, other.size()); }
  // The bytes from `begin` to `end` of another text.
  void Append(const Text& other, size_t begin, size_t end);

  Text Substring(size_t begin, size_t end) const;

 private:
  void AddContent(size_t begin, size_t end);

  std::string bytes_;
  std::vector<Span> content_;
  bool is_markup_ = false;
};

// Characters of valid UTF-8.
size_t CountCharacters(std::string_view text);

// The byte offset of each character, and of the end.
std::vector<size_t> CharacterOffsets(std::string_view text);

}  // namespace mxmla::jinja
