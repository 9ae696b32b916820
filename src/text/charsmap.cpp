#include "text/charsmap.h"

#include <fmt/format.h>
#include <utf8proc.h>

#include "core/error.h"
#include "text/utf8.h"

namespace mxmla {
namespace {

constexpr size_t kLongestCluster = 5;  // bytes

uint32_t LittleEndian(std::string_view bytes) {
  uint32_t value = 0;
  for (size_t i = 4; i-- > 0;) value = value << 8 | static_cast<unsigned char>(bytes[i]);
  return value;
}

// The end of the grapheme cluster that begins at `at`.
size_t ClusterEnd(std::string_view text, size_t at) {
  utf8proc_int32_t state = 0;
  CodePoint last = CodePointAt(text, at);
  at += last.length;
  while (at < text.size()) {
    const CodePoint next = CodePointAt(text, at);
    if (utf8proc_grapheme_break_stateful(static_cast<utf8proc_int32_t>(last.value),
                                         static_cast<utf8proc_int32_t>(next.value), &state)) {
      break;
    }
    last = next;
    at += next.length;
  }
  return at;
}

}  // namespace

Charsmap::Charsmap(std::string_view bytes, const std::string& subject) {
  const size_t trie = bytes.size() >= 4 ? LittleEndian(bytes) : 0;
  if (bytes.size() < 4 || trie % 4 != 0 || trie > bytes.size() - 4) {
    Fail(ErrorCode::kTokenizer, subject, "a charsmap: the size of its trie, the trie, its replacements",
         fmt::format("{} bytes, {} of them the trie", bytes.size(), trie));
  }
  for (size_t at = 4; at < 4 + trie; at += 4) units_.push_back(LittleEndian(bytes.substr(at, 4)));
  replacements_ = std::string(bytes.substr(4 + trie));
  if (!replacements_.ends_with('\0')) replacements_.push_back('\0');
}

const char* Charsmap::Find(std::string_view key) const {
  const auto offset = [](uint32_t unit) { return (unit >> 10) << ((unit & (1u << 9)) >> 6); };
  if (units_.empty()) return nullptr;
  uint32_t node = offset(units_[0]);
  for (const char c : key) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte == 0) return nullptr;
    node ^= byte;
    if (node >= units_.size() || (units_[node] & (1u << 31 | 0xffu)) != byte) return nullptr;
    const uint32_t unit = units_[node];
    node ^= offset(unit);
    if (unit >> 8 & 1) {
      if (node >= units_.size()) return nullptr;
      const uint32_t value = units_[node] & 0x7fffffffu;
      return value < replacements_.size() ? replacements_.c_str() + value : nullptr;
    }
  }
  return nullptr;
}

void Charsmap::Apply(std::string_view text, std::string* out) const {
  const auto append = [&](std::string_view part) {
    const char* found = Find(part);
    if (found) out->append(found);
    return found != nullptr;
  };
  for (size_t at = 0; at < text.size();) {
    const size_t end = ClusterEnd(text, at);
    if (end - at > kLongestCluster || !append(text.substr(at, end - at))) {
      for (size_t i = at; i < end;) {
        const size_t length = CodePointAt(text, i).length;
        const std::string_view character = text.substr(i, length);
        if (!append(character)) out->append(character);
        i += length;
      }
    }
    at = end;
  }
}

}  // namespace mxmla
