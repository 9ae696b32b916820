#include "serve/input_items.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "serve/http_query.h"

namespace mxmla::serve {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(HttpQueryTest, FindsAndDecodesFields) {
  EXPECT_EQ(QueryField("a=1&b=2", "b"), "2");
  EXPECT_EQ(QueryField("a=1&b=2&a=3", "a"), "1");
  EXPECT_EQ(QueryField("a=1&ab=2", "b"), std::nullopt);
  EXPECT_EQ(QueryField("", "a"), std::nullopt);
  EXPECT_EQ(QueryField("a&b", "a"), "");
  EXPECT_EQ(QueryField("include%5B%5D=x%20y+z%2b", "include[]"), "x y z+");
  EXPECT_EQ(QueryField("a=%&b=%4&c=%zz&d=%4g", "c"), "%zz");
  EXPECT_EQ(QueryField("a=%&b=%4&c=%zz&d=%4g", "b"), "%4");
  EXPECT_EQ(QueryField("a=%&b=%4&c=%zz&d=%4g", "d"), "%4g");
  EXPECT_EQ(QueryField("&&=&a==b", "a"), "=b");
}

TEST(InputItemsTest, ItemsAreKeptWithIdAndParts) {
  const Json asked = KeptItem({{"role", "user"}, {"content", "Hi"}});
  EXPECT_EQ(asked["type"], "message");
  EXPECT_THAT(asked["id"].get<std::string>(), testing::StartsWith("msg_"));
  EXPECT_EQ(asked["content"], Json::parse(R"([{"type": "input_text", "text": "Hi"}])"));
  const Json answer = KeptItem({{"role", "assistant"}, {"content", "Ho"}, {"id", "msg_1"}, {"status", "incomplete"}});
  EXPECT_EQ(answer["id"], "msg_1");
  EXPECT_EQ(answer["status"], "incomplete");
  EXPECT_EQ(answer["content"], Json::parse(R"([{"type": "output_text", "text": "Ho", "annotations": []}])"));
  // Its id was what an output's call_id meant.
  const Json call = KeptItem({{"type", "function_call"}, {"id", "c1"}, {"name", "f"}, {"arguments", "{}"}});
  EXPECT_EQ(call["call_id"], "c1");
  EXPECT_EQ(call["status"], "completed");
  const Json output = KeptItem({{"type", "function_call_output"}, {"call_id", "c1"}, {"output", "noon"}, {"id", 5}});
  EXPECT_THAT(output["id"].get<std::string>(), testing::StartsWith("fco_"));
  EXPECT_EQ(output["output"], "noon");
}

StoredResponse Stored(int inputs) {
  Json items = Json::array();
  for (int i = 0; i < inputs + 1; ++i) items.push_back({{"type", "message"}, {"id", "m" + std::to_string(i)}});
  return {"", "{}", items.dump(), static_cast<size_t>(inputs)};
}

std::vector<std::string> Ids(const Json& page) {
  std::vector<std::string> ids;
  for (const Json& item : page["data"]) ids.push_back(item["id"].get<std::string>());
  return ids;
}

TEST(InputItemsTest, PagesGoThroughAllButTheAnswer) {
  const StoredResponse stored = Stored(5);
  EXPECT_THAT(Ids(InputItemsPage(stored, "")), ElementsAre("m4", "m3", "m2", "m1", "m0"));
  const Json first = InputItemsPage(stored, "order=asc&limit=2");
  EXPECT_THAT(Ids(first), ElementsAre("m0", "m1"));
  EXPECT_EQ(first["object"], "list");
  EXPECT_EQ(first["first_id"], "m0");
  EXPECT_EQ(first["last_id"], "m1");
  EXPECT_EQ(first["has_more"], true);
  const Json last = InputItemsPage(stored, "order=asc&limit=3&after=m1");
  EXPECT_THAT(Ids(last), ElementsAre("m2", "m3", "m4"));
  EXPECT_EQ(last["has_more"], false);
  EXPECT_THAT(Ids(InputItemsPage(stored, "limit=1&after=m1")), ElementsAre("m0"));
  const Json behind = InputItemsPage(stored, "after=m0");
  EXPECT_EQ(behind["data"], Json::array());
  EXPECT_EQ(behind["last_id"], nullptr);
  EXPECT_EQ(Ids(InputItemsPage(Stored(25), "")).size(), 20u);
}

TEST(InputItemsTest, RefusesOtherPages) {
  const StoredResponse stored = Stored(2);
  for (const char* query : {"limit=0", "limit=101", "limit=x", "limit=", "limit=1.5", "limit=99999999999", "order=up",
                            "after=m2", "after=", "before=m1"}) {
    try {
      InputItemsPage(stored, query);
      ADD_FAILURE() << query;
    } catch (const ApiError& error) {
      EXPECT_EQ(error.status, 400) << query;
      EXPECT_THAT(query, HasSubstr(error.param + "="));
    }
  }
}

}  // namespace
}  // namespace mxmla::serve
