#include "serve/input_items.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "serve/completion.h"
#include "serve/http_query.h"

namespace mxmla::serve {
namespace {

constexpr int kDefaultLimit = 20, kMostLimit = 100;

const char* IdPrefix(const std::string& type) {
  if (type == "reasoning") return "rs_";
  if (type == "function_call") return "fc_";
  return type == "message" ? "msg_" : "fco_";
}

int ReadLimit(std::string_view query) {
  const auto text = QueryField(query, "limit");
  if (!text) return kDefaultLimit;
  int limit = 0;
  const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), limit);
  if (error != std::errc() || end != text->data() + text->size() || limit < 1 || limit > kMostLimit) {
    RefuseField("limit", fmt::format("1 to {}", kMostLimit), ShowField(*text));
  }
  return limit;
}

bool ReadsForward(std::string_view query) {
  const std::string order = QueryField(query, "order").value_or("desc");
  if (order != "asc" && order != "desc") RefuseField("order", "asc or desc", ShowField(order));
  return order == "asc";
}

}  // namespace

Json KeptItem(Json item) {
  const std::string type = TextField(item, "type").value_or("message");
  item["type"] = type;
  const bool has_id = item.contains("id") && item["id"].is_string();
  if (type == "function_call" && !FindField(item, "call_id")) item["call_id"] = has_id ? item["id"] : Json("");
  if (!has_id) item["id"] = RandomId(IdPrefix(type));
  if (type != "reasoning" && !FindField(item, "status")) item["status"] = "completed";
  if (Json* content = type == "message" ? &item["content"] : nullptr; content && content->is_string()) {
    const bool is_answer = item["role"] == "assistant";
    Json part = {{"type", is_answer ? "output_text" : "input_text"}, {"text", std::move(*content)}};
    if (is_answer) part["annotations"] = Json::array();
    *content = Json::array({std::move(part)});
  }
  return item;
}

Json InputItemsPage(const StoredResponse& stored, std::string_view query) {
  const auto limit = static_cast<size_t>(ReadLimit(query));
  const bool forward = ReadsForward(query);
  if (const auto before = QueryField(query, "before")) RefuseField("before", "after, or nothing", ShowField(*before));
  Json items = Json::parse(stored.items);
  items.erase(items.begin() + static_cast<std::ptrdiff_t>(stored.input_items), items.end());
  if (!forward) std::reverse(items.begin(), items.end());
  size_t begin = 0;
  if (const auto after = QueryField(query, "after")) {
    // The last of its name, so that whoever asks for page after page comes to an end.
    const auto found =
        std::find_if(items.rbegin(), items.rend(), [&](const Json& item) { return item["id"] == *after; });
    if (found == items.rend()) RefuseField("after", "the id of one of the items", ShowField(*after));
    begin = static_cast<size_t>(items.rend() - found);
  }
  const size_t end = std::min(begin + limit, items.size());
  Json page = Json::array();
  for (size_t i = begin; i < end; ++i) page.push_back(std::move(items[i]));
  const bool is_empty = page.empty();
  const Json first = is_empty ? Json() : page.front()["id"], last = is_empty ? Json() : page.back()["id"];
  return {{"object", "list"},
          {"data", std::move(page)},
          {"first_id", first},
          {"last_id", last},
          {"has_more", end < items.size()}};
}

}  // namespace mxmla::serve
