#include <filesystem>

#include "checkpoint/safetensors.h"
#include "temp_folder.h"

namespace mxmla {
namespace {

std::string Shard(const std::vector<std::string>& names) {
  std::vector<TestTensor> tensors;
  for (const std::string& name : names) tensors.push_back({name, "U8", {1}, "x"});
  return SafetensorsBytes(tensors);
}

void ExpectOpenFails(const TempFolder& folder, ErrorCode code, std::initializer_list<std::string_view> parts) {
  ExpectError(code, parts, [&] { Checkpoint::Open(folder.path()); });
}

constexpr char kIndex[] = "model.safetensors.index.json";

TEST(CheckpointFolder, SingleFileOfAnyName) {
  TempFolder folder;
  folder.Write("weights.safetensors", Shard({"a", "b"}));
  const Checkpoint checkpoint = Checkpoint::Open(folder.path());
  EXPECT_EQ(checkpoint.tensors().size(), 2u);
  ASSERT_NE(checkpoint.Find("a"), nullptr);
  EXPECT_EQ(checkpoint.Find("c"), nullptr);
  EXPECT_EQ(checkpoint.Find("a")->file, folder / "weights.safetensors");
}

TEST(CheckpointFolder, Shards) {
  TempFolder folder;
  folder.Write("m-1.safetensors", Shard({"a", "b"}));
  folder.Write("m-2.safetensors", Shard({"c"}));
  folder.Write(
      kIndex,
      R"({"metadata":{"total_size":3},"weight_map":{"a":"m-1.safetensors","b":"m-1.safetensors","c":"m-2.safetensors"}})");
  const Checkpoint checkpoint = Checkpoint::Open(folder.path());
  EXPECT_EQ(checkpoint.tensors().size(), 3u);
  EXPECT_EQ(checkpoint.files().size(), 2u);
  EXPECT_EQ(checkpoint.Find("c")->file, folder / "m-2.safetensors");
}

TEST(CheckpointFolder, MissingThings) {
  TempFolder folder;
  ExpectError(ErrorCode::kNoModel, {"none", "a model folder", "nothing"}, [&] { Checkpoint::Open(folder / "none"); });
  folder.Write("file", "");
  ExpectError(ErrorCode::kNoModel, {"file", "a file"}, [&] { Checkpoint::Open(folder / "file"); });
  ExpectOpenFails(folder, ErrorCode::kMissingFile, {"model.safetensors", "neither"});
  folder.Write("a.safetensors", Shard({"a"}));
  folder.Write("b.safetensors", Shard({"b"}));
  ExpectOpenFails(folder, ErrorCode::kMissingFile, {kIndex, "2 *.safetensors files and no index"});
  folder.Write(kIndex, R"({"weight_map":{"a":"a.safetensors","b":"c.safetensors"}})");
  ExpectOpenFails(folder, ErrorCode::kMissingFile, {"c.safetensors", "\"b\""});
}

TEST(CheckpointFolder, IndexAndShardsDisagree) {
  TempFolder folder;
  folder.Write("a.safetensors", Shard({"a"}));
  folder.Write(kIndex, R"({"weight_map":{"a":"a.safetensors","b":"a.safetensors"}})");
  ExpectOpenFails(folder, ErrorCode::kSafetensors, {kIndex, "\"b\"", "a.safetensors"});
  folder.Write("a.safetensors", Shard({"a", "b", "extra"}));
  ExpectOpenFails(folder, ErrorCode::kSafetensors, {"a.safetensors", "\"extra\"", kIndex});
}

TEST(CheckpointFolder, MalformedIndex) {
  TempFolder folder;
  const auto expect = [&](std::string_view text, std::initializer_list<std::string_view> parts) {
    folder.Write(kIndex, text);
    ExpectOpenFails(folder, ErrorCode::kSafetensors, parts);
  };
  expect("", {kIndex, "JSON"});
  expect("[]", {kIndex, "a JSON object"});
  expect("{}", {kIndex, "weight_map", "none"});
  expect(R"({"weight_map":[]})", {"weight_map"});
  expect(R"({"weight_map":{}})", {"weight_map", "an empty one"});
  expect(R"({"weight_map":{"a":3}})", {"\"a\"", "found 3"});
  for (const char* path : {"../x.safetensors", "/etc/x.safetensors", "sub/x.safetensors", "..", "", ".safetensors",
                           "x.bin", "..\\\\x.safetensors", "x\\u0000.safetensors"}) {
    expect(std::string(R"({"weight_map":{"a":")") + path + "\"}}", {kIndex, "\"a\"", "in the same folder"});
  }
  std::string deep = R"({"weight_map":)";
  for (int i = 0; i < 100000; ++i) deep += "[";
  expect(deep, {kIndex});
}

// Written by Python's safetensors library.
TEST(CheckpointFolder, ReadsPythonsFiles) {
  const Checkpoint checkpoint = Checkpoint::Open(std::string(MXMLA_FIXTURES) + "/dtypes");
  ASSERT_EQ(checkpoint.tensors().size(), 8u);
  for (const auto& [name, tensor] : checkpoint.tensors()) {
    EXPECT_EQ(TensorDTypeName(tensor->dtype), name);  // each is named after its dtype
    EXPECT_EQ(tensor->shape, (std::vector<int64_t>{2, 3}));
  }
  EXPECT_EQ((checkpoint.Find("F32")->As<float, 2>()(1, 2)), 5.0f);
  EXPECT_EQ((checkpoint.Find("BF16")->As<bf16, 2>()(1, 0).ToFloat()), 3.0f);
  EXPECT_EQ((checkpoint.Find("F8_E4M3")->As<e4m3, 2>()(1, 1).ToFloat()), 4.0f);
  EXPECT_EQ((checkpoint.Find("F8_E8M0")->As<e8m0, 2>()(0, 2).ToFloat()), 4.0f);
}

}  // namespace
}  // namespace mxmla
