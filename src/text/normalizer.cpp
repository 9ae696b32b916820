#include "text/normalizer.h"

#include <fmt/format.h>
#include <utf8proc.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>

#include "core/error.h"
#include "text/base64.h"
#include "text/charsmap.h"
#include "text/json_fields.h"
#include "text/oniguruma.h"
#include "text/utf8.h"

namespace mxmla {
namespace {

constexpr int kDeepest = 16;

// Characters with a decomposition that Unicode assigned after 12.0.
constexpr std::pair<char32_t, char32_t> kLater[] = {
    {0x32ff, 0x32ff},   {0xa7f2, 0xa7f4},   {0xab69, 0xab69},   {0x10781, 0x107ba},
    {0x11938, 0x11938}, {0x1e030, 0x1e06d}, {0x1f16c, 0x1f16c}, {0x1fbf0, 0x1fbf9},
};

bool IsLater(char32_t c) {
  return std::any_of(std::begin(kLater), std::end(kLater),
                     [c](const auto& range) { return c >= range.first && c <= range.second; });
}

bool IsAscii(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

int CombiningClass(utf8proc_int32_t c) { return utf8proc_get_property(c)->combining_class; }

// One of Unicode's normalization forms (UAX 15).
class Form : public Normalizer::Step {
 public:
  Form(bool composes, bool is_compatible) : composes_(composes), is_compatible_(is_compatible) {}

  void Apply(std::string* text) const override {
    if (IsAscii(*text)) return;
    std::vector<utf8proc_int32_t> characters;
    characters.reserve(text->size() + 1);
    const int options = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | (is_compatible_ ? UTF8PROC_COMPAT : 0);
    for (size_t at = 0; at < text->size();) {
      const CodePoint c = CodePointAt(*text, at);
      at += c.length;
      const auto value = static_cast<utf8proc_int32_t>(c.value);
      utf8proc_int32_t parts[32];
      int bound_class = 0;
      const utf8proc_ssize_t count =
          IsLater(c.value) ? 0
                           : utf8proc_decompose_char(value, parts, std::size(parts),
                                                     static_cast<utf8proc_option_t>(options), &bound_class);
      if (count <= 0 || count > static_cast<utf8proc_ssize_t>(std::size(parts))) {
        characters.push_back(value);
      } else {
        characters.insert(characters.end(), parts, parts + count);
      }
    }
    Order(&characters);
    auto length = static_cast<utf8proc_ssize_t>(characters.size());
    if (composes_) {
      // Its own decomposed form is never looked at again: composing alone keeps a character that was left.
      length = utf8proc_normalize_utf32(characters.data(), length,
                                        static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
      if (length < 0) Fail(ErrorCode::kInternal, "Unicode normalization", "a text", utf8proc_errmsg(length));
    }
    text->clear();
    for (utf8proc_ssize_t i = 0; i < length; ++i) {
      AppendCodePoint(static_cast<char32_t>(characters[static_cast<size_t>(i)]), text);
    }
  }

 private:
  // The canonical order of marks; a stable sort, because a hostile text is one long run of them.
  static void Order(std::vector<utf8proc_int32_t>* characters) {
    const auto is_starter = [](utf8proc_int32_t c) { return CombiningClass(c) == 0; };
    for (auto at = characters->begin(); at != characters->end();) {
      at = std::find_if_not(at, characters->end(), is_starter);
      const auto end = std::find_if(at, characters->end(), is_starter);
      std::stable_sort(at, end,
                       [](utf8proc_int32_t a, utf8proc_int32_t b) { return CombiningClass(a) < CombiningClass(b); });
      at = end;
    }
  }

  bool composes_, is_compatible_;
};

// Character by character, as Rust's char::to_lowercase: no rule looks at neighbours.
class Lowercase : public Normalizer::Step {
 public:
  void Apply(std::string* text) const override {
    std::string lower;
    lower.reserve(text->size());
    for (size_t at = 0; at < text->size();) {
      const CodePoint c = CodePointAt(*text, at);
      at += c.length;
      if (c.value == 0x130) {  // the one character whose lower case is two
        lower += "i\u0307";
      } else {
        AppendCodePoint(static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c.value))), &lower);
      }
    }
    *text = std::move(lower);
  }
};

class Strip : public Normalizer::Step {
 public:
  Strip(bool left, bool right) : left_(left), right_(right) {}

  void Apply(std::string* text) const override {
    size_t begin = 0, end = text->size();
    while (left_ && begin < end) {
      const CodePoint c = CodePointAt(*text, begin);
      if (!IsWhiteSpace(c.value)) break;
      begin += c.length;
    }
    while (right_ && end > begin) {
      const size_t previous = PreviousOffset(*text, end);
      if (!IsWhiteSpace(CodePointAt(*text, previous).value)) break;
      end = previous;
    }
    *text = text->substr(begin, end - begin);
  }

 private:
  bool left_, right_;
};

class Replace : public Normalizer::Step {
 public:
  Replace(Regex pattern, std::string content) : pattern_(std::move(pattern)), content_(std::move(content)) {}

  void Apply(std::string* text) const override {
    std::vector<Span> matches;
    pattern_.FindAll(*text, &matches);
    if (matches.empty()) return;
    std::string replaced;
    size_t done = 0;
    for (const Span& match : matches) {
      replaced.append(*text, done, match.begin - done).append(content_);
      done = match.end;
    }
    *text = replaced.append(*text, done);
  }

 private:
  Regex pattern_;
  std::string content_;
};

class Prepend : public Normalizer::Step {
 public:
  explicit Prepend(std::string prefix) : prefix_(std::move(prefix)) {}
  void Apply(std::string* text) const override {
    if (!text->empty()) text->insert(0, prefix_);
  }

 private:
  std::string prefix_;
};

class Precompiled : public Normalizer::Step {
 public:
  explicit Precompiled(Charsmap charsmap) : charsmap_(std::move(charsmap)) {}
  void Apply(std::string* text) const override {
    std::string mapped;
    mapped.reserve(text->size());
    charsmap_.Apply(*text, &mapped);
    *text = std::move(mapped);
  }

 private:
  Charsmap charsmap_;
};

std::shared_ptr<const Normalizer::Step> FormNamed(std::string_view name) {
  if (name == "NFC") return std::make_shared<Form>(true, false);
  if (name == "NFD") return std::make_shared<Form>(false, false);
  if (name == "NFKC") return std::make_shared<Form>(true, true);
  if (name == "NFKD") return std::make_shared<Form>(false, true);
  return nullptr;
}

}  // namespace

void Normalizer::AppendSteps(const nlohmann::json& json, const std::string& subject, int depth, Normalizer* to) {
  if (depth > kDeepest) Fail(ErrorCode::kTokenizer, subject, "a shallow Sequence", "one nested too deeply");
  const std::string type = StringField(json, "type", subject);
  if (type == "Sequence") {
    const nlohmann::json& members = Field(json, "normalizers", subject);
    if (!members.is_array()) Fail(ErrorCode::kTokenizer, subject, "an array of normalizers", members.type_name());
    for (const nlohmann::json& member : members) AppendSteps(member, subject, depth + 1, to);
  } else if (auto form = FormNamed(type)) {
    to->steps_.push_back(std::move(form));
  } else if (type == "Lowercase") {
    to->steps_.push_back(std::make_shared<Lowercase>());
  } else if (type == "Strip") {
    to->steps_.push_back(std::make_shared<Strip>(BoolField(json, "strip_left", true, subject),
                                                 BoolField(json, "strip_right", true, subject)));
  } else if (type == "Replace") {
    to->steps_.push_back(std::make_shared<Replace>(PatternField(json, subject), StringField(json, "content", subject)));
  } else if (type == "Prepend") {
    to->steps_.push_back(std::make_shared<Prepend>(StringField(json, "prepend", subject)));
  } else if (type == "Precompiled") {
    std::string bytes;
    if (!DecodeBase64(StringField(json, "precompiled_charsmap", subject), &bytes)) {
      Fail(ErrorCode::kTokenizer, subject, "a charsmap in base64", "another text");
    }
    to->steps_.push_back(std::make_shared<Precompiled>(Charsmap(bytes, subject)));
  } else {
    Fail(ErrorCode::kTokenizer, subject,
         "the normalizers Sequence, NFC, NFD, NFKC, NFKD, Lowercase, Strip, Replace, Prepend and Precompiled", type);
  }
}

Normalizer Normalizer::FromJson(const nlohmann::json& json, const std::string& subject) {
  Normalizer normalizer;
  if (!json.is_null()) AppendSteps(json, subject, 0, &normalizer);
  return normalizer;
}

std::string Normalizer::Apply(std::string_view text) const {
  std::string result(text);
  for (const auto& step : steps_) step->Apply(&result);
  return result;
}

}  // namespace mxmla
