// What a request must look like before anyone reads it: pages in browsers send requests that their users know nothing
// of.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "serve/http.h"

namespace mxmla::serve {

// Whether the body is announced as application/json. A browser sends that to another origin only where the server
// allows it (CORS), other types without asking.
bool HasJsonType(const HttpRequest& request);

// Whether a Host header names this machine, or was missing: an address, localhost, or one of `names`, of which "*" is
// any. A page whose own name has been made to lead to 127.0.0.1 (DNS rebinding) sends that name.
bool IsOwnHost(std::string_view host, std::span<const std::string> names);

}  // namespace mxmla::serve
