#include "serve/page.h"

#include <algorithm>
#include <string>

namespace mxmla::serve {
namespace {

// Only what this server sends is run, shown or asked, whatever a model writes: https://www.w3.org/TR/CSP3/
constexpr const char* kPolicy =
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'";

// Whether one of If-None-Match's tags is this one (RFC 9110, 13.1.2: compared weakly).
bool HasTag(std::string_view tags, std::string_view etag) {
  return tags == "*" || tags.find(etag) != std::string_view::npos;
}

}  // namespace

bool RespondPage(const HttpRequest& request, Responder& responder) {
  const std::span<const PageFile> files = PageFiles();
  const auto file = std::ranges::find(files, request.path, &PageFile::path);
  if (file == files.end()) return false;
  HttpHeaders headers = {{"etag", std::string(file->etag)},    {"cache-control", "no-cache"},
                         {"content-security-policy", kPolicy}, {"cross-origin-opener-policy", "same-origin"},
                         {"referrer-policy", "no-referrer"},   {"x-content-type-options", "nosniff"}};
  if (HasTag(request.Header("if-none-match"), file->etag)) {
    responder.Respond(304, std::move(headers), "");
  } else {
    headers.emplace_back("content-type", file->type);
    responder.Respond(200, std::move(headers), std::string(file->content));
  }
  return true;
}

}  // namespace mxmla::serve
