#include "serve/server.h"

#include <fmt/chrono.h>
#include <openssl/crypto.h>
#include <openssl/sha.h>

#include <chrono>
#include <cmath>
#include <ctime>
#include <future>

#include "core/error.h"
#include "serve/api_error.h"
#include "serve/endpoints.h"
#include "serve/http_query.h"
#include "serve/input_items.h"
#include "serve/page.h"
#include "serve/request_checks.h"

namespace mxmla::serve {
namespace {

using Clock = std::chrono::steady_clock;

// Keys are compared by digests of one length, so that the time says nothing about them.
std::string Digest(std::string_view key) {
  std::string digest(SHA256_DIGEST_LENGTH, '\0');
  SHA256(reinterpret_cast<const unsigned char*>(key.data()), key.size(),
         reinterpret_cast<unsigned char*>(digest.data()));
  return digest;
}

std::string_view PresentedKey(const HttpRequest& request) {
  std::string_view key = request.Header("authorization");
  if (!key.starts_with("Bearer ")) return request.Header("x-api-key");
  key.remove_prefix(7);
  return key;
}

constexpr const char* kKnownPaths[] = {"/health",       "/ready",          "/version",
                                       "/metrics",      "/v1/models",      "/tokenize",
                                       "/detokenize",   "/v1/completions", "/v1/chat/completions",
                                       "/v1/responses", "/v1/messages",    "/v1/messages/count_tokens"};

constexpr std::string_view kStoredPath = "/v1/responses/", kInputItems = "/input_items";

// What metrics call the path: one name for all that is unknown, or a client could make them grow without end.
std::string KnownPath(const std::string& path) {
  for (const char* known : kKnownPaths) {
    if (path == known) return path;
  }
  if (path == "/" || path == "/server_info") return path;
  if (path.starts_with("/page/")) return "/page/{file}";
  if (path.starts_with(kStoredPath)) {
    return path.ends_with(kInputItems) ? "/v1/responses/{id}/input_items" : "/v1/responses/{id}";
  }
  return path.starts_with("/v1/models/") ? "/v1/models/{model}" : "other";
}

// Each API's clients expect its own.
ErrorForm ErrorFormOf(const HttpRequest& request) {
  return request.path.starts_with("/v1/messages") ? ErrorForm::kAnthropic : ErrorForm::kOpenAi;
}

}  // namespace

// Adds the headers that every answer bears, counts it and writes its line of the access log.
class Server::LoggedResponder final : public Responder {
 public:
  LoggedResponder(Server& server, const HttpRequest& request, std::shared_ptr<Responder> responder)
      : server_(server),
        responder_(std::move(responder)),
        headers_(server.CorsHeaders(request)),
        method_(request.method),
        path_(request.path),
        peer_(request.peer),
        body_bytes_(request.body.size()),
        body_(server.options_.log_bodies ? request.body : std::string()),
        client_(server.ClientOf(request)) {}
  ~LoggedResponder() override {
    *gone_ = true;
    Log(status_ ? status_ : 499);
  }

  void Respond(int status, HttpHeaders headers, std::string body) override {
    status_ = status;
    headers.insert(headers.end(), headers_.begin(), headers_.end());
    responder_->Respond(status, std::move(headers), std::move(body));
    Log(status);
  }
  void Begin(int status, HttpHeaders headers) override {
    status_ = status;
    headers.insert(headers.end(), headers_.begin(), headers_.end());
    responder_->Begin(status, std::move(headers));
  }
  void Write(std::string_view piece) override { responder_->Write(piece); }
  void End() override {
    responder_->End();
    Log(status_);
  }
  void OnGone(std::function<void()> gone) override {
    responder_->OnGone([flag = gone_, gone = std::move(gone)] {
      *flag = true;
      gone();
    });
  }
  uint64_t client() const override { return client_; }

 private:
  void Log(int status) {
    if (std::exchange(logged_, true)) return;
    server_.metrics_.CountRequest(KnownPath(path_), status);
    if (!server_.options_.access_log) return;
    const double seconds = std::chrono::duration<double>(Clock::now() - begin_).count();
    Json line = {{"time", fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::time(nullptr)))},
                 {"peer", peer_},
                 {"method", method_.substr(0, 32)},
                 {"path", path_.substr(0, 200)},
                 {"status", status},
                 {"body_bytes", body_bytes_},
                 {"seconds", std::round(seconds * 1e6) / 1e6},
                 {"client_gone", gone_->load()}};
    if (server_.options_.log_bodies) line["body"] = body_;
    server_.options_.access_log(line.dump(-1, ' ', false, Json::error_handler_t::replace));
  }

  Server& server_;
  const std::shared_ptr<Responder> responder_;
  const HttpHeaders headers_;
  const std::string method_, path_, peer_;
  const size_t body_bytes_;
  const std::string body_;  // where it is logged
  const uint64_t client_;
  const Clock::time_point begin_ = Clock::now();
  int status_ = 0;
  bool logged_ = false;
  // Of the client; the one who tells may outlive this.
  const std::shared_ptr<std::atomic<bool>> gone_ = std::make_shared<std::atomic<bool>>(false);
};

Server::Server(ServerOptions options, ServedText text, const std::function<std::unique_ptr<Engine>()>& make_engine)
    : options_(std::move(options)), text_(std::move(text)), stored_(options_.stored_responses, options_.stored_bytes) {
  SetApiKeys(options_.api_keys);
  std::promise<void> made;
  std::shared_future<void> ready = made.get_future().share();
  // Neither is there before the other: requests wait for the moment until both are.
  http_ = std::make_unique<HttpServer>(options_.http,
                                       [this, ready](const HttpRequest& request, std::shared_ptr<Responder> responder) {
                                         ready.wait();
                                         Handle(request, std::move(responder));
                                       });
  engine_ = make_engine();
  made.set_value();
}

Server::~Server() {
  draining_ = true;
  http_->StopAccepting();
  if (text_.grammars) text_.grammars->Stop();  // what it calls submits to the engine
  engine_.reset();
  http_->Stop();
}

void Server::SetApiKeys(const std::vector<std::string>& keys) {
  std::vector<std::string> digests;
  digests.reserve(keys.size());
  for (const std::string& key : keys) digests.push_back(Digest(key));
  const std::lock_guard lock(keys_mutex_);
  key_digests_ = std::move(digests);
}

void Server::Drain() {
  draining_ = true;
  http_->StopAccepting();
}

bool Server::HasKeys() const {
  const std::lock_guard lock(keys_mutex_);
  return !key_digests_.empty();
}

std::string Server::OwnerOf(const HttpRequest& request) const {
  return HasKeys() ? Digest(PresentedKey(request)) : std::string();
}

// Clients without keys are told apart by their addresses.
uint64_t Server::ClientOf(const HttpRequest& request) const {
  const std::string owner = OwnerOf(request);
  return std::hash<std::string>{}(owner.empty() ? request.peer.substr(0, request.peer.rfind(':')) : owner);
}

void Server::CheckHost(const HttpRequest& request) const {
  if (!http_->is_loopback() || HasKeys()) return;
  const std::string_view host = request.Header("host");
  if (IsOwnHost(host, options_.allowed_hosts) || IsOwnHost(host, {&options_.http.host, 1})) return;
  throw ApiError(403, "invalid_request_error",
                 ErrorLine("Host", "localhost or an address, as the server has no key", std::string(host),
                           "start it with --allow-host NAME, or with --api-key"),
                 {}, "host_not_allowed");
}

bool Server::IsAllowed(const HttpRequest& request) const {
  const std::lock_guard lock(keys_mutex_);
  if (key_digests_.empty()) return true;
  const std::string digest = Digest(PresentedKey(request));
  bool allowed = false;
  for (const std::string& known : key_digests_) {
    allowed |= CRYPTO_memcmp(known.data(), digest.data(), digest.size()) == 0;
  }
  return allowed;
}

HttpHeaders Server::CorsHeaders(const HttpRequest& request) const {
  const std::string origin(request.Header("origin"));
  if (origin.empty()) return {};
  for (const std::string& allowed : options_.allowed_origins) {
    if (allowed == "*") return {{"access-control-allow-origin", "*"}};
    if (allowed == origin) return {{"access-control-allow-origin", origin}, {"vary", "origin"}};
  }
  return {};
}

void Server::CheckReady() const {
  const EngineState state = engine_->State();
  if (state.phase == EngineState::Phase::kLoading) {
    throw ApiError(503, "server_error", "the model is being loaded; ask again in a moment", {}, "model_loading");
  }
  if (state.phase == EngineState::Phase::kFailed) {
    throw ApiError(500, "server_error", "the engine has failed: " + state.failure, {}, "engine_failed");
  }
  if (draining_) throw ApiError(503, "server_error", "the server is about to end", {}, "shutting_down");
  if (engine_->open_requests() >= state.max_sequences + options_.max_queue) {
    throw ApiError(429, "rate_limit_error",
                   fmt::format("the queue is full: {} requests wait; ask again in a moment", options_.max_queue), {},
                   "queue_full");
  }
}

void Server::Handle(const HttpRequest& request, std::shared_ptr<Responder> responder) {
  const auto logged = std::make_shared<LoggedResponder>(*this, request, std::move(responder));
  try {
    Route(request, logged);
  } catch (...) {
    RespondError(*logged, ToApiError(std::current_exception()), ErrorFormOf(request));
  }
}

void Server::Route(const HttpRequest& request, const std::shared_ptr<Responder>& responder) {
  const std::string& path = request.path;
  CheckHost(request);
  if (request.method == "OPTIONS") {
    return responder->Respond(
        204,
        {{"access-control-allow-methods", "GET, POST, DELETE, OPTIONS"},
         {"access-control-allow-headers", "authorization, content-type, x-api-key, anthropic-version, anthropic-beta"},
         {"access-control-max-age", "86400"}},
        "");
  }
  const bool get = request.method == "GET" || request.method == "HEAD";
  if (path == "/health" && get) {
    const EngineState state = engine_->State();
    const bool ready = state.phase == EngineState::Phase::kReady;
    const char* status = ready ? "ok" : state.phase == EngineState::Phase::kLoading ? "loading" : "failed";
    return RespondJson(*responder, ready ? 200 : 503, {{"status", status}});
  }
  // Without a key, as a browser sends none: the page asks for it when the API wants one.
  if (get && RespondPage(request, *responder)) return;
  if (!IsAllowed(request)) {
    throw ApiError(401, "authentication_error",
                   "API key: expected one of the server's in Authorization: Bearer, found "
                   "none or another",
                   {}, "invalid_api_key");
  }
  using Handler = void (*)(Server&, const HttpRequest&, const std::shared_ptr<Responder>&);
  struct Endpoint {
    const char* path;
    bool get;
    Handler handle;
  };
  static constexpr Endpoint kEndpoints[] = {
      {"/ready", true,
       [](Server& server, const HttpRequest&, const std::shared_ptr<Responder>& out) {
         server.CheckReady();
         RespondJson(*out, 200, {{"status", "ready"}});
       }},
      {"/version", true,
       [](Server&, const HttpRequest&, const std::shared_ptr<Responder>& out) {
         RespondJson(*out, 200, {{"version", MXMLA_VERSION}});
       }},
      {"/server_info", true,
       [](Server& server, const HttpRequest&, const std::shared_ptr<Responder>& out) {
         RespondJson(*out, 200,
                     {{"version", MXMLA_VERSION},
                      {"model", server.text_.name},
                      {"chat", server.text_.chat.has_value()},
                      {"max_model_len", server.text_.max_context},
                      {"max_sequences", server.engine_->State().max_sequences},
                      {"max_queue", server.options_.max_queue}});
       }},
      {"/metrics", true,
       [](Server& server, const HttpRequest&, const std::shared_ptr<Responder>& out) {
         out->Respond(
             200, {{"content-type", "text/plain; version=0.0.4"}},
             server.metrics_.Text({server.engine_->State(), server.engine_->open_requests(),
                                   server.http_->connections(), server.stored_.count(), server.stored_.bytes()}));
       }},
      {"/v1/models", true,
       [](Server& server, const HttpRequest&, const std::shared_ptr<Responder>& out) {
         RespondJson(*out, 200, {{"object", "list"}, {"data", Json::array({server.ModelJson()})}});
       }},
      {"/tokenize", false,
       [](Server& server, const HttpRequest& in, const std::shared_ptr<Responder>& out) {
         RespondJson(*out, 200, Tokenize(server.text_, in.body));
       }},
      {"/detokenize", false,
       [](Server& server, const HttpRequest& in, const std::shared_ptr<Responder>& out) {
         RespondJson(*out, 200, Detokenize(server.text_, in.body));
       }},
      {"/v1/completions", false,
       [](Server& server, const HttpRequest& in, const std::shared_ptr<Responder>& out) {
         server.CheckReady();
         Completions(server.text_, in.body, *server.engine_, server.metrics_, out);
       }},
      {"/v1/chat/completions", false,
       [](Server& server, const HttpRequest& in, const std::shared_ptr<Responder>& out) {
         server.CheckReady();
         ChatCompletions(server.text_, in.body, *server.engine_, server.metrics_, out);
       }},
      {"/v1/responses", false,
       [](Server& server, const HttpRequest& in, const std::shared_ptr<Responder>& out) {
         server.CheckReady();
         Responses(server.text_, in.body, server.stored_, server.OwnerOf(in), *server.engine_, server.metrics_, out);
       }},
      {"/v1/messages", false,
       [](Server& server, const HttpRequest& in, const std::shared_ptr<Responder>& out) {
         server.CheckReady();
         Messages(server.text_, in.body, *server.engine_, server.metrics_, out);
       }},
      {"/v1/messages/count_tokens", false,
       [](Server& server, const HttpRequest& in, const std::shared_ptr<Responder>& out) {
         RespondJson(*out, 200, CountMessageTokens(server.text_, in.body));
       }},
  };
  for (const Endpoint& endpoint : kEndpoints) {
    if (path != endpoint.path) continue;
    if (endpoint.get ? !get : request.method != "POST") {
      const char* expected = endpoint.get ? "GET" : "POST";
      return RespondJson(
          *responder, 405,
          ApiError(405, "invalid_request_error", ErrorLine(path, expected, request.method)).Json(ErrorFormOf(request)),
          {{"allow", expected}});
    }
    if (!endpoint.get && !HasJsonType(request)) {
      const std::string_view type = request.Header("content-type");
      throw ApiError(415, "invalid_request_error",
                     ErrorLine("content-type", "application/json", type.empty() ? "none" : std::string(type)));
    }
    return endpoint.handle(*this, request, responder);
  }
  if (path.starts_with(kStoredPath)) return RouteStored(request, *responder);
  if (path.starts_with("/v1/models/") && get) {
    if (path.substr(11) == text_.name) return RespondJson(*responder, 200, ModelJson());
    throw ApiError(404, "invalid_request_error", ErrorLine("model", text_.name, path.substr(11)), "model",
                   "model_not_found");
  }
  throw ApiError(404, "invalid_request_error", ErrorLine("path", "an endpoint of this server", path), {}, "not_found");
}

void Server::RouteStored(const HttpRequest& request, Responder& responder) {
  std::string id = request.path.substr(kStoredPath.size());
  const bool is_input = id.ends_with(kInputItems);
  if (is_input) id.erase(id.size() - kInputItems.size());
  const std::string owner = OwnerOf(request);
  const auto missing = [&] {
    return ApiError(404, "invalid_request_error", ErrorLine("response", "the id of one that is kept", id));
  };
  if (request.method == "GET" || request.method == "HEAD") {
    const auto found = stored_.Find(id, owner);
    if (!found) throw missing();
    if (is_input) return RespondJson(responder, 200, InputItemsPage(*found, request.query));
    if (QueryField(request.query, "stream").value_or("false") == "true") {
      RefuseField("stream", "false: an answer that is kept is whole", "true");
    }
    return responder.Respond(200, {{"content-type", "application/json"}}, found->response);
  }
  if (request.method == "DELETE" && !is_input) {
    if (!stored_.Erase(id, owner)) throw missing();
    return RespondJson(responder, 200, {{"id", id}, {"object", "response"}, {"deleted", true}});
  }
  const ApiError error(405, "invalid_request_error",
                       ErrorLine(request.path, is_input ? "GET" : "GET or DELETE", request.method));
  RespondJson(responder, 405, error.Json(), {{"allow", is_input ? "GET" : "GET, DELETE"}});
}

Json Server::ModelJson() const {
  return {{"id", text_.name},
          {"object", "model"},
          {"created", text_.created},
          {"owned_by", "mxmla"},
          {"max_model_len", text_.max_context}};
}

}  // namespace mxmla::serve
