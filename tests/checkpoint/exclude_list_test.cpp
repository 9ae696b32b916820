#include "checkpoint/exclude_list.h"

#include "temp_folder.h"

namespace mxmla {
namespace {

bool Matches(const std::string& pattern, std::string_view module) {
  return ExcludeList({pattern}, "list").Matches(module);
}

TEST(ExcludeList, Names) {
  EXPECT_TRUE(Matches("lm_head", "lm_head"));
  EXPECT_FALSE(Matches("lm_head", "lm_head2"));
  EXPECT_FALSE(Matches("model.layers.1", "model.layers.1.mlp"));
  EXPECT_FALSE(Matches("a.b", "axb"));
  EXPECT_FALSE(ExcludeList().Matches("lm_head"));
}

TEST(ExcludeList, Globs) {
  EXPECT_TRUE(Matches("*lm_head", "lm_head"));
  EXPECT_TRUE(Matches("*.self_attn.*", "model.layers.3.self_attn.o_proj"));
  EXPECT_FALSE(Matches("*.self_attn", "model.layers.3.self_attn.o_proj"));
  EXPECT_TRUE(Matches("model.layers.?.mlp", "model.layers.3.mlp"));
  EXPECT_FALSE(Matches("model.layers.?.mlp", "model.layers.33.mlp"));
  EXPECT_TRUE(Matches("layers.[12].x", "layers.2.x"));
  EXPECT_FALSE(Matches("layers.[12].x", "layers.3.x"));
  EXPECT_TRUE(Matches("layers.[!12].x", "layers.3.x"));
  EXPECT_FALSE(Matches("a.*", "axb"));
  EXPECT_TRUE(Matches("a[*", "a[bc"));
}

TEST(ExcludeList, RegularExpressionsMatchFromTheBeginning) {
  EXPECT_TRUE(Matches("re:.*mlp.gate$", "model.layers.3.mlp.gate"));
  EXPECT_FALSE(Matches("re:.*mlp.gate$", "model.layers.3.mlp.gate_proj"));
  EXPECT_FALSE(Matches("re:mlp", "model.mlp"));
  EXPECT_TRUE(Matches("re:model", "model.mlp"));
  EXPECT_TRUE(Matches("re:model.layers.61.*", "model.layers.61.eh_proj"));
  ExpectError(ErrorCode::kBadConfig, {"list", "re:("}, [] { ExcludeList({"re:("}, "list"); });
  ExpectError(ErrorCode::kUsage, {"--exclude"}, [] { ExcludeList({"re:["}, "--exclude", ErrorCode::kUsage); });
}

TEST(ExcludeList, ThePrefixOfMultimodalNamesIsOptional) {
  EXPECT_TRUE(Matches("lm_head", "language_model.lm_head"));
  EXPECT_TRUE(Matches("language_model.lm_head", "language_model.lm_head"));
  EXPECT_TRUE(Matches("re:model.layers.1.", "language_model.model.layers.1.mlp"));
}

TEST(ExcludeList, FindsTheFirst) {
  const ExcludeList list({"a", "b*", "re:b.c"}, "list");
  EXPECT_EQ(list.Find("bxc"), 1);
  EXPECT_EQ(list.Find("a"), 0);
  EXPECT_EQ(list.Find("c"), -1);
  const ExcludeList mixed({"re:x", "name", "n?me", "name", "re:n", "xa"}, "list");
  EXPECT_EQ(mixed.Find("name"), 1);
  EXPECT_EQ(mixed.Find("nome"), 2);
  EXPECT_EQ(mixed.Find("nothing"), 4);
  EXPECT_EQ(mixed.Find("xa"), 0);
  EXPECT_EQ(mixed.Find("language_model.name"), 1);
}

// A pattern that backtracks without end must come back.
TEST(ExcludeList, HostileExpressionsEnd) {
  EXPECT_FALSE(Matches("re:(a*)*(a*)*(a*)*$x", std::string(60, 'a')));
  EXPECT_FALSE(Matches("*a*a*a*a*a*a*a*a*a*a*a*a*b", std::string(3000, 'a')));
}

TEST(ExcludeList, GlobsAsRegularExpressions) {
  EXPECT_EQ(GlobAsRegex("*.self_attn.*"), "re:.*\\.self_attn\\..*$");
  EXPECT_EQ(GlobAsRegex("lm_head"), "lm_head");
  EXPECT_EQ(GlobAsRegex("re:x*"), "re:x*");
  for (const char* glob : {"*.self_attn.*", "model.layers.?.mlp", "layers.[!12].x", "a+b*"}) {
    for (const char* name :
         {"model.layers.3.self_attn.o", "model.layers.3.mlp", "layers.3.x", "layers.1.x", "a+b.c", "aab"}) {
      EXPECT_EQ(Matches(glob, name), Matches(GlobAsRegex(glob), name)) << glob << " " << name;
    }
  }
}

}  // namespace
}  // namespace mxmla
