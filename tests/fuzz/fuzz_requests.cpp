// Any text as the body of a request, read by each API: a request that can be run, or an error of one line. The first
// byte chooses the API and the family of the model's template.
#include <cstdlib>

#include "../serve/scripted_text.h"
#include "core/error.h"
#include "serve/chat_completions.h"
#include "serve/messages.h"
#include "serve/responses.h"
#include "serve/text_completions.h"

namespace {

using namespace mxmla;
using namespace mxmla::serve;

void Check(const ServedText& text, const CompletionJob& job) {
  for (const GenerateRequest& request : job.requests) {
    if (request.prompt.empty() || request.max_tokens < 0) abort();
    if (static_cast<int64_t>(request.prompt.size()) + request.max_tokens > text.max_context) abort();
  }
  for (const std::string& stop : job.parsing.stop_strings) {
    if (stop.empty()) abort();
  }
}

void Read(const ServedText& text, int api, const Json& body) {
  switch (api) {
    case 0:
      MakeChatCompletionWriter(text, body);
      return Check(text, ChatJob(text, ReadChatCompletion(text, body)));
    case 1: {
      ResponseStore store(2, 1 << 16);
      const ChatRequest request = ReadResponse(text, body, Json::array());
      MakeResponseWriter(text, body, request, KeepIn(store, "", body, Json::array()));
      return Check(text, ChatJob(text, request));
    }
    case 2:
      return Check(text, ChatJob(text, ReadMessagesRequest(text, body, false)));
    default:
      return Check(text, ReadTextCompletion(text, body).job);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const ServedText texts[] = {MakeScriptedText("glm47"), MakeScriptedText("kimi_k2"),
                                     MakeScriptedText("mistral")};
  if (size == 0) return 0;
  const ServedText& text = texts[data[0] / 4 % 3];
  try {
    Read(text, data[0] % 4, ReadBody({reinterpret_cast<const char*>(data) + 1, size - 1}));
  } catch (const ApiError& error) {
    if (error.status < 400 || error.message.empty() || error.message.find('\n') != std::string::npos) abort();
    DumpJson(error.Json());
    DumpJson(error.Json(ErrorForm::kAnthropic));
  } catch (const Error& error) {
    if (std::string_view(error.what()).find('\n') != std::string_view::npos) abort();
  }
  return 0;
}
