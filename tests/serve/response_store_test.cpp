#include "serve/response_store.h"

#include <gtest/gtest.h>

namespace mxmla::serve {
namespace {

StoredResponse Text(const std::string& text, const std::string& owner = "") { return {owner, text, "[]"}; }

TEST(ResponseStore, KeepsWhatWasUsedLast) {
  ResponseStore store(2, 1000);
  store.Put("a", Text("1"));
  store.Put("b", Text("2"));
  EXPECT_EQ(store.Find("a", "")->response, "1");
  store.Put("c", Text("3"));
  EXPECT_EQ(store.Find("b", ""), nullptr);
  EXPECT_EQ(store.Find("a", "")->response, "1");
  EXPECT_EQ(store.Find("c", "")->response, "3");
  EXPECT_EQ(store.count(), 2u);
  store.Put("c", Text("4"));
  EXPECT_EQ(store.Find("c", "")->response, "4");
  EXPECT_EQ(store.count(), 2u);
}

TEST(ResponseStore, IsBoundedInBytes) {
  ResponseStore store(100, 100);
  const size_t each = Text(std::string(30, 'x')).response.size() + 3;  // with the id and the list
  store.Put("a", Text(std::string(30, 'x')));
  EXPECT_EQ(store.bytes(), each);
  store.Put("b", Text(std::string(30, 'x')));
  store.Put("c", Text(std::string(30, 'x')));
  store.Put("d", Text(std::string(30, 'x')));
  EXPECT_EQ(store.count(), 3u);
  EXPECT_EQ(store.bytes(), 3 * each);
  EXPECT_EQ(store.Find("a", ""), nullptr);
  store.Put("e", Text(std::string(200, 'x')));  // larger than all
  EXPECT_EQ(store.Find("e", ""), nullptr);
  EXPECT_EQ(store.count(), 3u);
  EXPECT_TRUE(store.Erase("b", ""));
  EXPECT_FALSE(store.Erase("b", ""));
  EXPECT_EQ(store.bytes(), 2 * each);
}

TEST(ResponseStore, FindsForItsOwnerAlone) {
  ResponseStore store(2, 1000);
  store.Put("a", Text("1", "me"));
  EXPECT_EQ(store.Find("a", "you"), nullptr);
  EXPECT_FALSE(store.Erase("a", "you"));
  EXPECT_NE(store.Find("a", "me"), nullptr);
}

TEST(ResponseStore, MayKeepNone) {
  ResponseStore store(0, 1000);
  EXPECT_FALSE(store.keeps_any());
  store.Put("a", Text("1"));
  EXPECT_EQ(store.count(), 0u);
}

}  // namespace
}  // namespace mxmla::serve
