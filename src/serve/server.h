// The server: paths, keys, limits and the access log around the endpoints.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "serve/engine.h"
#include "serve/http_server.h"
#include "serve/metrics.h"
#include "serve/response_store.h"
#include "serve/served_text.h"

namespace mxmla::serve {

struct ServerOptions {
  HttpServerOptions http;
  std::vector<std::string> api_keys;         // empty: everyone may ask
  std::vector<std::string> allowed_origins;  // of pages in browsers (CORS); "*": any
  // Names of this machine beside localhost and its addresses, as clients call it; "*": any. Asked for where there is no
  // key and only this machine can connect.
  std::vector<std::string> allowed_hosts;
  size_t stored_responses = 1000;          // answers of /v1/responses that are kept; 0: none
  size_t stored_bytes = size_t{64} << 20;  // that they may take
  int64_t max_queue = 1024;                // requests beyond those that run; further ones get status 429
  std::function<void(const std::string& line)> access_log;  // a JSON line a request; may be empty
  bool log_bodies = false;                                  // with what the client sent, texts and all
};

class Server {
 public:
  // Listens at once; `make_engine` is called once, and what it makes may still be loading. Errors: HttpServer's.
  Server(ServerOptions options, ServedText text, const std::function<std::unique_ptr<Engine>()>& make_engine);
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  uint16_t port() const { return http_->port(); }
  EngineState State() const { return engine_->State(); }
  int64_t open_requests() const { return engine_->open_requests() + (text_.grammars ? text_.grammars->open() : 0); }
  // For certificates that were renewed. Errors: HttpServer::ReloadTls's.
  void ReloadTls() { http_->ReloadTls(); }
  // For keys that changed.
  void SetApiKeys(const std::vector<std::string>& keys);
  // Answers one request, as the HTTP server has it done.
  void Handle(const HttpRequest& request, std::shared_ptr<Responder> responder);
  // Refuses new requests (503) and lets those that run end.
  void Drain();

 private:
  class LoggedResponder;

  void Route(const HttpRequest& request, const std::shared_ptr<Responder>& responder);
  bool HasKeys() const;
  bool IsAllowed(const HttpRequest& request) const;
  void CheckHost(const HttpRequest& request) const;
  std::string OwnerOf(const HttpRequest& request) const;
  uint64_t ClientOf(const HttpRequest& request) const;
  void RouteStored(const HttpRequest& request, Responder& responder);
  HttpHeaders CorsHeaders(const HttpRequest& request) const;
  void CheckReady() const;
  nlohmann::ordered_json ModelJson() const;

  ServerOptions options_;
  const ServedText text_;
  Metrics metrics_;
  ResponseStore stored_;
  mutable std::mutex keys_mutex_;
  std::vector<std::string> key_digests_;
  std::atomic<bool> draining_{false};
  // The engine's callbacks use responders, which belong to the HTTP server: the engine goes first.
  std::unique_ptr<HttpServer> http_;
  std::unique_ptr<Engine> engine_;
};

}  // namespace mxmla::serve
