#include "core/file_kind.h"

#include <algorithm>
#include <cctype>

namespace mxmla {
namespace {

constexpr std::string_view kPointer = "a Git LFS pointer, which stands for the file";
constexpr std::string_view kWebPage = "a web page";
constexpr std::string_view kEmpty = "an empty file (0 bytes)";
constexpr std::string_view kUtf16 = "text in UTF-16";

bool BeginsWith(std::string_view text, std::string_view lower) {
  return text.size() >= lower.size() && std::equal(lower.begin(), lower.end(), text.begin(), [](char a, char b) {
           return a == static_cast<char>(std::tolower(static_cast<unsigned char>(b)));
         });
}

}  // namespace

std::string_view ForeignKind(std::string_view head) {
  if (head.empty()) return kEmpty;
  if (head.starts_with("version https://git-lfs.github.com/spec/")) return kPointer;
  if (head.starts_with("\xff\xfe") || head.starts_with("\xfe\xff")) return kUtf16;
  if (head.starts_with("\xef\xbb\xbf")) head.remove_prefix(3);
  head.remove_prefix(std::min(head.find_first_not_of(" \t\r\n"), head.size()));
  return BeginsWith(head, "<!doctype html") || BeginsWith(head, "<html") ? kWebPage : std::string_view();
}

void RefuseForeignFile(std::string_view head, const std::string& subject, std::string_view expected, ErrorCode code) {
  const std::string_view kind = ForeignKind(head);
  if (kind.empty()) return;
  const std::string_view hint = kind == kPointer ? "fetch the file itself, for example by git lfs pull"
                                : kind == kUtf16 ? "write it in UTF-8"
                                                 : "the download went wrong; fetch the file again";
  Fail(code, subject, expected, kind, hint);
}

}  // namespace mxmla
