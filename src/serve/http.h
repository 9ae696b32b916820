// What an HTTP server hands to its handler, and what the handler answers with: no library's types.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace mxmla::serve {

using HttpHeaders = std::vector<std::pair<std::string, std::string>>;

struct HttpRequest {
  std::string method;
  std::string path;   // of the target, without the query; as sent, percent signs included
  std::string query;  // behind '?'
  HttpHeaders headers;
  std::string body;
  std::string peer;  // "127.0.0.1:50812"

  // The first header of this name, whatever its case; empty where there is none.
  std::string_view Header(std::string_view name) const;
};

// Where the answer to one request goes. Safe from every thread; what comes after the end, or after the client has gone
// away, is dropped.
class Responder {
 public:
  virtual ~Responder() = default;

  // The whole answer.
  virtual void Respond(int status, HttpHeaders headers, std::string body) = 0;
  // An answer in pieces: Begin, any number of Write, End. A reader so slow that more waits for it than the server's
  // limit is cut off, as if it had gone away.
  virtual void Begin(int status, HttpHeaders headers) = 0;
  virtual void Write(std::string_view piece) = 0;
  virtual void End() = 0;
  // `gone` is called once if the client goes away before the end, at once if it has already; by any thread, and it must
  // not block.
  virtual void OnGone(std::function<void()> gone) = 0;
  // Whose request this answers: a number that all requests of one client share.
  virtual uint64_t client() const { return 0; }
};

// Called by the server's threads; must not block for long. An exception becomes an answer of status 500.
using HttpHandler = std::function<void(HttpRequest request, std::shared_ptr<Responder> responder)>;

}  // namespace mxmla::serve
