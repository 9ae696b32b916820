// Files that are not what their name says.
#pragma once

#include <string>
#include <string_view>

#include "core/error.h"

namespace mxmla {

// What a file that begins with `head` (a few hundred bytes of it, or all) visibly is instead of a model's file: a Git
// LFS pointer, a web page, text in UTF-16, an empty file; empty where it is none of these.
std::string_view ForeignKind(std::string_view head);

// Throws an Error of `code` that names `subject` where ForeignKind knows the file.
void RefuseForeignFile(std::string_view head, const std::string& subject, std::string_view expected, ErrorCode code);

}  // namespace mxmla
