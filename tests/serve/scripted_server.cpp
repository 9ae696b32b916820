// A server whose model says what it is told to, for clients written by others (tests/cli/test_serve_clients.py). Prints
// "listening on ..." and ends with its standard input.
#include <fmt/format.h>

#include <cstdio>

#include "scripted_text.h"
#include "serve/server.h"

int main(int argc, char** argv) {
  using namespace mxmla::serve;
  ServedText text = MakeScriptedText(argc > 1 ? argv[1] : "glm47");
  const mxmla::Tokenizer& tokenizer = *text.tokenizer;
  ServerOptions options;
  options.http.port = 0;
  options.api_keys = {"key"};
  Server server(std::move(options), std::move(text),
                [&] { return std::make_unique<ScriptedEngine>(SayScript(tokenizer)); });
  fmt::print("listening on http://127.0.0.1:{}\n", server.port());
  std::fflush(stdout);
  while (std::getchar() != EOF) {
  }
  return 0;
}
