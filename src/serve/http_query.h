// The query of a request's target: NAME=VALUE, joined by '&'.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace mxmla::serve {

// The value of the first field of this name, its percent signs and plus signs decoded; nothing where there is none.
std::optional<std::string> QueryField(std::string_view query, std::string_view name);

}  // namespace mxmla::serve
