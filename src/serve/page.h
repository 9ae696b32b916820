// The page at /: the files of web/, which are part of the program.
#pragma once

#include <span>
#include <string_view>

#include "serve/http.h"

namespace mxmla::serve {

struct PageFile {
  std::string_view path;  // "/" or "/page/NAME"
  std::string_view type;  // of its content
  std::string_view etag;  // quoted
  std::string_view content;
};

// Sorted as the build made them.
std::span<const PageFile> PageFiles();

// Answers a GET or HEAD of the page's, with 304 where the client has the file; false for paths that are not the page's.
bool RespondPage(const HttpRequest& request, Responder& responder);

}  // namespace mxmla::serve
