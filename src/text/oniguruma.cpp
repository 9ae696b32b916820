#include "text/oniguruma.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>
#include <vector>

#include "core/error.h"
#include "text/json_fields.h"
#include "text/utf8.h"

namespace mxmla {
namespace {

// Members of a class. PCRE2's own \s adds U+180E and its \w lacks marks, so both are spelled out.
constexpr std::string_view kSpaceItems =
    R"(\x{09}-\x{0d}\x{20}\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000})";
constexpr std::string_view kNotSpaceItems =
    R"(\x{00}-\x{08}\x{0e}-\x{1f}\x{21}-\x{84}\x{86}-\x{9f}\x{a1}-\x{167f}\x{1681}-\x{1fff}\x{200b}-\x{2027})"
    R"(\x{202a}-\x{202e}\x{2030}-\x{205e}\x{2060}-\x{2fff}\x{3001}-\x{10ffff})";
constexpr std::string_view kWordItems = R"(\p{Alphabetic}\p{M}\p{Nd}\p{Pc})";

// The general categories by group; they partition the code points, which lets a class of them be complemented.
constexpr std::array<std::string_view, 30> kCategories = {"Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me", "Nd", "Nl",
                                                          "No", "Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po", "Sm", "Sc",
                                                          "Sk", "So", "Zs", "Zl", "Zp", "Cc", "Cf", "Cs", "Co", "Cn"};

bool IsCategory(std::string_view name) {
  if (name.size() == 1) return std::string_view("LMNPSZC").find(name[0]) != std::string_view::npos;
  return std::find(kCategories.begin(), kCategories.end(), name) != kCategories.end();
}

constexpr int kDeepest = 64;

// One class in brackets: its members and whether they are excluded.
struct ClassText {
  bool is_negated = false;
  std::string items;
  std::vector<std::string> categories;  // set where the members are general categories only
  bool is_only_categories = true;
};

std::string Bracketed(const ClassText& c) { return (c.is_negated ? "[^" : "[") + c.items + "]"; }

class Translator {
 public:
  Translator(std::string_view pattern, std::string_view subject) : pattern_(pattern), subject_(subject) {}

  std::string Run() {
    // A search for trailing white space tries every start of a run; only the run's first can succeed first, and
    // saying so keeps a long run linear. \G lets a search begin inside a run.
    if (pattern_ == R"(\s+$)") return fmt::format("(?:(?<![{0}])|\\G)[{0}]+$", kSpaceItems);
    while (at_ < pattern_.size()) Element();
    return std::move(out_);
  }

 private:
  [[noreturn]] void Refuse(std::string_view what) const {
    Fail(ErrorCode::kTokenizer, subject_, "a regular expression that mxmla can carry over to PCRE2",
         fmt::format("{} at byte {} of \"{}\"", what, at_, pattern_));
  }

  bool StartsWith(std::string_view text) const { return pattern_.substr(at_).starts_with(text); }

  void Element() {
    const char c = pattern_[at_];
    if (c == '\\') {
      Escape();
    } else if (c == '[') {
      ++at_;
      out_ += Class(0);
    } else if (c == '(') {
      Group();
    } else if (c == '{') {
      Interval();
    } else {
      out_ += c;
      ++at_;
    }
  }

  void Group() {
    if (StartsWith("(*")) Refuse("\"(*\"");
    if (!StartsWith("(?")) {
      out_ += '(';
      ++at_;
      return;
    }
    if (at_ == 0 && StartsWith("(?i)")) {
      out_ += "(?i)";
      at_ += 4;
      return;
    }
    for (std::string_view opening : {"(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>", "(?i:", "(?-i:"}) {
      if (StartsWith(opening)) {
        out_ += opening;
        at_ += opening.size();
        return;
      }
    }
    Refuse("a group that is not one of (?: (?= (?! (?<= (?<! (?> (?i:");
  }

  // {n}, {n,}, {n,m} and Ruby's {,m}; any other brace is a literal in both syntaxes.
  void Interval() {
    size_t end = at_ + 1;
    const auto digits = [&] {
      const size_t from = end;
      while (end < pattern_.size() && pattern_[end] >= '0' && pattern_[end] <= '9') ++end;
      return pattern_.substr(from, end - from);
    };
    const std::string_view low = digits();
    std::optional<std::string_view> high;
    if (end < pattern_.size() && pattern_[end] == ',') {
      ++end;
      high = digits();
    }
    const bool is_interval =
        end < pattern_.size() && pattern_[end] == '}' && (!low.empty() || (high && !high->empty()));
    if (!is_interval) {
      out_ += "\\{";
      ++at_;
      return;
    }
    ++end;
    const bool is_followed = end < pattern_.size() && (pattern_[end] == '+' || pattern_[end] == '?');
    if (is_followed && (pattern_[end] == '+' || !high)) Refuse("a quantifier behind an interval");
    out_ += fmt::format("{{{}", low.empty() ? "0" : low);
    if (high) out_ += fmt::format(",{}", *high);
    out_ += '}';
    at_ = end;
  }

  void Escape() {
    if (at_ + 1 >= pattern_.size()) Refuse("a backslash at the end");
    const char c = pattern_[at_ + 1];
    switch (c) {
      case 'b':
        out_ += fmt::format("(?:(?<=[{0}])(?![{0}])|(?<![{0}])(?=[{0}]))", kWordItems);
        at_ += 2;
        return;
      case 'B':
        out_ += fmt::format("(?:(?<=[{0}])(?=[{0}])|(?<![{0}])(?![{0}]))", kWordItems);
        at_ += 2;
        return;
      case 'A':
      case 'z':
      case 'Z':
        out_ += {'\\', c};
        at_ += 2;
        return;
      case 'S':
        out_ += fmt::format("[^{}]", kSpaceItems);
        at_ += 2;
        return;
      case 'W':
        out_ += fmt::format("[^{}]", kWordItems);
        at_ += 2;
        return;
      default:
        break;
    }
    ClassText members;
    if (ClassEscape(&members)) {
      out_ += "[" + members.items + "]";
      return;
    }
    AppendLiteral(LiteralEscape(), &out_);
  }

  static void AppendLiteral(char32_t c, std::string* out) {
    *out += fmt::format("\\x{{{:x}}}", static_cast<uint32_t>(c));
  }

  // \s \S \w \d \D \h \H \p{...} \P{...}: consumes it and adds its members to `c`; false where it is another escape.
  bool ClassEscape(ClassText* c) {
    const auto add = [&](std::string_view items) {
      c->items += items;
      c->is_only_categories = false;
      at_ += 2;
      return true;
    };
    switch (pattern_[at_ + 1]) {
      case 's':
        return add(kSpaceItems);
      case 'S':
        return add(kNotSpaceItems);
      case 'w':
        return add(kWordItems);
      case 'W':
        Refuse("\\W inside a class");
      case 'd':
        return add("\\p{Nd}");
      case 'D':
        return add("\\P{Nd}");
      case 'h':
        return add("0-9a-fA-F");
      case 'H':
        return add(R"(\x{00}-\x{2f}\x{3a}-\x{40}\x{47}-\x{60}\x{67}-\x{10ffff})");
      case 'p':
      case 'P':
        Property(c);
        return true;
      default:
        return false;
    }
  }

  void Property(ClassText* c) {
    bool is_negated = pattern_[at_ + 1] == 'P';
    const size_t close = pattern_.find('}', at_);
    if (at_ + 2 >= pattern_.size() || pattern_[at_ + 2] != '{' || close == std::string_view::npos) {
      Refuse("a property without braces");
    }
    std::string_view name = pattern_.substr(at_ + 3, close - at_ - 3);
    if (name.starts_with('^')) {
      is_negated = !is_negated;
      name.remove_prefix(1);
    }
    const bool is_name = !name.empty() && std::all_of(name.begin(), name.end(), [](char x) {
      return (x >= 'a' && x <= 'z') || (x >= 'A' && x <= 'Z') || x == '_';
    });
    if (!is_name) Refuse("a property whose name mxmla does not know");
    static constexpr std::array<std::array<std::string_view, 2>, 13> kNames = {{{"Letter", "L"},
                                                                                {"Mark", "M"},
                                                                                {"Number", "N"},
                                                                                {"Punctuation", "P"},
                                                                                {"Symbol", "S"},
                                                                                {"Separator", "Z"},
                                                                                {"Other", "C"},
                                                                                {"Alphabetic", "Alphabetic"},
                                                                                {"Alpha", "Alphabetic"},
                                                                                {"Uppercase", "Uppercase"},
                                                                                {"Lowercase", "Lowercase"},
                                                                                {"White_Space", "White_Space"},
                                                                                {"Any", "Any"}}};
    std::string said;
    if (IsCategory(name)) {
      said = name;
    } else {
      for (const auto& [from, to] : kNames) {
        if (from == name) said = to;
      }
      // A bare script name means Script_Extensions to PCRE2 and Script to Oniguruma.
      if (said.empty()) said = fmt::format("sc:{}", name);
    }
    c->items += fmt::format("\\{}{{{}}}", is_negated ? 'P' : 'p', said);
    if (!is_negated && IsCategory(said)) {
      c->categories.push_back(said);
    } else {
      c->is_only_categories = false;
    }
    at_ = close + 1;
  }

  // The character that an escape stands for; consumes the escape.
  char32_t LiteralEscape() {
    const CodePoint c = CodePointAt(pattern_, at_ + 1);
    switch (c.value) {
      case 'n':
        at_ += 2;
        return '\n';
      case 'r':
        at_ += 2;
        return '\r';
      case 't':
        at_ += 2;
        return '\t';
      case 'f':
        at_ += 2;
        return '\f';
      case 'v':
        at_ += 2;
        return '\v';
      case 'a':
        at_ += 2;
        return '\a';
      case 'e':
        at_ += 2;
        return 0x1b;
      case 'x':
      case 'u':
        return HexEscape(c.value == 'u');
      default:
        break;
    }
    const bool is_alphanumeric =
        (c.value >= '0' && c.value <= '9') || (c.value >= 'a' && c.value <= 'z') || (c.value >= 'A' && c.value <= 'Z');
    if (is_alphanumeric) Refuse(fmt::format("\\{}", static_cast<char>(c.value)));
    at_ += 1 + c.length;
    return c.value;
  }

  char32_t HexEscape(bool is_unicode) {
    size_t from = at_ + 2;
    size_t count = is_unicode ? 4 : 2;
    size_t after = from + count;
    if (!is_unicode && from < pattern_.size() && pattern_[from] == '{') {
      const size_t close = pattern_.find('}', from);
      if (close == std::string_view::npos) Refuse("\\x{ without }");
      ++from;
      count = close - from;
      after = close + 1;
    }
    if (count < 1 || count > 8 || from + count > pattern_.size()) Refuse("a malformed hexadecimal escape");
    char32_t value = 0;
    for (char d : pattern_.substr(from, count)) {
      const char32_t digit = d >= '0' && d <= '9'   ? d - '0'
                             : d >= 'a' && d <= 'f' ? d - 'a' + 10
                             : d >= 'A' && d <= 'F' ? d - 'A' + 10
                                                    : 16;
      if (digit == 16) Refuse("a malformed hexadecimal escape");
      value = value * 16 + digit;
    }
    const bool is_byte = !is_unicode && count == 2 && after == from + count && value >= 0x80;
    if (is_byte) Refuse("a byte of a character");
    if (value > 0x10ffff || (value >= 0xd800 && value <= 0xdfff)) Refuse("an escape that is not a character");
    at_ = after;
    return value;
  }

  // A class behind its opening bracket; consumes the closing one. Intersections become a look-ahead and a class,
  // save "categories && [^...]", which is one class again: a repeated group would need stack for every character.
  std::string Class(int depth) {
    if (depth > kDeepest) Refuse("a class nested too deeply");
    bool is_negated = false;
    if (at_ < pattern_.size() && pattern_[at_] == '^') {
      is_negated = true;
      ++at_;
    }
    std::vector<ClassText> operands(1);
    std::vector<int> nested(1, 0);  // 1: the operand is one bracketed class; 2: it has other members
    bool is_first = true;
    while (true) {
      if (at_ >= pattern_.size()) Refuse("a class without its closing bracket");
      const char c = pattern_[at_];
      if (c == ']') {
        if (is_first) Refuse("an empty class");
        ++at_;
        break;
      }
      if (StartsWith("&&")) {
        at_ += 2;
        operands.emplace_back();
        nested.push_back(0);
        continue;
      }
      if (c == '[') {
        if (StartsWith("[:")) Refuse("a POSIX bracket");
        ++at_;
        const ClassText inner = SimpleClass();
        ClassText& operand = operands.back();
        if (nested.back() == 0) {
          operand = inner;
          nested.back() = 1;
        } else {
          if (inner.is_negated || operand.is_negated) Refuse("a negated class inside a class");
          Merge(inner, &operand);
          nested.back() = 2;
        }
      } else {
        ClassText& operand = operands.back();
        if (operand.is_negated) Refuse("a negated class inside a class");
        Member(&operand);
        nested.back() = 2;
      }
      is_first = false;
    }
    for (const ClassText& operand : operands) {
      if (operand.items.empty()) Refuse("an empty operand of &&");
    }
    if (operands.size() == 1) {
      operands[0].is_negated = operands[0].is_negated != is_negated;
      return Bracketed(operands[0]);
    }
    if (operands.size() == 2 && !is_negated && !operands[0].is_negated && operands[0].is_only_categories &&
        operands[1].is_negated) {
      return fmt::format("[^{}{}]", OtherCategories(operands[0].categories), operands[1].items);
    }
    std::string all;
    for (size_t i = 0; i + 1 < operands.size(); ++i) all += "(?=" + Bracketed(operands[i]) + ")";
    all += Bracketed(operands.back());
    return is_negated ? fmt::format("(?:(?!{})\\p{{Any}})", all) : fmt::format("(?:{})", all);
  }

  // A class inside a class, which may not nest further.
  ClassText SimpleClass() {
    ClassText c;
    if (at_ < pattern_.size() && pattern_[at_] == '^') {
      c.is_negated = true;
      ++at_;
    }
    while (true) {
      if (at_ >= pattern_.size()) Refuse("a class without its closing bracket");
      if (pattern_[at_] == ']') break;
      if (pattern_[at_] == '[' || StartsWith("&&")) Refuse("a class nested twice");
      Member(&c);
    }
    if (c.items.empty()) Refuse("an empty class");
    ++at_;
    return c;
  }

  static void Merge(const ClassText& from, ClassText* to) {
    to->items += from.items;
    to->categories.insert(to->categories.end(), from.categories.begin(), from.categories.end());
    to->is_only_categories = to->is_only_categories && from.is_only_categories;
  }

  static std::string OtherCategories(const std::vector<std::string>& categories) {
    std::string others;
    for (std::string_view category : kCategories) {
      const bool is_in = std::any_of(categories.begin(), categories.end(),
                                     [&](const std::string& c) { return category.starts_with(c); });
      if (!is_in) others += fmt::format("\\p{{{}}}", category);
    }
    return others;
  }

  // One member: a class escape, a character or a range of characters.
  void Member(ClassText* c) {
    if (pattern_[at_] == '\\') {
      if (at_ + 1 >= pattern_.size()) Refuse("a backslash at the end");
      if (ClassEscape(c)) {
        if (StartsWith("-") && !StartsWith("-]")) Refuse("a range that begins with a class");
        return;
      }
    }
    c->is_only_categories = false;
    const char32_t low = Character();
    AppendLiteral(low, &c->items);
    if (!StartsWith("-") || StartsWith("-]") || StartsWith("-&&") || StartsWith("-[")) return;
    ++at_;
    if (at_ >= pattern_.size()) Refuse("a class without its closing bracket");
    if (StartsWith("\\s") || StartsWith("\\S") || StartsWith("\\w") || StartsWith("\\d") || StartsWith("\\D") ||
        StartsWith("\\h") || StartsWith("\\p") || StartsWith("\\P")) {
      Refuse("a range that ends with a class");
    }
    const char32_t high = Character();
    if (high < low) Refuse("a range whose end is before its beginning");
    c->items += '-';
    AppendLiteral(high, &c->items);
  }

  char32_t Character() {
    if (pattern_[at_] == '\\') {
      if (at_ + 1 >= pattern_.size()) Refuse("a backslash at the end");
      if (pattern_[at_ + 1] == 'b') {
        at_ += 2;
        return '\b';
      }
      return LiteralEscape();
    }
    const CodePoint c = CodePointAt(pattern_, at_);
    at_ += c.length;
    return c.value;
  }

  std::string_view pattern_;
  std::string_view subject_;
  size_t at_ = 0;
  std::string out_;
};

}  // namespace

std::string TranslateOniguruma(std::string_view pattern, std::string_view subject) {
  return Translator(pattern, subject).Run();
}

Regex PatternField(const nlohmann::json& step, const std::string& subject) {
  const nlohmann::json& pattern = Field(step, "pattern", subject);
  if (!pattern.is_object()) Fail(ErrorCode::kTokenizer, subject, "a pattern object", pattern.type_name());
  if (!HasField(pattern, "String")) {
    return Regex(TranslateOniguruma(StringField(pattern, "Regex", subject), subject), subject);
  }
  const std::string text = StringField(pattern, "String", subject);
  if (text.empty()) Fail(ErrorCode::kTokenizer, subject, "a pattern that is not empty", "an empty one");
  return Regex::Literal(text, subject);
}

}  // namespace mxmla
