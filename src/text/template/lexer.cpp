#include "text/template/lexer.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "text/template/unicode.h"
#include "text/utf8.h"

namespace mxmla::jinja {
namespace {

std::string WithPlainNewlines(std::string_view source) {
  std::string text;
  text.reserve(source.size());
  for (size_t at = 0; at < source.size(); ++at) {
    if (source[at] != '\r') {
      text += source[at];
      continue;
    }
    text += '\n';
    if (at + 1 < source.size() && source[at + 1] == '\n') ++at;
  }
  if (text.ends_with('\n')) text.pop_back();
  return text;
}

bool IsSpaceAt(std::string_view text, size_t at) { return IsPythonSpace(CodePointAt(text, at).value); }

size_t SkipSpace(std::string_view text, size_t at) {
  while (at < text.size() && IsSpaceAt(text, at)) at += CodePointAt(text, at).length;
  return at;
}

size_t EndWithoutSpace(std::string_view text) {
  size_t end = text.size();
  while (end > 0) {
    const size_t previous = PreviousOffset(text, end);
    if (!IsSpaceAt(text, previous)) break;
    end = previous;
  }
  return end;
}

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

int HexValue(char c) {
  if (IsDigit(c)) return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// What a string literal says; `text` is what stands between the quotes.
std::string Unescape(std::string_view text, int line) {
  std::string out;
  const auto append = [&](uint32_t code) {
    // A half of a surrogate pair is no character.
    AppendCodePoint(code >= 0xd800 && code < 0xe000 ? char32_t{0xfffd} : static_cast<char32_t>(code), &out);
  };
  for (size_t at = 0; at < text.size();) {
    if (text[at] != '\\') {
      out += text[at++];
      continue;
    }
    const char c = text[at + 1];  // a literal does not end with an escape
    at += 2;
    const size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    if (digits > 0) {
      uint32_t code = 0;
      for (size_t i = 0; i < digits; ++i) {
        const int value = at + i < text.size() ? HexValue(text[at + i]) : -1;
        if (value < 0) throw SyntaxFault(fmt::format("\\{} without its {} digits in a string", c, digits), line);
        code = code << 4 | static_cast<uint32_t>(value);
      }
      if (code > 0x10ffff) throw SyntaxFault("an escape beyond the last character in a string", line);
      append(code);
      at += digits;
      continue;
    }
    if (c >= '0' && c <= '7') {
      auto code = static_cast<uint32_t>(c - '0');
      for (int i = 0; i < 2 && at < text.size() && text[at] >= '0' && text[at] <= '7'; ++i) {
        code = code * 8 + static_cast<uint32_t>(text[at++] - '0');
      }
      append(code);
      continue;
    }
    constexpr std::string_view kNames = "\n\\'\"abfnrtv";
    constexpr std::string_view kMeanings = "\n\\'\"\a\b\f\n\r\t\v";
    if (c == '\n') continue;
    if (c == 'N') throw SyntaxFault("a \\N escape in a string, which mxmla does not know", line);
    if (const size_t known = kNames.find(c); known != std::string_view::npos) {
      out += kMeanings[known];
    } else if (static_cast<unsigned char>(c) < 0x80) {
      out += '\\';
      out += c;
    } else {
      // Python spells the character as an escape before it looks at the backslash, which then escapes another one.
      const CodePoint point = CodePointAt(text, at - 1);
      const auto code = static_cast<uint32_t>(point.value);
      out += code < 0x100     ? fmt::format("\\x{:02x}", code)
             : code < 0x10000 ? fmt::format("\\u{:04x}", code)
                              : fmt::format("\\U{:08x}", code);
      at += point.length - 1;
    }
  }
  return out;
}

class Lexer {
 public:
  explicit Lexer(std::string_view source) : text_(WithPlainNewlines(source)) {}

  std::vector<Token> Run() {
    while (at_ < text_.size()) Root();
    Push(Token::Kind::kEnd, "");
    return std::move(tokens_);
  }

 private:
  enum class Tag { kNone, kRaw, kComment, kBlock, kVariable };

  bool StartsWith(std::string_view part) const { return std::string_view(text_).substr(at_).starts_with(part); }

  void Push(Token::Kind kind, std::string_view text) { tokens_.push_back({kind, line_, std::string(text)}); }

  // Moves on to `end` and counts the lines on the way.
  void MoveTo(size_t end) {
    line_ += static_cast<int>(
        std::count(text_.begin() + static_cast<ptrdiff_t>(at_), text_.begin() + static_cast<ptrdiff_t>(end), '\n'));
    if (end > at_) is_line_start_ = text_[end - 1] == '\n';
    at_ = end;
  }

  // The end of a {% raw %} tag's beginning at `at`, 0 where there is none.
  size_t RawBegin(size_t at) const {
    const std::string_view text = text_;
    size_t end = at + 2;
    if (end < text.size() && (text[end] == '-' || text[end] == '+')) ++end;
    end = SkipSpace(text, end);
    if (!text.substr(end).starts_with("raw")) return 0;
    end = SkipSpace(text, end + 3);
    if (text.substr(end).starts_with("-%}")) return SkipSpace(text, end + 3);
    return text.substr(end).starts_with("%}") ? end + 2 : 0;
  }

  Tag FindTag(size_t* begin, size_t* raw_end) const {
    const std::string_view text = text_;
    for (size_t at = text.find('{', at_); at != std::string_view::npos; at = text.find('{', at + 1)) {
      if (at + 1 == text.size()) break;
      *begin = at;
      switch (text[at + 1]) {
        case '%':
          *raw_end = RawBegin(at);
          return *raw_end > 0 ? Tag::kRaw : Tag::kBlock;
        case '#':
          return Tag::kComment;
        case '{':
          return Tag::kVariable;
        default:
          break;
      }
    }
    return Tag::kNone;
  }

  // Text up to a tag, without the white space that the tag takes away.
  void PushData(std::string_view data, char sign, bool is_variable) {
    size_t end = data.size();
    if (sign == '-') {
      end = EndWithoutSpace(data);
    } else if (sign != '+' && !is_variable) {
      const size_t newline = data.rfind('\n');
      const size_t begin = newline == std::string_view::npos ? 0 : newline + 1;
      if ((begin > 0 || is_line_start_) && SkipSpace(data, begin) == data.size()) end = begin;
    }
    if (end > 0) Push(Token::Kind::kData, data.substr(0, end));
  }

  char SignAt(size_t at) const { return at < text_.size() && (text_[at] == '-' || text_[at] == '+') ? text_[at] : 0; }

  void Root() {
    size_t begin = 0;
    size_t raw_end = 0;
    const Tag tag = FindTag(&begin, &raw_end);
    const std::string_view text = text_;
    if (tag == Tag::kNone) {
      Push(Token::Kind::kData, text.substr(at_));
      MoveTo(text.size());
      return;
    }
    const char sign = SignAt(begin + 2);
    PushData(text.substr(at_, begin - at_), sign, tag == Tag::kVariable);
    MoveTo(begin);
    switch (tag) {
      case Tag::kRaw:
        MoveTo(raw_end);
        Raw();
        break;
      case Tag::kComment:
        MoveTo(begin + 2 + (sign != 0));
        Comment();
        break;
      case Tag::kBlock:
        Push(Token::Kind::kBlockBegin, "");
        MoveTo(begin + 2 + (sign != 0));
        Inside(Token::Kind::kBlockEnd, "%}");
        break;
      default:
        Push(Token::Kind::kVariableBegin, "");
        MoveTo(begin + 2 + (sign != 0));
        Inside(Token::Kind::kVariableEnd, "}}");
        break;
    }
  }

  // The end of a block's or a comment's closing at `at`, 0 where `closing` is not there.
  size_t ClosingEnd(size_t at, std::string_view closing) const {
    const std::string_view rest = std::string_view(text_).substr(std::min(at, text_.size()));
    if (rest.starts_with('+') && rest.substr(1).starts_with(closing)) return at + 1 + closing.size();
    if (rest.starts_with('-') && rest.substr(1).starts_with(closing)) return SkipSpace(text_, at + 1 + closing.size());
    if (!rest.starts_with(closing)) return 0;
    const size_t end = at + closing.size();
    return end < text_.size() && text_[end] == '\n' ? end + 1 : end;
  }

  void Comment() {
    const int line = line_;
    for (size_t at = at_; at < text_.size(); ++at) {
      if (const size_t end = ClosingEnd(at, "#}"); end > 0) {
        MoveTo(end);
        return;
      }
    }
    throw SyntaxFault("a comment without its end", line);
  }

  void Raw() {
    const std::string_view text = text_;
    for (size_t at = text.find("{%", at_); at != std::string_view::npos; at = text.find("{%", at + 1)) {
      const char sign = SignAt(at + 2);
      size_t end = SkipSpace(text, at + 2 + (sign != 0));
      if (!text.substr(end).starts_with("endraw")) continue;
      end = ClosingEnd(SkipSpace(text, end + 6), "%}");
      if (end == 0) continue;
      PushData(text.substr(at_, at - at_), sign, false);
      MoveTo(end);
      return;
    }
    throw SyntaxFault("raw without its endraw", line_);
  }

  // Up to the end of a tag.
  void Inside(Token::Kind end_kind, std::string_view closing) {
    std::string brackets;
    while (true) {
      if (brackets.empty()) {
        size_t end = 0;
        if (end_kind == Token::Kind::kBlockEnd) {
          end = ClosingEnd(at_, closing);
        } else if (StartsWith(closing)) {
          end = at_ + closing.size();
        } else if (StartsWith("-" + std::string(closing))) {
          end = SkipSpace(text_, at_ + 1 + closing.size());
        }
        if (end > 0) {
          Push(end_kind, "");
          MoveTo(end);
          return;
        }
      }
      if (at_ == text_.size()) {
        // jinja2 leaves it to the parser to miss the end.
        Push(Token::Kind::kEnd, "");
        return;
      }
      if (IsSpaceAt(text_, at_)) {
        MoveTo(SkipSpace(text_, at_));
      } else if (!Number() && !Name() && !String()) {
        Operator(&brackets);
      }
    }
  }

  // Digits with single underscores between them, behind `at`; `at` where there is none.
  size_t DigitsEnd(size_t at) const {
    size_t end = at;
    while (end < text_.size()) {
      if (IsDigit(text_[end])) {
        ++end;
      } else if (text_[end] == '_' && end > at && end + 1 < text_.size() && IsDigit(text_[end + 1])) {
        ++end;
      } else {
        break;
      }
    }
    return end;
  }

  size_t ExponentEnd(size_t at) const {
    if (at >= text_.size() || (text_[at] != 'e' && text_[at] != 'E')) return 0;
    size_t begin = at + 1;
    if (begin < text_.size() && (text_[begin] == '+' || text_[begin] == '-')) ++begin;
    const size_t end = DigitsEnd(begin);
    return end > begin ? end : 0;
  }

  bool Number() {
    if (!IsDigit(text_[at_])) return false;
    const size_t whole = DigitsEnd(at_);
    size_t end = 0;
    const bool is_attribute = at_ > 0 && text_[at_ - 1] == '.';
    if (!is_attribute && whole < text_.size()) {
      if (text_[whole] == '.') {
        const size_t fraction = DigitsEnd(whole + 1);
        if (fraction > whole + 1) {
          const size_t exponent = ExponentEnd(fraction);
          end = exponent > 0 ? exponent : fraction;
        }
      } else {
        end = ExponentEnd(whole);
      }
    }
    if (end > 0) {
      const std::string digits = WithoutUnderscores(at_, end);
      double value = 0;
      const auto [stop, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
      if (error == std::errc::result_out_of_range) {
        throw SyntaxFault(fmt::format("the number {}, which is out of range", digits), line_);
      }
      tokens_.push_back({Token::Kind::kFloat, line_, {}, Value::Float(value)});
      MoveTo(end);
      return true;
    }
    Integer(whole);
    return true;
  }

  std::string WithoutUnderscores(size_t begin, size_t end) const {
    std::string digits = text_.substr(begin, end - begin);
    std::erase(digits, '_');
    return digits;
  }

  void Integer(size_t whole) {
    int base = 10;
    size_t begin = at_;
    size_t end = whole;
    if (text_[at_] == '0' && at_ + 1 < text_.size()) {
      const char kind = static_cast<char>(text_[at_ + 1] | 0x20);
      const int other = kind == 'x' ? 16 : kind == 'o' ? 8 : kind == 'b' ? 2 : 10;
      size_t digits = at_ + 2;
      while (other != 10 && digits < text_.size()) {
        const size_t place = digits + (text_[digits] == '_' && digits + 1 < text_.size());
        const int value = HexValue(text_[place]);
        if (value < 0 || value >= other) break;
        digits = place + 1;
      }
      if (other != 10 && digits > at_ + 2) {
        base = other;
        begin = at_ + 2;
        end = digits;
      }
    }
    if (base == 10 && text_[at_] == '0') {
      // Python has no numbers with leading zeros: a zero ends where another digit begins.
      end = at_;
      while (end < whole && (text_[end] == '0' || (text_[end] == '_' && text_[end + 1] == '0'))) ++end;
    }
    Int value = 0;
    for (char c : WithoutUnderscores(begin, end)) {
      value = value * base + HexValue(c);
      if (value > (Int{1} << 100)) throw SyntaxFault("a number beyond 100 bits", line_);
    }
    tokens_.push_back({Token::Kind::kInteger, line_, {}, Value::Integer(value)});
    MoveTo(end);
  }

  bool Name() {
    size_t end = at_;
    while (end < text_.size()) {
      const auto byte = static_cast<unsigned char>(text_[end]);
      const bool is_ascii_word = IsDigit(text_[end]) || byte == '_' || ((byte | 0x20) >= 'a' && (byte | 0x20) <= 'z');
      if (byte < 0x80 ? !is_ascii_word : !Has(Property::kWord, text_, end)) break;
      end += CodePointAt(text_, end).length;
    }
    if (end == at_) return false;
    Push(Token::Kind::kName, std::string_view(text_).substr(at_, end - at_));
    MoveTo(end);
    return true;
  }

  bool String() {
    const char quote = text_[at_];
    if (quote != '\'' && quote != '"') return false;
    size_t end = at_ + 1;
    while (end < text_.size() && text_[end] != quote) end += text_[end] == '\\' ? 2 : 1;
    if (end >= text_.size()) throw SyntaxFault("a string without its end", line_);
    Push(Token::Kind::kString, Unescape(std::string_view(text_).substr(at_ + 1, end - at_ - 1), line_));
    MoveTo(end + 1);
    return true;
  }

  void Operator(std::string* brackets) {
    static constexpr std::string_view kOperators[] = {"//", "**", "==", "!=", ">=", "<=", "+", "-", "/",
                                                      "*",  "%",  "~",  "[",  "]",  "(",  ")", "{", "}",
                                                      ">",  "<",  "=",  ".",  ":",  "|",  ",", ";"};
    for (std::string_view symbol : kOperators) {
      if (!StartsWith(symbol)) continue;
      const char c = symbol[0];
      if (c == '(' || c == '[' || c == '{') {
        brackets->push_back(c == '(' ? ')' : c == '[' ? ']' : '}');
      } else if (c == ')' || c == ']' || c == '}') {
        if (brackets->empty()) throw SyntaxFault(fmt::format("'{}' that closes nothing", c), line_);
        if (brackets->back() != c) {
          throw SyntaxFault(fmt::format("'{}' where '{}' has to close", c, brackets->back()), line_);
        }
        brackets->pop_back();
      }
      Push(Token::Kind::kOperator, symbol);
      MoveTo(at_ + symbol.size());
      return;
    }
    const CodePoint c = CodePointAt(text_, at_);
    throw SyntaxFault(fmt::format("the character '{}'", text_.substr(at_, c.length)), line_);
  }

  std::string text_;
  size_t at_ = 0;
  int line_ = 1;
  bool is_line_start_ = true;
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> Tokenize(std::string_view source) { return Lexer(source).Run(); }

std::string Describe(const Token& token) {
  switch (token.kind) {
    case Token::Kind::kData:
      return "text";
    case Token::Kind::kVariableBegin:
      return "{{";
    case Token::Kind::kVariableEnd:
      return "}}";
    case Token::Kind::kBlockBegin:
      return "{%";
    case Token::Kind::kBlockEnd:
      return "%}";
    case Token::Kind::kString:
      return "a string";
    case Token::Kind::kInteger:
    case Token::Kind::kFloat:
      return "a number";
    case Token::Kind::kName:
    case Token::Kind::kOperator:
      return token.text;
    case Token::Kind::kEnd:
      return "the template's end";
  }
  return {};
}

}  // namespace mxmla::jinja
