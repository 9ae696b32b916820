#include "serve/http_server.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>

#include <atomic>
#include <boost/asio.hpp>
#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <boost/beast/ssl.hpp>
#include <mutex>
#include <thread>
#include <vector>

#include "core/error.h"
#include "serve/api_error.h"

namespace mxmla::serve {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using tcp = asio::ip::tcp;
using Plain = beast::tcp_stream;
using Secure = beast::ssl_stream<beast::tcp_stream>;
using namespace asio::experimental::awaitable_operators;  // NOLINT(google-build-using-namespace): operator|| alone

constexpr auto kWait = asio::as_tuple(asio::use_awaitable);
// How often a connection whose client has more to say is asked whether the client is still there.
constexpr std::chrono::milliseconds kGonePoll{200};
// How long a client that was refused may go on sending.
constexpr std::chrono::seconds kLinger{5};

tcp::socket& SocketOf(Plain& stream) { return stream.socket(); }
tcp::socket& SocketOf(Secure& stream) { return beast::get_lowest_layer(stream).socket(); }

bool PeerClosed(tcp::socket& socket) {
  pollfd descriptor{socket.native_handle(), POLLRDHUP, 0};
  return poll(&descriptor, 1, 0) > 0 && (descriptor.revents & (POLLRDHUP | POLLHUP | POLLERR | POLLNVAL)) != 0;
}

// What of the bytes the system takes without waiting; failures show when the rest is written.
size_t SendAtOnce(Plain& stream, std::string_view bytes) {
  const ssize_t count = send(stream.socket().native_handle(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  return count > 0 ? static_cast<size_t>(count) : 0;
}
size_t SendAtOnce(Secure&, std::string_view) { return 0; }  // records are the stream's to make

void EndSending(Plain& stream) {
  boost::system::error_code ignored;
  stream.socket().shutdown(tcp::socket::shutdown_send, ignored);
}
void EndSending(Secure&) {}  // the stream's own end comes with its shutdown

std::string StatusLine(int status, unsigned version) {
  const auto reason = http::obsolete_reason(static_cast<http::status>(status));
  return fmt::format("HTTP/1.{} {} {}\r\n", version % 10, status, std::string_view(reason.data(), reason.size()));
}

// The bytes of one answer on their way from any thread to the connection's coroutine.
class Channel final : public Responder, public std::enable_shared_from_this<Channel> {
 public:
  Channel(const asio::any_io_executor& executor, unsigned version, bool keep_alive, bool head_only, size_t most)
      : signal_(executor), version_(version), keep_alive_(keep_alive), head_only_(head_only), most_(most) {
    signal_.expires_at(std::chrono::steady_clock::time_point::max());
  }

  void Respond(int status, HttpHeaders headers, std::string body) override {
    const std::lock_guard lock(mutex_);
    if (begun_ || gone_) return;
    begun_ = ended_ = true;
    AppendHead(status, headers);
    // RFC 9110, 8.6: these two have no content, and no length of it.
    if (status != 204 && status != 304) pending_ += fmt::format("content-length: {}\r\n", body.size());
    pending_ += "\r\n";
    if (!head_only_) pending_ += body;
    Wake();
  }

  void Begin(int status, HttpHeaders headers) override {
    const std::lock_guard lock(mutex_);
    if (begun_ || gone_) return;
    begun_ = true;
    // HTTP/1.0 knows no chunks: there the end of the connection is the end of the answer.
    chunked_ = version_ >= 11;
    if (!chunked_) keep_alive_ = false;
    AppendHead(status, headers);
    pending_ += chunked_ ? "transfer-encoding: chunked\r\n\r\n" : "\r\n";
    Wake();
  }

  void Write(std::string_view piece) override {
    const std::lock_guard lock(mutex_);
    if (!begun_ || ended_ || gone_ || piece.empty() || head_only_) return;
    if (pending_.size() + piece.size() > most_) {
      overflowed_ = true;
    } else if (chunked_) {
      fmt::format_to(std::back_inserter(pending_), "{:x}\r\n", piece.size());
      pending_ += piece;
      pending_ += "\r\n";
    } else {
      pending_ += piece;
    }
    Wake();
  }

  void End() override {
    const std::lock_guard lock(mutex_);
    if (!begun_ || ended_ || gone_) return;
    ended_ = true;
    if (chunked_ && !head_only_) pending_ += "0\r\n\r\n";
    Wake();
  }

  void OnGone(std::function<void()> gone) override {
    {
      const std::lock_guard lock(mutex_);
      if (ended_) return;
      if (!gone_) {
        on_gone_ = std::move(gone);
        return;
      }
    }
    gone();
  }

  // The coroutine's side.

  // Takes what is to be sent; `last` when the answer ends with it.
  std::string Take(bool* last, bool* overflowed) {
    const std::lock_guard lock(mutex_);
    *last = ended_;
    *overflowed = overflowed_;
    return std::exchange(pending_, {});
  }
  // Whether there is nothing to send; then whoever brings something wakes the coroutine.
  bool WaitsForMore() {
    const std::lock_guard lock(mutex_);
    waiting_ = pending_.empty() && !ended_ && !overflowed_;
    return waiting_;
  }
  // The client has sent something, or closed its side. On the coroutine's strand, like the next.
  void Readable() {
    readable_ = true;
    signal_.cancel();
  }
  bool is_readable() const { return readable_; }
  void Gone() {
    std::function<void()> call;
    {
      const std::lock_guard lock(mutex_);
      if (gone_) return;
      gone_ = true;
      if (!ended_) call = std::move(on_gone_);
      on_gone_ = nullptr;
    }
    if (call) call();
  }
  void Done() {
    const std::lock_guard lock(mutex_);
    gone_ = true;
    on_gone_ = nullptr;
  }
  bool keep_alive() {
    const std::lock_guard lock(mutex_);
    return keep_alive_;
  }
  asio::steady_timer& signal() { return signal_; }

 private:
  void AppendHead(int status, const HttpHeaders& headers) {
    pending_ += StatusLine(status, version_);
    for (const auto& [name, value] : headers) {
      if (value.find_first_of("\r\n") == std::string::npos) pending_ += fmt::format("{}: {}\r\n", name, value);
    }
    if (!keep_alive_) pending_ += "connection: close\r\n";
    if (keep_alive_ && version_ < 11) pending_ += "connection: keep-alive\r\n";
  }

  // With the mutex held. The timer is the coroutine's, so it is cancelled on the coroutine's strand.
  void Wake() {
    if (!std::exchange(waiting_, false)) return;
    asio::post(signal_.get_executor(), [self = shared_from_this()] { self->signal_.cancel(); });
  }

  std::mutex mutex_;
  std::string pending_;
  std::function<void()> on_gone_;
  asio::steady_timer signal_;
  const unsigned version_;
  bool keep_alive_;
  const bool head_only_;
  const size_t most_;
  bool begun_ = false, ended_ = false, chunked_ = false, gone_ = false, overflowed_ = false;
  bool waiting_ = false;   // the coroutine is about to wait, or does
  bool readable_ = false;  // the coroutine's
};

std::shared_ptr<asio::ssl::context> ReadTls(const HttpServerOptions& options) {
  if (options.tls_certificate.empty()) return nullptr;
  auto context = std::make_shared<asio::ssl::context>(asio::ssl::context::tls_server);
  context->set_options(asio::ssl::context::default_workarounds | asio::ssl::context::no_sslv2 |
                       asio::ssl::context::no_sslv3 | asio::ssl::context::no_tlsv1 | asio::ssl::context::no_tlsv1_1);
  boost::system::error_code error;
  context->use_certificate_chain_file(options.tls_certificate, error);
  if (error) {
    Fail(ErrorCode::kMissingFile, options.tls_certificate, "a certificate chain in PEM", error.message());
  }
  context->use_private_key_file(options.tls_key, asio::ssl::context::pem, error);
  if (error) {
    Fail(ErrorCode::kMissingFile, options.tls_key, "the certificate's private key in PEM", error.message());
  }
  return context;
}

HttpRequest MakeRequest(const http::request<http::string_body>& message, const std::string& peer) {
  HttpRequest request;
  request.method = std::string(message.method_string());
  const std::string target(message.target());
  const size_t question = target.find('?');
  request.path = target.substr(0, question);
  if (question != std::string::npos) request.query = target.substr(question + 1);
  for (const auto& field : message) {
    request.headers.emplace_back(std::string(field.name_string()), std::string(field.value()));
  }
  request.body = message.body();
  request.peer = peer;
  return request;
}

// The answer to what never becomes a request, and so belongs to no API: OpenAI's form and Anthropic's in one.
std::string Refusal(int status, const std::string& why) {
  nlohmann::ordered_json error = ApiError(status, "invalid_request_error", why).Json();
  error["type"] = "error";
  const std::string body = DumpJson(error);
  return StatusLine(status, 11) +
         fmt::format("content-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{}", body.size(),
                     body);
}

}  // namespace

std::string_view HttpRequest::Header(std::string_view name) const {
  for (const auto& [key, value] : headers) {
    if (beast::iequals({key.data(), key.size()}, {name.data(), name.size()})) return value;
  }
  return {};
}

struct HttpServer::Impl {
  Impl(const HttpServerOptions& chosen, HttpHandler answers)
      : options(chosen), handler(std::move(answers)), tls(ReadTls(chosen)) {}

  HttpServerOptions options;
  HttpHandler handler;
  asio::io_context context;
  // It is closed while it accepts, perhaps twice at once.
  asio::strand<asio::io_context::executor_type> accepting{context.get_executor()};
  tcp::acceptor acceptor{accepting};
  std::mutex tls_mutex;
  std::shared_ptr<asio::ssl::context> tls;
  std::atomic<int64_t> connections{0};
  std::atomic<bool> stopping{false};
  uint16_t port = 0;
  bool is_loopback = false;
  std::vector<std::thread> threads;

  void Listen() {
    boost::system::error_code error;
    const std::string subject = fmt::format("--host {} --port {}", options.host, options.port);
    const auto check = [&](const char* expected) {
      if (error) Fail(ErrorCode::kUsage, subject, expected, error.message(), "choose another --host or --port");
    };
    tcp::resolver resolver(context);
    const auto found = resolver.resolve(options.host, std::to_string(options.port),
                                        tcp::resolver::passive | tcp::resolver::numeric_service, error);
    check("an address of this machine");
    const tcp::endpoint endpoint = found.begin()->endpoint();
    acceptor.open(endpoint.protocol(), error);
    check("an address to listen on");
    acceptor.set_option(tcp::acceptor::reuse_address(true), error);
    acceptor.bind(endpoint, error);
    check("an address and port that nobody else listens on");
    acceptor.listen(asio::socket_base::max_listen_connections, error);
    check("an address to listen on");
    port = acceptor.local_endpoint().port();
    is_loopback = acceptor.local_endpoint().address().is_loopback();
  }

  asio::awaitable<void> Accept() {
    asio::steady_timer pause(context);
    while (!stopping) {
      if (connections >= options.max_connections) {
        pause.expires_after(std::chrono::milliseconds(20));
        co_await pause.async_wait(kWait);
        continue;
      }
      auto [error, socket] = co_await acceptor.async_accept(asio::make_strand(context), kWait);
      if (stopping) co_return;
      if (error) {  // such as no free file descriptor: later there may be one
        pause.expires_after(std::chrono::milliseconds(100));
        co_await pause.async_wait(kWait);
        continue;
      }
      boost::system::error_code ignored;
      socket.set_option(tcp::no_delay(true), ignored);
      std::shared_ptr<asio::ssl::context> secure;
      {
        const std::lock_guard lock(tls_mutex);
        secure = tls;
      }
      ++connections;
      const auto executor = socket.get_executor();
      const auto done = [this](const std::exception_ptr&) { --connections; };
      if (secure) {
        asio::co_spawn(executor, ServeSecure(std::move(socket), std::move(secure)), done);
      } else {
        asio::co_spawn(executor, ServePlain(std::move(socket)), done);
      }
    }
  }

  asio::awaitable<void> ServePlain(tcp::socket socket) {
    Plain stream(std::move(socket));
    co_await Serve(stream);
    EndSending(stream);
  }

  asio::awaitable<void> ServeSecure(tcp::socket socket, std::shared_ptr<asio::ssl::context> secure) {
    Secure stream(std::move(socket), *secure);
    beast::get_lowest_layer(stream).expires_after(options.header_timeout);
    const auto [error] = co_await stream.async_handshake(asio::ssl::stream_base::server, kWait);
    if (error) co_return;
    co_await Serve(stream);
    beast::get_lowest_layer(stream).expires_after(std::chrono::seconds(5));
    co_await stream.async_shutdown(kWait);
  }

  // RFC 9112, 9.6: a client that still sends finds the answer only if what it sends is taken for a while.
  template <class Stream>
  asio::awaitable<void> Refuse(Stream& stream, int status, const std::string& why) {
    const std::string answer = Refusal(status, why);
    auto& lowest = beast::get_lowest_layer(stream);
    lowest.expires_after(options.header_timeout);
    const auto [error, count] = co_await asio::async_write(stream, asio::buffer(answer), kWait);
    if (error) co_return;
    EndSending(stream);
    lowest.expires_after(kLinger);  // for all of it
    std::vector<char> ignored(size_t{64} << 10);
    for (;;) {
      const auto [end, size] = co_await stream.async_read_some(asio::buffer(ignored), kWait);
      if (end) co_return;
    }
  }

  // Requests of one connection, one after the other.
  template <class Stream>
  asio::awaitable<void> Serve(Stream& stream) {
    boost::system::error_code ignored;
    const tcp::endpoint remote = SocketOf(stream).remote_endpoint(ignored);
    const std::string peer = fmt::format("{}:{}", remote.address().to_string(), remote.port());
    beast::flat_buffer buffer(options.max_header_bytes + (size_t{64} << 10));
    while (!stopping) {
      http::request_parser<http::string_body> parser;
      parser.header_limit(static_cast<uint32_t>(options.max_header_bytes));
      parser.body_limit(options.max_body_bytes);
      auto& lowest = beast::get_lowest_layer(stream);
      if (buffer.size() == 0) {
        lowest.expires_after(options.idle_timeout);
        const auto [error, count] = co_await stream.async_read_some(buffer.prepare(4096), kWait);
        if (error) co_return;
        buffer.commit(count);
      }
      lowest.expires_after(options.header_timeout);
      const auto [header_error, header_bytes] = co_await http::async_read_header(stream, buffer, parser, kWait);
      if (header_error == http::error::end_of_stream || header_error == beast::error::timeout) co_return;
      if (header_error == http::error::header_limit) {
        co_await Refuse(stream, 431, fmt::format("headers: expected at most {} bytes", options.max_header_bytes));
        co_return;
      }
      if (header_error == http::error::body_limit) {
        co_await Refuse(stream, 413, fmt::format("body: expected at most {} bytes", options.max_body_bytes));
        co_return;
      }
      if (header_error) {
        co_await Refuse(stream, 400, "request: expected HTTP/1.1, found what cannot be read as it");
        co_return;
      }
      if (beast::iequals(parser.get()[http::field::expect], "100-continue")) {
        const std::string go_on = "HTTP/1.1 100 Continue\r\n\r\n";
        co_await asio::async_write(stream, asio::buffer(go_on), kWait);
      }
      lowest.expires_after(options.body_timeout);
      if (!parser.is_done()) {
        const auto [error, count] = co_await http::async_read(stream, buffer, parser, kWait);
        if (error == http::error::body_limit) {
          co_await Refuse(stream, 413, fmt::format("body: expected at most {} bytes", options.max_body_bytes));
        } else if (error && error != beast::error::timeout && error != http::error::partial_message) {
          co_await Refuse(stream, 400, "request body: expected what the headers announce");
        }
        if (error) co_return;
      }
      const auto& message = parser.get();
      auto channel =
          std::make_shared<Channel>(stream.get_executor(), message.version(), message.keep_alive() && !stopping,
                                    message.method() == http::verb::head, options.max_unsent_bytes);
      try {
        handler(MakeRequest(message, peer), channel);
      } catch (const std::exception& error) {
        channel->Respond(500, {{"content-type", "text/plain"}}, PrintableLine(error.what()) + "\n");
      }
      const bool sent = co_await Send(stream, channel);
      sent ? channel->Done() : channel->Gone();
      if (!sent || !channel->keep_alive()) co_return;
    }
  }

  // Sends the answer as it comes; false when the client went away or is too slow. A token costs one system call and one
  // wake-up: one wait for what the client may send serves the whole answer.
  template <class Stream>
  asio::awaitable<bool> Send(Stream& stream, const std::shared_ptr<Channel>& channel) {
    auto& lowest = beast::get_lowest_layer(stream);
    auto& socket = SocketOf(stream);
    bool watched = false;
    for (;;) {
      while (channel->WaitsForMore()) {
        if (!watched) {
          watched = true;
          socket.async_wait(tcp::socket::wait_read,
                            asio::bind_executor(stream.get_executor(), [channel](boost::system::error_code error) {
                              if (!error) channel->Readable();
                            }));
        }
        if (channel->is_readable() && PeerClosed(socket)) co_return false;
        auto& signal = channel->signal();
        // What the client has sent waits for the next request; whether the client is still there is asked now and then.
        const auto now = std::chrono::steady_clock::now();
        signal.expires_at(channel->is_readable() ? now + kGonePoll : std::chrono::steady_clock::time_point::max());
        co_await signal.async_wait(kWait);
      }
      bool last = false, overflowed = false;
      const std::string bytes = channel->Take(&last, &overflowed);
      if (overflowed) co_return false;
      const size_t sent = SendAtOnce(stream, bytes);
      if (sent < bytes.size()) {
        lowest.expires_after(options.write_timeout);
        const auto [error, count] = co_await asio::async_write(stream, asio::buffer(bytes) + sent, kWait);
        lowest.expires_never();
        if (error) co_return false;
      }
      if (last) {
        boost::system::error_code ignored;
        if (watched) socket.cancel(ignored);
        co_return true;
      }
    }
  }
};

HttpServer::HttpServer(const HttpServerOptions& options, HttpHandler handler)
    : impl_(std::make_unique<Impl>(options, std::move(handler))) {
  impl_->Listen();
  asio::co_spawn(impl_->accepting, impl_->Accept(), asio::detached);
  for (int i = 0; i < options.threads; ++i) impl_->threads.emplace_back([this] { impl_->context.run(); });
}

HttpServer::~HttpServer() { Stop(); }

uint16_t HttpServer::port() const { return impl_->port; }
bool HttpServer::is_loopback() const { return impl_->is_loopback; }
int64_t HttpServer::connections() const { return impl_->connections; }

void HttpServer::ReloadTls() {
  auto tls = ReadTls(impl_->options);
  const std::lock_guard lock(impl_->tls_mutex);
  impl_->tls = std::move(tls);
}

void HttpServer::StopAccepting() {
  impl_->stopping = true;
  asio::post(impl_->accepting, [this] {
    boost::system::error_code ignored;
    impl_->acceptor.close(ignored);
  });
}

void HttpServer::Stop() {
  StopAccepting();
  impl_->context.stop();
  for (std::thread& thread : impl_->threads) thread.join();
  impl_->threads.clear();
}

}  // namespace mxmla::serve
