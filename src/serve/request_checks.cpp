#include "serve/request_checks.h"

#include <arpa/inet.h>

#include <algorithm>

namespace mxmla::serve {
namespace {

char Lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c; }

bool SameName(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](char x, char y) { return Lower(x) == Lower(y); });
}

std::string_view WithoutPort(std::string_view host) {
  const size_t colon = host.rfind(':');
  return host.substr(0, colon);
}

}  // namespace

bool HasJsonType(const HttpRequest& request) {
  std::string_view type = request.Header("content-type");
  type = type.substr(0, type.find(';'));
  while (type.ends_with(' ') || type.ends_with('\t')) type.remove_suffix(1);
  return SameName(type, "application/json");
}

bool IsOwnHost(std::string_view host, std::span<const std::string> names) {
  if (host.empty() || host.starts_with('[')) return true;  // none, or an IPv6 address
  const std::string name(WithoutPort(host));
  in_addr address;
  if (inet_pton(AF_INET, name.c_str(), &address) == 1 || SameName(name, "localhost")) return true;
  return std::ranges::any_of(names, [&](const std::string& known) { return known == "*" || SameName(known, name); });
}

}  // namespace mxmla::serve
