// The APIs as readers and writers of one request and one answer: scripted answers, whole and streamed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>

#include "grammar/tool_grammar.h"
#include "scripted_text.h"
#include "serve/chat_completions.h"
#include "serve/messages.h"
#include "serve/responses.h"
#include "serve/server.h"

namespace mxmla::serve {
namespace {

struct Answer {
  int status = 0;
  HttpHeaders headers;
  std::string body;

  Json json() const { return Json::parse(body); }
  // The data of the events, and their names where they have any.
  std::vector<std::pair<std::string, Json>> events() const {
    std::vector<std::pair<std::string, Json>> events;
    for (size_t at = 0; at < body.size();) {
      const size_t end = body.find("\n\n", at);
      const std::string event = body.substr(at, end - at);
      const size_t data = event.find("data: ");
      const std::string name = data > 0 ? event.substr(7, data - 8) : "";
      const std::string text = event.substr(data + 6);
      events.emplace_back(name, text == "[DONE]" ? Json(text) : Json::parse(text));
      at = end + 2;
    }
    return events;
  }
};

class Capture final : public Responder {
 public:
  void Respond(int status, HttpHeaders headers, std::string body) override {
    answer_ = {status, std::move(headers), std::move(body)};
    done_.set_value(answer_);
  }
  void Begin(int status, HttpHeaders headers) override {
    answer_.status = status;
    answer_.headers = std::move(headers);
  }
  void Write(std::string_view piece) override { answer_.body += piece; }
  void End() override { done_.set_value(answer_); }
  void OnGone(std::function<void()>) override {}

  std::promise<Answer> done_;

 private:
  Answer answer_;
};

class Protocols : public testing::Test {
 protected:
  void Start(const std::string& format = "glm47") { Start(MakeScriptedText(format)); }
  void Start(ServedText text) {
    server_.reset();
    const Tokenizer& tokenizer = *text.tokenizer;
    tokenizer_ = &tokenizer;
    ServerOptions options;
    options.http.port = 0;
    server_ = std::make_unique<Server>(std::move(options), std::move(text), [&] {
      auto engine = std::make_unique<ScriptedEngine>(SayScript(tokenizer));
      engine_ = engine.get();
      return engine;
    });
  }
  Answer Post(const std::string& path, const Json& body, const std::string& method = "POST") const {
    HttpRequest request;
    request.method = method;
    const size_t question = std::min(path.find('?'), path.size());
    request.path = path.substr(0, question);
    request.query = path.substr(std::min(question + 1, path.size()));
    request.headers = headers_;
    request.body = body.is_string() ? body.get<std::string>() : body.dump();
    const auto capture = std::make_shared<Capture>();
    std::future<Answer> done = capture->done_.get_future();
    server_->Handle(request, capture);
    return done.get();
  }
  Json Ask(const std::string& path, const Json& body) const {
    const Answer answer = Post(path, body);
    EXPECT_EQ(answer.status, 200) << answer.body;
    return answer.json();
  }
  std::vector<std::pair<std::string, Json>> Stream(const std::string& path, Json body) const {
    body["stream"] = true;
    const Answer answer = Post(path, body);
    EXPECT_EQ(answer.status, 200) << answer.body;
    return answer.events();
  }
  std::string LastPrompt() const { return tokenizer_->Decode(engine_->last_request().prompt); }

  void ExpectRefused(const std::string& path, const Json& body, const std::string& field) const {
    const Answer answer = Post(path, body);
    EXPECT_EQ(answer.status, 400) << body;
    EXPECT_EQ(answer.json()["error"]["param"], field) << answer.body;
    EXPECT_THAT(answer.json()["error"]["message"].get<std::string>(), testing::StartsWith(field));
  }

  HttpHeaders headers_ = {{"Content-Type", "application/json; charset=utf-8"}};
  const Tokenizer* tokenizer_ = nullptr;
  ScriptedEngine* engine_ = nullptr;
  std::unique_ptr<Server> server_;
};

const Json kParameters =
    Json::parse(R"({"type": "object", "properties": {"place": {"type": "string"}, "days": {"type": "integer"}}})");
const char* const kSay =
    "[say]<think>Rome, they say.</think>Let me look.\n<tool_call>weather<arg_key>place</arg_key><arg_value>Rome 🌦"
    "</arg_value><arg_key>days</arg_key><arg_value>2</arg_value></tool_call>\n<tool_call>time</tool_call>[/say]";

Json ChatTools() {
  Json time = FunctionTool("time", nullptr, nullptr);
  return Json::array({FunctionTool("weather", "The weather.", kParameters), std::move(time)});
}
Json ChatBody(const std::string& content = kSay) {
  return {{"messages", Json::array({{{"role", "user"}, {"content", content}}})}, {"tools", ChatTools()}};
}
Json ResponseBody(const std::string& input = kSay) {
  Json body = {{"input", input}, {"tools", Json::array()}};
  body["tools"].push_back({{"type", "function"}, {"name", "weather"}, {"description", "The weather."}});
  body["tools"][0]["parameters"] = kParameters;
  body["tools"].push_back({{"type", "function"}, {"name", "time"}, {"parameters", nullptr}, {"strict", false}});
  return body;
}
Json MessagesBody(const std::string& content = kSay) {
  Json body = {{"max_tokens", 1000}, {"messages", Json::array({{{"role", "user"}, {"content", content}}})}};
  body["tools"] = Json::array({{{"name", "weather"}, {"description", "The weather."}}, {{"name", "time"}}});
  body["tools"][0]["input_schema"] = kParameters;
  return body;
}

// What a chat stream's deltas come to, as a choice's message.
Json JoinChat(const std::vector<std::pair<std::string, Json>>& events, size_t index = 0) {
  Json message = {{"role", nullptr}, {"content", nullptr}};
  std::string reasoning;
  Json calls = Json::array();
  for (const auto& [name, event] : events) {
    if (!event.is_object()) continue;
    for (const Json& choice : event["choices"]) {
      if (choice["index"] != index) continue;
      const Json& delta = choice["delta"];
      if (delta.contains("role")) message["role"] = delta["role"];
      if (delta.contains("content") && delta["content"].is_string()) {
        const std::string before = message["content"].is_string() ? message["content"].get<std::string>() : "";
        message["content"] = before + delta["content"].get<std::string>();
      }
      if (delta.contains("reasoning_content")) reasoning += delta["reasoning_content"].get<std::string>();
      if (!delta.contains("tool_calls")) continue;
      for (Json call : delta["tool_calls"]) {
        const auto at = call["index"].get<size_t>();
        call.erase("index");
        if (call.contains("id")) {
          EXPECT_EQ(at, calls.size());
          calls.push_back(std::move(call));
        } else {
          EXPECT_EQ(at + 1, calls.size());
          Json& arguments = calls.back()["function"]["arguments"];
          arguments = arguments.get<std::string>() + call["function"]["arguments"].get<std::string>();
        }
      }
    }
  }
  if (!reasoning.empty()) message["reasoning_content"] = reasoning;
  if (!calls.empty()) message["tool_calls"] = calls;
  return message;
}

// Without what differs from answer to answer.
Json WithoutIds(Json json) {
  if (json.is_object()) {
    for (const char* id : {"id", "call_id", "item_id", "created_at", "completed_at"}) json.erase(id);
  }
  if (json.is_structured()) {
    for (Json& value : json) value = WithoutIds(std::move(value));
  }
  return json;
}

TEST_F(Protocols, ChatAnswersWithThoughtsAndCalls) {
  Start();
  const Json answer = Ask("/v1/chat/completions", ChatBody());
  const Json& choice = answer["choices"][0];
  EXPECT_EQ(choice["finish_reason"], "tool_calls");
  EXPECT_EQ(choice["message"]["reasoning_content"], "Rome, they say.");
  EXPECT_EQ(choice["message"]["content"], "Let me look.");
  const Json& calls = choice["message"]["tool_calls"];
  ASSERT_EQ(calls.size(), 2u);
  EXPECT_EQ(calls[0]["function"], Json({{"name", "weather"}, {"arguments", R"({"place": "Rome 🌦", "days": 2})"}}));
  EXPECT_EQ(calls[1]["function"], Json({{"name", "time"}, {"arguments", "{}"}}));
  EXPECT_THAT(calls[0]["id"].get<std::string>(), testing::MatchesRegex("call_[0-9a-f]{24}"));
  EXPECT_NE(calls[0]["id"], calls[1]["id"]);
  EXPECT_EQ(answer["usage"]["completion_tokens_details"]["reasoning_tokens"], 16);

  const auto events = Stream("/v1/chat/completions", ChatBody());
  EXPECT_EQ(WithoutIds(JoinChat(events)), WithoutIds(choice["message"]));
  EXPECT_EQ(events[events.size() - 2].second["choices"][0]["finish_reason"], "tool_calls");
  EXPECT_EQ(events.back().second, "[DONE]");
}

TEST_F(Protocols, ResponsesAreTheSameWholeAndStreamed) {
  Start();
  const Json answer = Ask("/v1/responses", ResponseBody());
  EXPECT_EQ(answer["status"], "completed");
  const Json& output = answer["output"];
  ASSERT_EQ(output.size(), 4u);
  EXPECT_EQ(output[0]["type"], "reasoning");
  EXPECT_EQ(output[0]["content"][0], Json({{"type", "reasoning_text"}, {"text", "Rome, they say."}}));
  EXPECT_EQ(output[1]["content"][0]["text"], "Let me look.");
  EXPECT_EQ(output[2]["type"], "function_call");
  EXPECT_EQ(output[2]["arguments"], R"({"place": "Rome 🌦", "days": 2})");
  EXPECT_EQ(output[3]["name"], "time");
  EXPECT_EQ(answer["usage"]["output_tokens_details"]["reasoning_tokens"], 16);
  EXPECT_EQ(answer["tools"].size(), 2u);

  const auto events = Stream("/v1/responses", ResponseBody());
  std::map<int64_t, std::string> texts;  // by output_index, of the deltas
  std::vector<std::string> names;
  for (size_t i = 0; i < events.size(); ++i) {
    const auto& [name, event] = events[i];
    EXPECT_EQ(event["type"], name);
    EXPECT_EQ(event["sequence_number"], i);
    if (names.empty() || names.back() != name) names.push_back(name);
    if (name.ends_with(".delta")) texts[event["output_index"].get<int64_t>()] += event["delta"].get<std::string>();
  }
  const Json& last = events.back().second["response"];
  EXPECT_EQ(WithoutIds(last), WithoutIds(answer));
  EXPECT_EQ(texts[0], "Rome, they say.");
  EXPECT_EQ(texts[1], "Let me look.");
  EXPECT_EQ(texts[2], output[2]["arguments"]);
  EXPECT_EQ(texts[3], "{}");
  const std::vector<std::string> item = {"response.output_item.added", "response.content_part.added"};
  EXPECT_THAT(names, testing::ElementsAre(
                         "response.created", "response.in_progress", item[0], item[1], "response.reasoning_text.delta",
                         "response.reasoning_text.done", "response.content_part.done", "response.output_item.done",
                         item[0], item[1], "response.output_text.delta", "response.output_text.done",
                         "response.content_part.done", "response.output_item.done", item[0],
                         "response.function_call_arguments.delta", "response.function_call_arguments.done",
                         "response.output_item.done", item[0], "response.function_call_arguments.delta",
                         "response.function_call_arguments.done", "response.output_item.done", "response.completed"));
}

TEST_F(Protocols, MessagesAreTheSameWholeAndStreamed) {
  Start();
  const Json answer = Ask("/v1/messages", MessagesBody());
  EXPECT_EQ(answer["stop_reason"], "tool_use");
  const Json& content = answer["content"];
  ASSERT_EQ(content.size(), 4u);
  EXPECT_EQ(content[0]["thinking"], "Rome, they say.");
  EXPECT_EQ(content[1]["text"], "Let me look.");
  EXPECT_EQ(content[2]["input"], Json({{"place", "Rome 🌦"}, {"days", 2}}));
  EXPECT_EQ(content[3]["name"], "time");
  const Json& usage = answer["usage"];
  EXPECT_EQ(usage["input_tokens"].get<int64_t>() + usage["cache_read_input_tokens"].get<int64_t>(),
            static_cast<int64_t>(engine_->last_request().prompt.size()));

  Json joined;
  std::vector<std::string> inputs;
  for (const auto& [name, event] : Stream("/v1/messages", MessagesBody())) {
    EXPECT_EQ(event["type"], name);
    if (name == "message_start") joined = event["message"];
    if (name == "content_block_start") {
      EXPECT_EQ(event["index"], joined["content"].size());
      joined["content"].push_back(event["content_block"]);
      inputs.emplace_back();
    }
    if (name == "content_block_delta") {
      Json& block = joined["content"].back();
      const Json& delta = event["delta"];
      for (const char* field : {"text", "thinking", "signature"}) {
        if (delta.contains(field)) block[field] = block[field].get<std::string>() + delta[field].get<std::string>();
      }
      if (delta.contains("partial_json")) inputs.back() += delta["partial_json"].get<std::string>();
    }
    if (name == "content_block_stop" && !inputs.back().empty()) {
      joined["content"].back()["input"] = Json::parse(inputs.back());
    }
    if (name == "message_delta") {
      joined.update(event["delta"]);
      joined["usage"] = event["usage"];
    }
  }
  EXPECT_EQ(WithoutIds(joined), WithoutIds(answer));
}

// A conversation with calls and results gives the model the same prompt by whichever API it comes.
TEST_F(Protocols, AllReadTheSameConversation) {
  Start();
  Json chat = ChatBody();
  chat["messages"] = Json::parse(R"([
      {"role": "system", "content": "Be brief."}, {"role": "user", "content": "Rome?"},
      {"role": "assistant", "content": "A moment.", "reasoning_content": "They ask.", "tool_calls": [
          {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{\"place\": \"Rome\", \"days\": 2}"}},
          {"id": "call_2", "type": "function", "function": {"name": "time", "arguments": "{}"}}]},
      {"role": "tool", "tool_call_id": "call_1", "name": "weather", "content": "sunny"},
      {"role": "tool", "tool_call_id": "call_2", "name": "time", "content": "noon"},
      {"role": "user", "content": "Thanks"}])");
  Ask("/v1/chat/completions", chat);
  const std::string prompt = LastPrompt();
  EXPECT_THAT(prompt, testing::HasSubstr("<think>They ask.</think>A moment.<tool_call>weather<arg_key>place</arg_key>"
                                         "<arg_value>Rome</arg_value>"));
  EXPECT_THAT(prompt, testing::HasSubstr("tool: sunny (weather call_1)"));

  Json response = ResponseBody();
  response["instructions"] = "Be brief.";
  response["input"] = Json::parse(R"([
      {"role": "user", "content": [{"type": "input_text", "text": "Rome?"}]},
      {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "They ask."}]},
      {"type": "message", "id": "msg_1", "role": "assistant", "content": [{"type": "output_text", "text": "A moment."}]},
      {"type": "function_call", "call_id": "call_1", "name": "weather", "arguments": "{\"place\": \"Rome\", \"days\": 2}"},
      {"type": "function_call", "call_id": "call_2", "name": "time", "arguments": "{}"},
      {"type": "function_call_output", "call_id": "call_1", "output": "sunny"},
      {"type": "function_call_output", "call_id": "call_2", "output": [{"type": "input_text", "text": "noon"}]},
      {"role": "user", "content": "Thanks"}])");
  Ask("/v1/responses", response);
  EXPECT_EQ(LastPrompt(), prompt);

  Json messages = MessagesBody();
  messages["system"] =
      Json::parse(R"([{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}])");
  messages["messages"] = Json::parse(R"([
      {"role": "user", "content": "Rome?"},
      {"role": "assistant", "content": [{"type": "thinking", "thinking": "They ask.", "signature": ""},
          {"type": "text", "text": "A moment."},
          {"type": "tool_use", "id": "call_1", "name": "weather", "input": {"place": "Rome", "days": 2}},
          {"type": "tool_use", "id": "call_2", "name": "time", "input": {}}]},
      {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "call_1", "content": "sunny"},
          {"type": "tool_result", "tool_use_id": "call_2", "content": [{"type": "text", "text": "noon"}]},
          {"type": "text", "text": "Thanks"}]}])");
  Ask("/v1/messages", messages);
  EXPECT_EQ(LastPrompt(), prompt);
  messages.erase("max_tokens");
  EXPECT_EQ(Ask("/v1/messages/count_tokens", messages)["input_tokens"], engine_->last_request().prompt.size());
  EXPECT_EQ(Ask("/tokenize", chat)["count"], engine_->last_request().prompt.size());
}

TEST_F(Protocols, IdsAreTheModelsOrAsItsTemplateWantsThem) {
  Start("kimi_k2");
  const std::string call = "<|tool_call_begin|>functions.time:0<|tool_call_argument_begin|>{}<|tool_call_end|>";
  const auto ask = [&](const std::string& say) {
    return Ask("/v1/chat/completions", ChatBody("[say]" + say + "[/say]"))["choices"][0]["message"];
  };
  Json message = ask(call + call);
  EXPECT_EQ(message["content"], nullptr);
  EXPECT_EQ(message["tool_calls"][0]["id"], "functions.time:0");
  EXPECT_NE(message["tool_calls"][1]["id"], "functions.time:0");  // which is taken
  Start("mistral");
  message = ask("[TOOL_CALLS]time[CALL_ID]abcdefghi[ARGS]{}[TOOL_CALLS]time[ARGS]{}");
  EXPECT_EQ(message["tool_calls"][0]["id"], "abcdefghi");
  const auto made = message["tool_calls"][1]["id"].get<std::string>();
  EXPECT_THAT(made, testing::MatchesRegex("[0-9A-Za-z]{9}"));
  // One that another server made becomes one that the template takes, the same at the call and at its result.
  Json body = ChatBody();
  body["messages"].push_back({{"role", "assistant"}, {"content", nullptr}, {"tool_calls", Json::array()}});
  body["messages"][1]["tool_calls"] = message["tool_calls"];
  body["messages"][1]["tool_calls"][0]["id"] = "call_from_elsewhere";
  body["messages"].push_back({{"role", "tool"}, {"tool_call_id", "call_from_elsewhere"}, {"content", "noon"}});
  Ask("/v1/chat/completions", body);
  const std::string prompt = LastPrompt();
  EXPECT_THAT(prompt, testing::HasSubstr("[CALL_ID]" + made + "[ARGS]"));
  const size_t at = prompt.find("[CALL_ID]");
  EXPECT_THAT(prompt, testing::HasSubstr(prompt.substr(at + 9, 9) + ")"));
}

TEST_F(Protocols, WhatIsNoCallIsText) {
  Start();
  const auto message = [&](const Json& body) { return Ask("/v1/chat/completions", body)["choices"][0]; };
  const std::string broken = "<tool_call>weather<arg_key>place</arg_key></tool_call>";
  Json choice = message(ChatBody("[say]So: " + broken + "[/say]"));
  EXPECT_EQ(choice["message"]["content"], "So: " + broken);
  EXPECT_EQ(choice["finish_reason"], "stop");
  EXPECT_FALSE(choice["message"].contains("tool_calls"));
  // Cut off.
  Json body = ChatBody();
  body["max_tokens"] = 40;
  choice = message(body);
  EXPECT_EQ(choice["finish_reason"], "length");
  EXPECT_FALSE(choice["message"].contains("tool_calls"));
  // Not offered.
  body = ChatBody("[say]<tool_call>time</tool_call>[/say]");
  body["tool_choice"] = "none";
  choice = message(body);
  EXPECT_EQ(choice["message"]["content"], "<tool_call>time</tool_call>");
  EXPECT_THAT(LastPrompt(), testing::Not(testing::HasSubstr("tools: ")));
  // Only the first.
  body = ChatBody();
  body["parallel_tool_calls"] = false;
  choice = message(body);
  EXPECT_EQ(choice["message"]["tool_calls"].size(), 1u);
  EXPECT_EQ(choice["finish_reason"], "tool_calls");
}

// A call that is spoiled after its beginning went out: it stays unfinished, and its text follows as in the whole
// answer.
TEST_F(Protocols, SpoiledCallsOfAStreamAreUnfinished) {
  Start("kimi_k2");
  const std::string begin = "<|tool_call_begin|>functions.time:0<|tool_call_argument_begin|>{\"a\": [1, 2";
  const std::string spoiled = begin + "}}<|tool_call_end|>";
  const std::string say = "[say]So: " + spoiled + " well[/say]";
  const Json whole = Ask("/v1/chat/completions", ChatBody(say))["choices"][0];
  EXPECT_EQ(whole["message"]["content"], "So: " + spoiled + " well");
  EXPECT_FALSE(whole["message"].contains("tool_calls"));
  const auto chat = Stream("/v1/chat/completions", ChatBody(say));
  const Json joined = JoinChat(chat);
  EXPECT_EQ(joined["content"], whole["message"]["content"]);
  EXPECT_EQ(joined["tool_calls"][0]["function"]["arguments"], "{\"a\": [1, 2}");
  EXPECT_EQ(chat[chat.size() - 2].second["choices"][0]["finish_reason"], "stop");

  const Json last = Stream("/v1/responses", ResponseBody(say)).back().second["response"];
  ASSERT_EQ(last["output"].size(), 3u);
  EXPECT_EQ(last["output"][1]["status"], "incomplete");
  EXPECT_EQ(last["output"][1]["arguments"], "{\"a\": [1, 2}");
  EXPECT_EQ(last["output"][2]["content"][0]["text"], " " + spoiled + " well");
  // What goes on from there knows it as text alone.
  Json next = ResponseBody("[say]yes[/say]");
  next["previous_response_id"] = last["id"];
  Ask("/v1/responses", next);
  EXPECT_THAT(LastPrompt(), testing::HasSubstr(spoiled));

  // Its clients read unfinished JSON as if it were whole.
  const auto messages = Stream("/v1/messages", MessagesBody(say));
  EXPECT_EQ(messages.back().first, "error");
  EXPECT_THAT(messages.back().second["error"]["message"].get<std::string>(), testing::HasSubstr("call of time"));
  // Cut off is what max_tokens says.
  Json cut = MessagesBody("[say]" + begin + "[/say]");
  cut["max_tokens"] = 25;
  const auto events = Stream("/v1/messages", cut);
  EXPECT_EQ(events.back().first, "message_stop");
  EXPECT_EQ(events[events.size() - 2].second["delta"]["stop_reason"], "max_tokens");
}

TEST_F(Protocols, ArgumentsAreStreamedAsTheyCome) {
  Start();
  int chat = 0, responses = 0, messages = 0;
  for (const auto& [name, event] : Stream("/v1/chat/completions", ChatBody())) {
    chat += event.is_object() && event["choices"][0]["delta"].contains("tool_calls");
  }
  for (const auto& [name, event] : Stream("/v1/responses", ResponseBody())) {
    responses += name == "response.function_call_arguments.delta";
  }
  for (const auto& [name, event] : Stream("/v1/messages", MessagesBody())) {
    messages += name == "content_block_delta" && event["delta"]["type"] == "input_json_delta";
  }
  // "Rome 🌦" comes in six characters.
  EXPECT_GE(chat, 8);
  EXPECT_GE(responses, 8);
  EXPECT_GE(messages, 8);
}

TEST_F(Protocols, ResponsesGoOnFromStoredOnes) {
  Start();
  Json body = ResponseBody("[say]<think>hm</think>Look.<tool_call>time</tool_call>[/say]");
  body["instructions"] = "Be brief.";
  const Json first = Ask("/v1/responses", body);
  EXPECT_EQ(first["store"], true);
  const auto id = first["id"].get<std::string>();
  EXPECT_EQ(Post("/v1/responses/" + id, "", "GET").json(), first);
  body = ResponseBody();
  body["previous_response_id"] = id;
  body["input"] = Json::array({{{"type", "function_call_output"}, {"output", "noon"}}});
  body["input"][0]["call_id"] = first["output"][2]["call_id"];
  body["input"].push_back({{"role", "user"}, {"content", "[say]Thanks.[/say]"}});
  const Json second = Stream("/v1/responses", body).back().second["response"];
  EXPECT_EQ(second["previous_response_id"], id);
  EXPECT_EQ(second["output"][0]["content"][0]["text"], "Thanks.");
  const std::string prompt = LastPrompt();
  EXPECT_THAT(prompt, testing::HasSubstr("assistant: <think>hm</think>Look.<tool_call>time</tool_call>"));
  EXPECT_THAT(prompt, testing::HasSubstr("tool: noon (time "));
  EXPECT_THAT(prompt, testing::Not(testing::HasSubstr("Be brief.")));  // instructions are a request's own
  // What it was made from: the conversation before it, and its own input.
  const std::string items_path = "/v1/responses/" + second["id"].get<std::string>() + "/input_items";
  const Json items = Post(items_path + "?order=asc", "", "GET").json()["data"];
  ASSERT_EQ(items.size(), 1 + first["output"].size() + 2);
  EXPECT_THAT(items[0]["content"][0]["text"].get<std::string>(), testing::StartsWith("[say]<think>hm"));
  EXPECT_EQ(items[3], first["output"][2]);
  EXPECT_EQ(items[4]["output"], "noon");
  EXPECT_EQ(Post(items_path + "?order=asc", "", "GET").json()["data"], items);
  EXPECT_EQ(Post(items_path, "", "DELETE").status, 405);
  EXPECT_EQ(Post("/v1/responses/none/input_items", "", "GET").status, 404);
  // The stream's answer was kept, too; the first is no longer needed for it.
  EXPECT_EQ(Post("/v1/responses/" + id, "", "DELETE").json()["deleted"], true);
  EXPECT_EQ(Post("/v1/responses/" + id, "", "DELETE").status, 404);
  EXPECT_EQ(Post("/v1/responses/" + id, "", "GET").status, 404);
  EXPECT_EQ(Post("/v1/responses/" + id, "", "PUT").status, 405);
  body = ResponseBody("[say]Yes.[/say]");
  body["previous_response_id"] = second["id"];
  body["store"] = false;
  const Json third = Ask("/v1/responses", body);
  EXPECT_EQ(third["store"], false);
  EXPECT_THAT(LastPrompt(), testing::HasSubstr("assistant: Thanks."));
  EXPECT_EQ(Post("/v1/responses/" + third["id"].get<std::string>(), "", "GET").status, 404);
  body["previous_response_id"] = third["id"];
  const Answer lost = Post("/v1/responses", body);
  EXPECT_EQ(lost.status, 400);
  EXPECT_EQ(lost.json()["error"]["code"], "previous_response_not_found");
  // What was not answered is not kept.
  Post("/v1/responses", ResponseBody("[say][error][/say]"));
  EXPECT_THAT(Post("/metrics", "", "GET").body, testing::HasSubstr("mxmla_stored_responses 1\n"));
}

TEST_F(Protocols, BodiesAreAnnouncedAsJson) {
  Start();
  const std::string path = "/v1/chat/completions";
  for (const char* type : {"application/json", "Application/JSON ; charset=utf-8"}) {
    headers_ = {{"content-type", type}};
    EXPECT_EQ(Post(path, ChatBody()).status, 200) << type;
  }
  for (const char* type : {"text/plain", "application/x-www-form-urlencoded", "application/jsonp", ""}) {
    headers_ = {{"content-type", type}};
    const Answer answer = Post(path, ChatBody());
    EXPECT_EQ(answer.status, 415) << type;
    EXPECT_THAT(answer.json()["error"]["message"].get<std::string>(), testing::HasSubstr("application/json"));
  }
  headers_ = {};
  EXPECT_EQ(Post("/v1/messages", MessagesBody()).status, 415);
  EXPECT_EQ(Post("/v1/models", "", "GET").status, 200);
}

TEST_F(Protocols, AServerWithoutAKeyAnswersToItsOwnNameAlone) {
  Start();
  for (const char* host : {"localhost", "LOCALHOST:8000", "127.0.0.1:8000", "192.168.1.7", "[::1]:8000", ""}) {
    headers_ = {{"host", host}};
    EXPECT_EQ(Post("/v1/models", "", "GET").status, 200) << host;
  }
  for (const char* host : {"evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.evil.example"}) {
    headers_ = {{"host", host}};
    EXPECT_EQ(Post("/v1/models", "", "GET").status, 403) << host;
    EXPECT_EQ(Post("/", "", "GET").status, 403) << host;
  }
  server_->SetApiKeys({"key"});
  headers_.emplace_back("x-api-key", "key");
  EXPECT_EQ(Post("/v1/models", "", "GET").status, 200);
}

TEST_F(Protocols, ThoughtsThatThePromptOpens) {
  Start();
  Json body = ChatBody("[say]hm</think>yes[/say]");
  body["chat_template_kwargs"] = {{"thinking", true}};
  EXPECT_EQ(Ask("/v1/chat/completions", body)["choices"][0]["message"]["reasoning_content"], "hm");
  body = MessagesBody("[say]hm</think>yes[/say]");
  body["thinking"] = {{"type", "enabled"}, {"budget_tokens", 2000}};
  EXPECT_EQ(Ask("/v1/messages", body)["content"][0]["thinking"], "hm");
  body["thinking"] = {{"type", "disabled"}};
  EXPECT_EQ(Ask("/v1/messages", body)["content"][0]["text"], "hmyes");
  body = ResponseBody();
  body["reasoning"] = {{"effort", "high"}};
  Ask("/v1/responses", body);
  EXPECT_THAT(LastPrompt(), testing::HasSubstr("effort high"));
}

TEST_F(Protocols, StreamsHaveChoicesLogprobsAndUsage) {
  Start();
  Json body = ChatBody();
  body["n"] = 2;
  body["logprobs"] = true;
  body["top_logprobs"] = 2;
  body["stream_options"] = {{"include_usage", true}};
  const Json whole = Ask("/v1/chat/completions", body);
  const auto events = Stream("/v1/chat/completions", body);
  for (size_t index : {0, 1}) {
    EXPECT_EQ(WithoutIds(JoinChat(events, index)), WithoutIds(whole["choices"][index]["message"]));
    Json entries = Json::array();
    for (const auto& [name, event] : events) {
      if (!event.is_object() || event["choices"].empty() || event["choices"][0]["index"] != index) continue;
      for (const Json& entry : event["choices"][0]["logprobs"]["content"]) entries.push_back(entry);
    }
    EXPECT_EQ(entries, whole["choices"][index]["logprobs"]["content"]);
    EXPECT_EQ(entries[0]["top_logprobs"].size(), 2u);
    EXPECT_EQ(entries.size() * 2, whole["usage"]["completion_tokens"].get<size_t>());
  }
  EXPECT_EQ(events[events.size() - 2].second["usage"], whole["usage"]);

  body = {{"prompt", "[say]a <b> é[/say]"}, {"logprobs", 1}, {"max_tokens", 100}};
  const Json text = Ask("/v1/completions", body)["choices"][0];
  Json joined = {{"text", ""}, {"offsets", Json::array()}};
  for (const auto& [name, event] : Stream("/v1/completions", body)) {
    if (!event.is_object()) continue;
    joined["text"] = joined["text"].get<std::string>() + event["choices"][0]["text"].get<std::string>();
    for (const Json& offset : event["choices"][0]["logprobs"]["text_offset"]) joined["offsets"].push_back(offset);
  }
  EXPECT_EQ(joined["text"], text["text"]);
  EXPECT_EQ(joined["offsets"], text["logprobs"]["text_offset"]);

  Json response = ResponseBody("[say]<think>a</think>yes[/say]");
  response["include"] = Json::array({"message.output_text.logprobs"});
  const Json part = Ask("/v1/responses", response)["output"][1]["content"][0];
  EXPECT_EQ(part["logprobs"].size(), 4u);  // </think>, which the text begins behind, and the text's own
  EXPECT_EQ(Stream("/v1/responses", response).back().second["response"]["output"][1]["content"][0], part);
}

TEST_F(Protocols, EndsAreNamedAsEachApiNamesThem) {
  Start();
  Json body = MessagesBody("[say]one two three[/say]");
  EXPECT_EQ(Ask("/v1/messages", body)["stop_reason"], "end_turn");
  body["stop_sequences"] = Json::array({"x", "two"});
  Json answer = Ask("/v1/messages", body);
  EXPECT_EQ(answer["stop_reason"], "stop_sequence");
  EXPECT_EQ(answer["stop_sequence"], "two");
  EXPECT_EQ(answer["content"][0]["text"], "one ");
  body["max_tokens"] = 3;
  EXPECT_EQ(Ask("/v1/messages", body)["stop_reason"], "max_tokens");
  body = ResponseBody("[say]one two three[/say]");
  body["max_output_tokens"] = 3;
  answer = Ask("/v1/responses", body);
  EXPECT_EQ(answer["status"], "incomplete");
  EXPECT_EQ(answer["incomplete_details"]["reason"], "max_output_tokens");
  EXPECT_EQ(answer["output"][0]["status"], "incomplete");
  EXPECT_EQ(Stream("/v1/responses", body).back().first, "response.incomplete");
}

TEST_F(Protocols, FailuresHaveEachApisForm) {
  Start();
  const std::string fails = "[say][error][/say]";
  Answer answer = Post("/v1/chat/completions", ChatBody(fails));
  EXPECT_EQ(answer.status, 500);
  EXPECT_EQ(answer.json()["error"]["type"], "server_error");
  answer = Post("/v1/messages", MessagesBody(fails));
  EXPECT_EQ(answer.status, 500);
  EXPECT_EQ(answer.json()["type"], "error");
  EXPECT_EQ(answer.json()["error"]["type"], "api_error");
  answer = Post("/v1/messages", {{"messages", Json::array()}});
  EXPECT_EQ(answer.json()["error"]["type"], "invalid_request_error");
  answer = Post("/v1/messages", "{");
  EXPECT_EQ(answer.status, 400);
  EXPECT_EQ(answer.json()["type"], "error");
  Json body = MessagesBody();
  body["model"] = "another";
  answer = Post("/v1/messages", body);
  EXPECT_EQ(answer.status, 404);
  EXPECT_EQ(answer.json()["error"]["type"], "not_found_error");
  answer = Post("/v1/messages", "{}", "GET");
  EXPECT_EQ(answer.status, 405);
  EXPECT_EQ(answer.json()["type"], "error");
}

TEST_F(Protocols, RefusalsNameTheField) {
  Start();
  const auto chat = [&](const char* field, const Json& value, const std::string& refused) {
    Json body = ChatBody();
    body[field] = value;
    ExpectRefused("/v1/chat/completions", body, refused);
  };
  const auto tool = [&](const char* field, const Json& value, const std::string& refused) {
    Json tools = ChatTools();
    tools[1]["function"][field] = value;
    chat("tools", tools, refused);
  };
  chat("tools", "x", "tools");
  chat("tools", Json::array({7}), "tools[0]");
  chat("tools", Json::array({{{"type", "web_search"}}}), "tools[0].type");
  chat("tools", Json::array({{{"type", "function"}}}), "tools[0].function");
  tool("name", "two words", "tools[1].function.name");
  tool("name", "weather", "tools[1].function.name");
  tool("parameters", "x", "tools[1].function.parameters");
  tool("description", 1, "tools[1].function.description");
  tool("strict", "x", "tools[1].function.strict");
  tool("strict", true, "tools[1].function.strict");  // of a server without grammars, and so with the choices below
  chat("tool_choice", "required", "tool_choice");
  chat("tool_choice", "sometimes", "tool_choice");
  chat("tool_choice", {{"type", "function"}, {"function", {{"name", "time"}}}}, "tool_choice");
  chat("parallel_tool_calls", "no", "parallel_tool_calls");
  chat("echo", true, "echo");
  chat("thinking", {{"type", "perhaps"}}, "thinking.type");
  chat("enable_thinking", "yes", "enable_thinking");
  chat("chat_template_kwargs", 1, "chat_template_kwargs");
  chat("reasoning_effort", 1, "reasoning_effort");
  const auto message = [&](const char* json, const std::string& refused) {
    chat("messages", Json::array({Json::parse(json)}), "messages[0]" + refused);
  };
  message(R"({"role": "assistant", "tool_calls": 1})", ".tool_calls");
  message(R"({"role": "assistant", "tool_calls": [1]})", ".tool_calls[0]");
  message(R"({"role": "assistant", "tool_calls": [{}]})", ".tool_calls[0].function");
  message(R"({"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]})",
          ".tool_calls[0].function.arguments");
  message(R"({"role": "assistant", "tool_calls": [{"function": {"name": "", "arguments": "{}"}}]})",
          ".tool_calls[0].function.name");
  message(R"({"role": "user", "content": 1})", ".content");
  message(R"({"role": "user", "content": [{"type": "image_url"}]})", ".content[0]");

  const auto response = [&](const char* field, const Json& value, const std::string& refused) {
    Json body = ResponseBody();
    body[field] = value;
    ExpectRefused("/v1/responses", body, refused);
  };
  response("previous_response_id", "resp_1", "previous_response_id");
  response("previous_response_id", 1, "previous_response_id");
  response("store", 1, "store");
  response("conversation", "conv_1", "conversation");
  response("background", true, "background");
  response("truncation", "auto", "truncation");
  response("text", {{"format", {{"type", "json_schema"}}}}, "text.format.schema");
  response("text", {{"format", {{"type", "yaml"}}}}, "text.format.type");
  response("text", {{"format", {{"type", "json_object"}}}}, "text.format");  // of a server without grammars
  response("tools", Json::array({{{"type", "web_search"}}}), "tools[0].type");
  response("tool_choice", "required", "tool_choice");
  response("input", nullptr, "input");
  response("input", Json::array(), "input");
  response("input", Json::array({{{"type", "item_reference"}, {"id", "x"}}}), "input[0].type");
  response("input", Json::array({{{"role", "user"}}}), "input[0].content");
  response("input", Json::array({{{"type", "function_call_output"}, {"output", "x"}}}), "input[0].call_id");
  response("max_output_tokens", 0, "max_output_tokens");
  response("top_logprobs", 2, "top_logprobs");
  response("max_tokens", 5, "max_tokens");
  response("logprobs", true, "logprobs");
  response("n", 2, "n");

  const auto messages = [&](const char* field, const Json& value, const std::string& refused) {
    Json body = MessagesBody();
    body[field] = value;
    const Answer answer = Post("/v1/messages", body);
    EXPECT_EQ(answer.status, 400) << body;
    EXPECT_THAT(answer.json()["error"]["message"].get<std::string>(), testing::StartsWith(refused));
  };
  messages("max_tokens", nullptr, "max_tokens");
  messages("messages", "x", "messages");
  messages("messages", Json::array({{{"role", "tool"}, {"content", "x"}}}), "messages[0].role");
  messages("messages", Json::array({{{"role", "user"}, {"content", Json::array({{{"type", "image"}}})}}}),
           "messages[0].content[0].type");
  messages("tools", Json::array({{{"type", "bash_20250124"}, {"name", "bash"}}}), "tools[0].type");
  messages("tool_choice", {{"type", "any"}}, "tool_choice");
  messages("tool_choice", {{"type", "sometimes"}}, "tool_choice.type");
  messages("thinking", {{"type", "maybe"}}, "thinking.type");
  messages("output_config", {{"format", {{"type", "json_schema"}}}}, "output_config.format.schema");
  messages("output_config", {{"format", {{"type", "yaml"}}}}, "output_config.format.type");
  messages("stop_sequences", "x", "stop_sequences");
  messages("stop", "x", "stop");
  messages("logprobs", true, "logprobs");
  messages("n", 2, "n");
  messages("repetition_penalty", "x", "repetition_penalty");
  messages("guided_regex", "x", "guided_regex");  // of a server without grammars
  messages("mcp_servers", Json::array({1}), "mcp_servers");
}

TEST_F(Protocols, WantedCallsAndStrictSchemasAreGrammars) {
  const ServedText text = MakeScriptedText();
  ToolGrammar calls;
  calls.format = "glm47";
  calls.tools = {{"weather", kParameters, false}, {"time", Json(), false}};
  Json body = ChatBody();
  EXPECT_FALSE(ReadChatCompletion(text, body).generation.structured);
  body["tool_choice"] = "required";
  ChatRequest request = ReadChatCompletion(text, body);
  EXPECT_EQ(request.generation.structured->source, ToolCallGrammar(calls, *text.tokenizer));
  EXPECT_EQ(request.generation.structured->field, "tool_choice");
  EXPECT_TRUE(request.parallel_tool_calls);
  body["response_format"] = {{"type", "json_object"}};
  EXPECT_THROW(ReadChatCompletion(text, body), ApiError);
  body = ChatBody();
  body["tool_choice"] = {{"type", "function"}, {"function", {{"name", "time"}}}};
  calls.tools = {{"time", Json(), false}};
  calls.one_call = true;
  request = ReadChatCompletion(text, body);
  EXPECT_EQ(request.generation.structured->source, ToolCallGrammar(calls, *text.tokenizer));
  EXPECT_FALSE(request.parallel_tool_calls);
  Json messages = MessagesBody();
  messages["tool_choice"] = {{"type", "tool"}, {"name", "time"}};
  EXPECT_EQ(ReadMessagesRequest(text, messages, false).generation.structured->source,
            request.generation.structured->source);
  Json response = ResponseBody();
  response["tool_choice"] = {{"type", "function"}, {"name", "time"}};
  EXPECT_EQ(ReadResponse(text, response, Json::array()).generation.structured->source,
            request.generation.structured->source);
  response["tool_choice"] = {{"type", "function"}, {"name", "date"}};
  EXPECT_THROW(ReadResponse(text, response, Json::array()), ApiError);
  // Strict, and the model may still answer by text.
  body = ChatBody();
  body["tools"][0]["function"]["strict"] = true;
  calls.one_call = false;
  calls.tools = {{"weather", kParameters, true}, {"time", Json(), false}};
  calls.required = false;
  EXPECT_EQ(ReadChatCompletion(text, body).generation.structured->source, ToolCallGrammar(calls, *text.tokenizer));
}

TEST_F(Protocols, ToolsAreRefusedWhereTheModelIsNotKnownToCallThem) {
  ServedText text = MakeScriptedText();
  text.format.tools.reset();
  Start(std::move(text));
  ExpectRefused("/v1/chat/completions", ChatBody(), "tools");
  text = MakeScriptedText();
  text.chat = ChatTemplate::FromText("{% for m in messages %}{{ m.content }}{% endfor %}", "template");
  text.tool_form = ProbeToolMessages(*text.chat);
  Start(std::move(text));
  ExpectRefused("/v1/chat/completions", ChatBody(), "tools");
  Json body = ChatBody();
  body.erase("tools");
  body["messages"].push_back({{"role", "assistant"}, {"content", ""}, {"tool_calls", Json::array()}});
  body["messages"][1]["tool_calls"].push_back({{"id", "x"}, {"function", {{"name", "f"}, {"arguments", "{}"}}}});
  ExpectRefused("/v1/chat/completions", body, "messages[1].tool_calls");
}

}  // namespace
}  // namespace mxmla::serve
