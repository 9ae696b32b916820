// Any method, path, headers and body at the server's handler: one answer, whole or as a stream that ends. Lines up to
// an empty one: METHOD PATH, then NAME: VALUE; the rest is the body.
#include <cstdlib>
#include <future>

#include "../serve/scripted_text.h"
#include "serve/server.h"

namespace {

using namespace mxmla::serve;

class OneAnswer final : public Responder {
 public:
  void Respond(int status, HttpHeaders, std::string) override {
    if (status < 200 || status > 599 || begun_) abort();
    End();
  }
  void Begin(int, HttpHeaders) override {
    if (begun_) abort();
    begun_ = true;
  }
  void Write(std::string_view piece) override {
    if (!begun_ || ended_) abort();
    last_ = piece;
  }
  void End() override {
    if (ended_) abort();
    if (begun_ && !last_.ends_with("\n\n")) abort();
    ended_ = true;
    done_.set_value();
  }
  void OnGone(std::function<void()>) override {}

  std::promise<void> done_;

 private:
  bool begun_ = false, ended_ = false;
  std::string last_;
};

std::unique_ptr<Server> MakeServer() {
  ServedText text = MakeScriptedText();
  const mxmla::Tokenizer& tokenizer = *text.tokenizer;
  ServerOptions options;
  options.http.port = 0;
  options.api_keys = {"key"};
  options.allowed_origins = {"http://a.example"};
  return std::make_unique<Server>(std::move(options), std::move(text),
                                  [&] { return std::make_unique<ScriptedEngine>(SayScript(tokenizer)); });
}

std::string_view TakeLine(std::string_view* text) {
  const size_t end = std::min(text->find('\n'), text->size());
  const std::string_view line = text->substr(0, end);
  text->remove_prefix(std::min(end + 1, text->size()));
  return line;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::unique_ptr<Server> server = MakeServer();
  std::string_view rest(reinterpret_cast<const char*>(data), size);
  HttpRequest request;
  const std::string_view first = TakeLine(&rest);
  const size_t space = std::min(first.find(' '), first.size());
  request.method = first.substr(0, space);
  request.path = first.substr(std::min(space + 1, first.size()));
  for (std::string_view line = TakeLine(&rest); !line.empty(); line = TakeLine(&rest)) {
    const size_t colon = std::min(line.find(": "), line.size());
    request.headers.emplace_back(line.substr(0, colon), line.substr(std::min(colon + 2, line.size())));
  }
  request.body = rest;
  const auto answer = std::make_shared<OneAnswer>();
  std::future<void> done = answer->done_.get_future();
  server->Handle(request, answer);
  done.wait();
  return 0;
}
