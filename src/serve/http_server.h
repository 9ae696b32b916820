// HTTP/1.1 over TCP, with TLS where it is asked for.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "serve/http.h"

namespace mxmla::serve {

struct HttpServerOptions {
  std::string host = "127.0.0.1";  // an address, or a name that resolves to one
  uint16_t port = 8000;            // 0: any free one
  int threads = 2;
  size_t max_header_bytes = size_t{64} << 10;
  size_t max_body_bytes = size_t{32} << 20;
  size_t max_unsent_bytes = size_t{4} << 20;  // of one connection
  int max_connections = 4096;                 // further ones wait to be accepted
  std::chrono::seconds header_timeout{30};    // from the first byte of a request to the end of its headers
  std::chrono::seconds body_timeout{60};
  std::chrono::seconds idle_timeout{75};    // between requests of a connection
  std::chrono::seconds write_timeout{120};  // without any byte that the client takes
  std::string tls_certificate, tls_key;     // PEM files, a certificate chain and its key; empty: no TLS
};

class HttpServer {
 public:
  // Listens from here on. Errors: kUsage for an address that cannot be listened on, kMissingFile for TLS files that
  // cannot be read or do not belong together.
  HttpServer(const HttpServerOptions& options, HttpHandler handler);
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  uint16_t port() const;
  int64_t connections() const;
  bool is_loopback() const;  // whether only this machine can connect
  // Reads the TLS files again, for connections to come. Errors: as the constructor's; the old ones then stay.
  void ReloadTls();
  // No more connections are accepted, and those that are open end after the answer that they wait for.
  void StopAccepting();
  // Cuts what is left and joins the threads. Responders must not outlive the server.
  void Stop();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace mxmla::serve
