// The server by its sockets, from several threads at once; the command line's tests ask it more.
#include "serve/server.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <future>

#include "serve/engine_thread.h"

namespace mxmla::serve {
namespace {

class Connection {
 public:
  explicit Connection(uint16_t port) : socket_(socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(socket_, reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0) ADD_FAILURE() << "connect";
  }
  ~Connection() { close(socket_); }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  void Send(const std::string& text) const {
    EXPECT_EQ(send(socket_, text.data(), text.size(), MSG_NOSIGNAL), static_cast<ssize_t>(text.size()));
  }
  std::string ReadSome() const {
    char buffer[4096];
    const ssize_t count = recv(socket_, buffer, sizeof(buffer), 0);
    return std::string(buffer, static_cast<size_t>(std::max<ssize_t>(count, 0)));
  }
  std::string ReadAll() const {
    std::string all;
    for (std::string some = ReadSome(); !some.empty(); some = ReadSome()) all += some;
    return all;
  }

 private:
  int socket_;
};

std::string Post(const std::string& path, const std::string& body) {
  return fmt::format(
      "POST {} HTTP/1.1\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{}", path,
      body.size(), body);
}

class ServerTest : public testing::Test {
 protected:
  static ServedText Text() {
    ServedText text;
    text.name = "tiny";
    text.vocab_size = 1536;
    text.max_context = 256;
    text.tokenizer = Tokenizer::Load(MXMLA_TINY_GSM);
    text.end_tokens = {1};
    return text;
  }
  static std::unique_ptr<ServedModel> Load() {
    auto served = std::make_unique<ServedModel>();
    served->model = LoadedModel::Open(MXMLA_TINY_GSM, {"cpu", 2});
    served->options.max_sequences = 8;
    served->options.max_context = 256;
    return served;
  }
  ServerTest() {
    ServerOptions options;
    options.http.port = 0;
    server_ = std::make_unique<Server>(std::move(options), Text(), [this] {
      return std::make_unique<EngineThread>(Load, [this](const EngineState&) { loaded_.set_value(); });
    });
  }
  void WaitUntilLoaded() { loaded_.get_future().wait(); }
  std::string Ask(const std::string& request) const {
    const Connection connection(server_->port());
    connection.Send(request);
    return connection.ReadAll();
  }

  std::promise<void> loaded_;
  std::unique_ptr<Server> server_;
};

// The text of a stream's events.
std::string TextOf(const std::string& answer) {
  std::string text;
  for (size_t at = answer.find("data: {"); at != std::string::npos; at = answer.find("data: {", at + 1)) {
    const std::string line = answer.substr(at + 6, answer.find("\n\n", at) - at - 6);
    text += nlohmann::json::parse(line)["choices"][0]["text"].get<std::string>();
  }
  return text;
}

TEST_F(ServerTest, AnswersWhileTheModelLoadsAndAfterwards) {
  EXPECT_NE(Ask("GET /version HTTP/1.1\r\nconnection: close\r\n\r\n").find("200 OK"), std::string::npos);
  WaitUntilLoaded();
  EXPECT_NE(Ask("GET /health HTTP/1.1\r\nconnection: close\r\n\r\n").find(R"({"status":"ok"})"), std::string::npos);
}

TEST_F(ServerTest, StreamsOfManyClientsAreEachAsAlone) {
  WaitUntilLoaded();
  const auto request = [](int i) {
    return Post(
        "/v1/completions",
        fmt::format(R"({{"prompt": "Tom has {} apples.", "seed": {}, "max_tokens": 12, "stream": true}})", i, i));
  };
  std::vector<std::string> alone, together(16);
  for (int i = 0; i < 16; ++i) alone.push_back(TextOf(Ask(request(i))));
  std::vector<std::thread> threads;
  for (size_t i = 0; i < 16; ++i) {
    threads.emplace_back([&, i] { together[i] = TextOf(Ask(request(static_cast<int>(i)))); });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(together, alone);
  EXPECT_FALSE(alone[0].empty());
}

TEST_F(ServerTest, ClientsThatGoAwayFreeTheirRequests) {
  WaitUntilLoaded();
  for (int i = 0; i < 8; ++i) {
    const Connection connection(server_->port());
    connection.Send(
        Post("/v1/completions", R"({"prompt": "x", "max_tokens": 240, "ignore_eos": true, "stream": true})"));
    if (i % 2 == 1) {
      EXPECT_FALSE(connection.ReadSome().empty());
    }
  }
  for (int i = 0; i < 2000 && server_->open_requests() > 0; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  EXPECT_EQ(server_->open_requests(), 0);
}

TEST_F(ServerTest, EndsWithRequestsAndConnectionsOpen) {
  WaitUntilLoaded();
  const Connection idle(server_->port());
  const Connection busy(server_->port());
  busy.Send(Post("/v1/completions", R"({"prompt": "x", "max_tokens": 240, "ignore_eos": true, "stream": true})"));
  EXPECT_FALSE(busy.ReadSome().empty());
  server_.reset();
}

}  // namespace
}  // namespace mxmla::serve
