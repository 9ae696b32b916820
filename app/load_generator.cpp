#include "load_generator.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <boost/asio.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <chrono>
#include <nlohmann/json.hpp>
#include <random>

#include "core/error.h"

namespace mxmla::app {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using tcp = asio::ip::tcp;
using Clock = std::chrono::steady_clock;

constexpr auto kWait = asio::as_tuple(asio::use_awaitable);
constexpr std::string_view kEventEnd = "\n\n";

double SecondsSince(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

// What came of an answer, taken apart after the load: parsing would take time from the server.
struct Received {
  std::string bytes;
  std::vector<std::pair<size_t, double>> arrivals;  // bytes up to there were there at this time
};

double ArrivalOf(const Received& received, size_t end) {
  const auto at = std::lower_bound(received.arrivals.begin(), received.arrivals.end(), end,
                                   [](const auto& arrival, size_t place) { return arrival.first < place; });
  return at == received.arrivals.end() ? 0 : at->second;
}

void ReadEvent(std::string_view event, double time, LoadAnswer* answer) {
  const auto json = nlohmann::json::parse(event, nullptr, false);
  if (!json.is_object()) {
    answer->error = "an event that is no JSON object: " + PrintableLine(event, 60);
    return;
  }
  if (json.contains("error")) answer->error = PrintableLine(json["error"].dump(), 200);
  if (const auto usage = json.find("usage"); usage != json.end() && usage->is_object()) {
    answer->prompt_tokens = usage->value("prompt_tokens", int64_t{0});
    answer->tokens = usage->value("completion_tokens", int64_t{0});
    const auto details = usage->find("prompt_tokens_details");
    if (details != usage->end() && details->is_object()) {
      answer->cached_tokens = details->value("cached_tokens", int64_t{0});
    }
  }
  const auto choices = json.find("choices");
  if (choices == json.end() || !choices->is_array()) return;
  for (const auto& choice : *choices) {
    const nlohmann::json& holder = choice.contains("delta") ? choice["delta"] : choice;
    const char* field = choice.contains("delta") ? "content" : "text";
    if (!holder.contains(field) || !holder[field].is_string()) continue;
    const auto& text = holder[field].get_ref<const std::string&>();
    if (text.empty()) continue;
    answer->text += text;
    answer->event_times.push_back(time);
  }
}

void ReadEvents(const Received& received, LoadAnswer* answer) {
  bool done = false;
  size_t begin = 0;
  const std::string_view bytes = received.bytes;
  for (size_t end = bytes.find(kEventEnd); end != std::string_view::npos; end = bytes.find(kEventEnd, begin)) {
    std::string_view event = bytes.substr(begin, end - begin);
    const double time = ArrivalOf(received, end + kEventEnd.size());
    begin = end + kEventEnd.size();
    if (!event.starts_with("data: ")) continue;
    event.remove_prefix(6);
    if (event == "[DONE]") {
      done = true;
    } else {
      ReadEvent(event, time, answer);
    }
  }
  if (!done && answer->error.empty()) answer->error = "a stream without its end";
}

class Load {
 public:
  Load(const LoadTarget& target, std::span<const std::string> bodies, int64_t requests, const LoadPattern& pattern)
      : target_(target),
        bodies_(bodies),
        pattern_(pattern),
        answers_(static_cast<size_t>(requests)),
        received_(static_cast<size_t>(requests)) {}

  std::vector<LoadAnswer> Run() {
    boost::system::error_code error;
    tcp::resolver resolver(context_);
    endpoints_ = resolver.resolve(target_.host, target_.port, error);
    if (error) Fail(ErrorCode::kUsage, "--url", "a host that can be found", target_.host + ": " + error.message());
    begin_ = Clock::now();
    if (pattern_.rate > 0) {
      asio::co_spawn(context_, Arrive(), asio::detached);
    } else {
      for (int64_t i = 0; i < pattern_.concurrency; ++i) asio::co_spawn(context_, AskAgain(), asio::detached);
    }
    context_.run();
    for (size_t i = 0; i < answers_.size(); ++i) {
      if (answers_[i].error.empty()) ReadEvents(received_[i], &answers_[i]);
    }
    return std::move(answers_);
  }

 private:
  struct Connection {
    explicit Connection(asio::io_context& context) : stream(context) {}
    beast::tcp_stream stream;
    beast::flat_buffer buffer;
    bool open = false;
  };

  // One client of a closed loop.
  asio::awaitable<void> AskAgain() {
    Connection connection(context_);
    while (next_ < answers_.size()) {
      const size_t i = next_++;
      co_await Ask(connection, i, Clock::now());
    }
  }

  asio::awaitable<void> Arrive() {
    std::mt19937_64 random(pattern_.seed);
    std::exponential_distribution<double> gap(pattern_.rate);
    asio::steady_timer timer(context_);
    Clock::time_point due = begin_;
    for (size_t i = 0; i < answers_.size(); ++i) {
      due += std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(gap(random)));
      timer.expires_at(due);
      co_await timer.async_wait(kWait);
      asio::co_spawn(context_, AskOnce(i, due), asio::detached);
    }
  }

  asio::awaitable<void> AskOnce(size_t i, Clock::time_point due) {
    Connection connection(context_);
    co_await Ask(connection, i, due);
  }

  asio::awaitable<void> Ask(Connection& connection, size_t i, Clock::time_point due) {
    LoadAnswer& answer = answers_[i];
    answer.sent = std::chrono::duration<double>(due - begin_).count();
    const auto error = co_await Exchange(connection, i, due);
    answer.end = SecondsSince(due);
    if (!error && answer.status == 200) co_return;
    if (error) answer.error = error.message();
    if (!error) {
      answer.error = fmt::format("status {}: {}", answer.status, PrintableLine(received_[i].bytes, 200));
    }
    connection.stream.close();
    connection.open = false;
  }

  asio::awaitable<boost::system::error_code> Exchange(Connection& connection, size_t i, Clock::time_point due) {
    beast::tcp_stream& stream = connection.stream;
    const auto patience =
        std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(target_.timeout_seconds));
    stream.expires_after(patience);
    if (!connection.open) {
      connection.buffer.clear();
      const auto [error, endpoint] = co_await stream.async_connect(endpoints_, kWait);
      if (error) co_return error;
      boost::system::error_code ignored;
      stream.socket().set_option(tcp::no_delay(true), ignored);
      connection.open = true;
    }
    http::request<http::string_body> request{http::verb::post, target_.path, 11};
    request.set(http::field::host, target_.host);
    request.set(http::field::content_type, "application/json");
    if (!target_.api_key.empty()) request.set(http::field::authorization, "Bearer " + target_.api_key);
    request.body() = bodies_[i % bodies_.size()];
    request.prepare_payload();
    if (const auto [error, count] = co_await http::async_write(stream, request, kWait); error) co_return error;

    http::response_parser<http::buffer_body> parser;
    parser.body_limit(boost::none);
    if (const auto [error, count] = co_await http::async_read_header(stream, connection.buffer, parser, kWait); error) {
      co_return error;
    }
    answers_[i].status = static_cast<int>(parser.get().result_int());
    Received& received = received_[i];
    std::array<char, 16384> piece{};
    while (!parser.is_done()) {
      auto& body = parser.get().body();
      body.data = piece.data();
      body.size = piece.size();
      stream.expires_after(patience);
      const auto [error, count] = co_await http::async_read_some(stream, connection.buffer, parser, kWait);
      if (error && error != http::error::need_buffer) co_return error;
      const size_t size = piece.size() - body.size;
      if (size == 0) continue;
      received.bytes.append(piece.data(), size);
      received.arrivals.emplace_back(received.bytes.size(), SecondsSince(due));
    }
    if (!parser.keep_alive()) {
      stream.close();
      connection.open = false;
    }
    co_return boost::system::error_code();
  }

  const LoadTarget& target_;
  const std::span<const std::string> bodies_;
  const LoadPattern pattern_;
  asio::io_context context_{1};
  tcp::resolver::results_type endpoints_;
  Clock::time_point begin_;
  size_t next_ = 0;
  std::vector<LoadAnswer> answers_;
  std::vector<Received> received_;
};

}  // namespace

std::vector<LoadAnswer> RunLoad(const LoadTarget& target, std::span<const std::string> bodies, int64_t requests,
                                const LoadPattern& pattern) {
  return Load(target, bodies, requests, pattern).Run();
}

}  // namespace mxmla::app
