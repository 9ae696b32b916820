// A SentencePiece charsmap, the tokenizers library's normalizer Precompiled: replacements of short strings, in a
// double-array trie (Aoe 1989; the units are those of darts-clone).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace mxmla {

class Charsmap {
 public:
  // `bytes`: the trie's size in bytes (a little-endian uint32), its units, then the replacements, each ended by a zero.
  // Throws kTokenizer, `subject` naming it, for one that is cut short.
  Charsmap(std::string_view bytes, const std::string& subject);

  // Appends what becomes of valid UTF-8. As the tokenizers library does it, a grapheme cluster below 6 bytes is looked
  // up as a whole, then character by character; what is found is the shortest entry that begins the string, and it
  // replaces all of it.
  void Apply(std::string_view text, std::string* out) const;

 private:
  // Null where no entry begins `key`.
  const char* Find(std::string_view key) const;

  std::vector<uint32_t> units_;
  std::string replacements_;  // ends with a zero
};

}  // namespace mxmla
