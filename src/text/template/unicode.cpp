#include "text/template/unicode.h"

#include <locale.h>
#include <wctype.h>

#include <algorithm>
#include <iterator>

#include "core/error.h"
#include "text/regex.h"
#include "text/utf8.h"

namespace mxmla::jinja {
namespace {

struct SpecialCase {
  char32_t character;
  const char* upper;
  const char* title;
};

// Where the upper or the title case is not the C library's towupper: Unicode's SpecialCasing, digraphs, Georgian.
constexpr SpecialCase kSpecialCases[] = {
    {0xdf, "SS", "Ss"},   {0x149, "ʼN", "ʼN"},    {0x1c4, "Ǆ", "ǅ"},      {0x1c5, "Ǆ", "ǅ"},    {0x1c6, "Ǆ", "ǅ"},
    {0x1c7, "Ǉ", "ǈ"},    {0x1c8, "Ǉ", "ǈ"},      {0x1c9, "Ǉ", "ǈ"},      {0x1ca, "Ǌ", "ǋ"},    {0x1cb, "Ǌ", "ǋ"},
    {0x1cc, "Ǌ", "ǋ"},    {0x1f0, "J̌", "J̌"},      {0x1f1, "Ǳ", "ǲ"},      {0x1f2, "Ǳ", "ǲ"},    {0x1f3, "Ǳ", "ǲ"},
    {0x390, "Ϊ́", "Ϊ́"},    {0x3b0, "Ϋ́", "Ϋ́"},      {0x587, "ԵՒ", "Եւ"},    {0x10d0, "Ა", "ა"}, {0x10d1, "Ბ", "ბ"},
    {0x10d2, "Გ", "გ"}, {0x10d3, "Დ", "დ"},   {0x10d4, "Ე", "ე"},   {0x10d5, "Ვ", "ვ"}, {0x10d6, "Ზ", "ზ"},
    {0x10d7, "Თ", "თ"}, {0x10d8, "Ი", "ი"},   {0x10d9, "Კ", "კ"},   {0x10da, "Ლ", "ლ"}, {0x10db, "Მ", "მ"},
    {0x10dc, "Ნ", "ნ"}, {0x10dd, "Ო", "ო"},   {0x10de, "Პ", "პ"},   {0x10df, "Ჟ", "ჟ"}, {0x10e0, "Რ", "რ"},
    {0x10e1, "Ს", "ს"}, {0x10e2, "Ტ", "ტ"},   {0x10e3, "Უ", "უ"},   {0x10e4, "Ფ", "ფ"}, {0x10e5, "Ქ", "ქ"},
    {0x10e6, "Ღ", "ღ"}, {0x10e7, "Ყ", "ყ"},   {0x10e8, "Შ", "შ"},   {0x10e9, "Ჩ", "ჩ"}, {0x10ea, "Ც", "ც"},
    {0x10eb, "Ძ", "ძ"}, {0x10ec, "Წ", "წ"},   {0x10ed, "Ჭ", "ჭ"},   {0x10ee, "Ხ", "ხ"}, {0x10ef, "Ჯ", "ჯ"},
    {0x10f0, "Ჰ", "ჰ"}, {0x10f1, "Ჱ", "ჱ"},   {0x10f2, "Ჲ", "ჲ"},   {0x10f3, "Ჳ", "ჳ"}, {0x10f4, "Ჴ", "ჴ"},
    {0x10f5, "Ჵ", "ჵ"}, {0x10f6, "Ჶ", "ჶ"},   {0x10f7, "Ჷ", "ჷ"},   {0x10f8, "Ჸ", "ჸ"}, {0x10f9, "Ჹ", "ჹ"},
    {0x10fa, "Ჺ", "ჺ"}, {0x10fd, "Ჽ", "ჽ"},   {0x10fe, "Ჾ", "ჾ"},   {0x10ff, "Ჿ", "ჿ"}, {0x1e96, "H̱", "H̱"},
    {0x1e97, "T̈", "T̈"},   {0x1e98, "W̊", "W̊"},     {0x1e99, "Y̊", "Y̊"},     {0x1e9a, "Aʾ", "Aʾ"}, {0x1f50, "Υ̓", "Υ̓"},
    {0x1f52, "Υ̓̀", "Υ̓̀"},   {0x1f54, "Υ̓́", "Υ̓́"},     {0x1f56, "Υ̓͂", "Υ̓͂"},     {0x1f80, "ἈΙ", "ᾈ"},  {0x1f81, "ἉΙ", "ᾉ"},
    {0x1f82, "ἊΙ", "ᾊ"},  {0x1f83, "ἋΙ", "ᾋ"},    {0x1f84, "ἌΙ", "ᾌ"},    {0x1f85, "ἍΙ", "ᾍ"},  {0x1f86, "ἎΙ", "ᾎ"},
    {0x1f87, "ἏΙ", "ᾏ"},  {0x1f88, "ἈΙ", "ᾈ"},    {0x1f89, "ἉΙ", "ᾉ"},    {0x1f8a, "ἊΙ", "ᾊ"},  {0x1f8b, "ἋΙ", "ᾋ"},
    {0x1f8c, "ἌΙ", "ᾌ"},  {0x1f8d, "ἍΙ", "ᾍ"},    {0x1f8e, "ἎΙ", "ᾎ"},    {0x1f8f, "ἏΙ", "ᾏ"},  {0x1f90, "ἨΙ", "ᾘ"},
    {0x1f91, "ἩΙ", "ᾙ"},  {0x1f92, "ἪΙ", "ᾚ"},    {0x1f93, "ἫΙ", "ᾛ"},    {0x1f94, "ἬΙ", "ᾜ"},  {0x1f95, "ἭΙ", "ᾝ"},
    {0x1f96, "ἮΙ", "ᾞ"},  {0x1f97, "ἯΙ", "ᾟ"},    {0x1f98, "ἨΙ", "ᾘ"},    {0x1f99, "ἩΙ", "ᾙ"},  {0x1f9a, "ἪΙ", "ᾚ"},
    {0x1f9b, "ἫΙ", "ᾛ"},  {0x1f9c, "ἬΙ", "ᾜ"},    {0x1f9d, "ἭΙ", "ᾝ"},    {0x1f9e, "ἮΙ", "ᾞ"},  {0x1f9f, "ἯΙ", "ᾟ"},
    {0x1fa0, "ὨΙ", "ᾨ"},  {0x1fa1, "ὩΙ", "ᾩ"},    {0x1fa2, "ὪΙ", "ᾪ"},    {0x1fa3, "ὫΙ", "ᾫ"},  {0x1fa4, "ὬΙ", "ᾬ"},
    {0x1fa5, "ὭΙ", "ᾭ"},  {0x1fa6, "ὮΙ", "ᾮ"},    {0x1fa7, "ὯΙ", "ᾯ"},    {0x1fa8, "ὨΙ", "ᾨ"},  {0x1fa9, "ὩΙ", "ᾩ"},
    {0x1faa, "ὪΙ", "ᾪ"},  {0x1fab, "ὫΙ", "ᾫ"},    {0x1fac, "ὬΙ", "ᾬ"},    {0x1fad, "ὭΙ", "ᾭ"},  {0x1fae, "ὮΙ", "ᾮ"},
    {0x1faf, "ὯΙ", "ᾯ"},  {0x1fb2, "ᾺΙ", "Ὰͅ"},    {0x1fb3, "ΑΙ", "ᾼ"},    {0x1fb4, "ΆΙ", "Άͅ"},  {0x1fb6, "Α͂", "Α͂"},
    {0x1fb7, "Α͂Ι", "ᾼ͂"},  {0x1fbc, "ΑΙ", "ᾼ"},    {0x1fc2, "ῊΙ", "Ὴͅ"},    {0x1fc3, "ΗΙ", "ῌ"},  {0x1fc4, "ΉΙ", "Ήͅ"},
    {0x1fc6, "Η͂", "Η͂"},   {0x1fc7, "Η͂Ι", "ῌ͂"},    {0x1fcc, "ΗΙ", "ῌ"},    {0x1fd2, "Ϊ̀", "Ϊ̀"},   {0x1fd3, "Ϊ́", "Ϊ́"},
    {0x1fd6, "Ι͂", "Ι͂"},   {0x1fd7, "Ϊ͂", "Ϊ͂"},     {0x1fe2, "Ϋ̀", "Ϋ̀"},     {0x1fe3, "Ϋ́", "Ϋ́"},   {0x1fe4, "Ρ̓", "Ρ̓"},
    {0x1fe6, "Υ͂", "Υ͂"},   {0x1fe7, "Ϋ͂", "Ϋ͂"},     {0x1ff2, "ῺΙ", "Ὼͅ"},    {0x1ff3, "ΩΙ", "ῼ"},  {0x1ff4, "ΏΙ", "Ώͅ"},
    {0x1ff6, "Ω͂", "Ω͂"},   {0x1ff7, "Ω͂Ι", "ῼ͂"},    {0x1ffc, "ΩΙ", "ῼ"},    {0xfb00, "FF", "Ff"}, {0xfb01, "FI", "Fi"},
    {0xfb02, "FL", "Fl"}, {0xfb03, "FFI", "Ffi"}, {0xfb04, "FFL", "Ffl"}, {0xfb05, "ST", "St"}, {0xfb06, "ST", "St"},
    {0xfb13, "ՄՆ", "Մն"}, {0xfb14, "ՄԵ", "Մե"},   {0xfb15, "ՄԻ", "Մի"},   {0xfb16, "ՎՆ", "Վն"}, {0xfb17, "ՄԽ", "Մխ"}};

const SpecialCase* FindSpecial(char32_t c) {
  const auto* found =
      std::lower_bound(std::begin(kSpecialCases), std::end(kSpecialCases), c,
                       [](const SpecialCase& entry, char32_t value) { return entry.character < value; });
  return found != std::end(kSpecialCases) && found->character == c ? found : nullptr;
}

locale_t UnicodeLocale() {
  static const locale_t locale = [] {
    const locale_t made = newlocale(LC_CTYPE_MASK, "C.UTF-8", nullptr);
    if (!made) Fail(ErrorCode::kInternal, "C library", "the locale C.UTF-8", "none");
    return made;
  }();
  return locale;
}

char32_t SimpleUpper(char32_t c) { return static_cast<char32_t>(towupper_l(static_cast<wint_t>(c), UnicodeLocale())); }

const Regex& ExpressionOf(Property property) {
  static const std::string subject = "character property";
  static const Regex expressions[] = {
      Regex(R"(\p{L})", subject),
      Regex(R"(\p{Nd})", subject),
      Regex(
          R"([\p{Nd}\x{b2}\x{b3}\x{b9}\x{1369}-\x{1371}\x{19da}\x{2070}\x{2074}-\x{2079}\x{2080}-\x{2089}\x{2460}-\x{2468})"
          R"(\x{2474}-\x{247c}\x{2488}-\x{2490}\x{24ea}\x{24f5}-\x{24fd}\x{24ff}\x{2776}-\x{277e}\x{2780}-\x{2788})"
          R"(\x{278a}-\x{2792}\x{10a40}-\x{10a43}\x{10e60}-\x{10e68}\x{11052}-\x{1105a}\x{1f100}-\x{1f10a}])",
          subject),
      Regex(R"(\p{N})", subject),
      Regex(R"(\p{Uppercase})", subject),
      Regex(R"(\p{Lowercase})", subject),
      Regex(R"([\p{Uppercase}\p{Lowercase}\p{Lt}])", subject),
      Regex(R"([\p{Mn}\p{Me}\p{Cf}\p{Lm}\p{Sk}'.:^`\x{b7}\x{2018}\x{2019}\x{2024}\x{2027}])", subject),
      Regex(R"([^\p{C}\p{Z}]| )", subject),
      Regex(R"([\p{L}\p{N}_])", subject),
  };
  return expressions[static_cast<size_t>(property)];
}

}  // namespace

void AppendUpper(char32_t c, std::string* out) {
  if (const SpecialCase* special = FindSpecial(c)) {
    out->append(special->upper);
  } else {
    AppendCodePoint(SimpleUpper(c), out);
  }
}

void AppendTitle(char32_t c, std::string* out) {
  if (const SpecialCase* special = FindSpecial(c)) {
    out->append(special->title);
  } else {
    AppendCodePoint(SimpleUpper(c), out);
  }
}

void AppendLower(char32_t c, std::string* out) {
  if (c == 0x130) {
    out->append("i\u0307");
  } else {
    AppendCodePoint(static_cast<char32_t>(towlower_l(static_cast<wint_t>(c), UnicodeLocale())), out);
  }
}

bool Has(Property property, std::string_view text, size_t offset) {
  return ExpressionOf(property).MatchesAt(text, offset);
}

}  // namespace mxmla::jinja
