#include "checkpoint/safetensors.h"

#include <fmt/format.h>

#include "checkpoint/writer.h"
#include "temp_folder.h"

namespace mxmla {
namespace {

constexpr char kFile[] = "folder/x.safetensors";

std::vector<Tensor> Parse(const std::string& bytes) { return ParseSafetensors(std::as_bytes(std::span(bytes)), kFile); }

void ExpectRefused(const std::string& bytes, std::initializer_list<std::string_view> parts) {
  // In memory of exactly that size, so that AddressSanitizer sees a byte read too many.
  const std::vector<char> exact(bytes.begin(), bytes.end());
  ExpectError(ErrorCode::kSafetensors, {kFile}, [&] { ParseSafetensors(std::as_bytes(std::span(exact)), kFile); });
  ExpectError(ErrorCode::kSafetensors, parts, [&] { ParseSafetensors(std::as_bytes(std::span(exact)), kFile); });
}

// One tensor "t" of the given description, and eight bytes of data.
std::string One(const std::string& description) {
  return SafetensorsBytes("{\"t\":" + description + "}", std::string(8, '\1'));
}

TEST(Safetensors, ReadsWhatIsThere) {
  const std::string header = R"({"__metadata__":{"format":"pt"},)"
                             R"("b":{"dtype":"BF16","shape":[2,1],"data_offsets":[8,12]},)"
                             R"("a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
                             R"("empty":{"dtype":"F32","shape":[0,7],"data_offsets":[8,8]},)"
                             R"("scalar":{"dtype":"U8","shape":[],"data_offsets":[12,13]}}  )";
  const std::string bytes = SafetensorsBytes(header, std::string("\0\0\x80\x3f\0\0\0\x40\x80\x3f\0\x40\x07", 13));
  const std::vector<Tensor> tensors = Parse(bytes);
  ASSERT_EQ(tensors.size(), 4u);
  EXPECT_EQ(tensors[0].name, "a");
  EXPECT_EQ(tensors[1].name, "empty");
  EXPECT_EQ(tensors[2].name, "b");
  EXPECT_EQ(tensors[3].name, "scalar");
  EXPECT_EQ(tensors[1].elements(), 0);
  EXPECT_EQ(tensors[3].elements(), 1);
  EXPECT_EQ(tensors[2].Describe(), "BF16 (2, 1)");
  EXPECT_EQ(static_cast<int>(tensors[3].data[0]), 7);
  EXPECT_EQ(reinterpret_cast<const char*>(tensors[0].data), bytes.data() + 8 + header.size());
}

TEST(Safetensors, KnowsEveryDtype) {
  for (const auto& [name, bits] : std::vector<std::pair<std::string, int>>{
           {"BOOL", 8},    {"F4", 4},      {"F6_E2M3", 6}, {"F6_E3M2", 6},     {"U8", 8},          {"I8", 8},
           {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8}, {"I16", 16},
           {"U16", 16},    {"F16", 16},    {"BF16", 16},   {"I32", 32},        {"U32", 32},        {"F32", 32},
           {"C64", 64},    {"I64", 64},    {"U64", 64},    {"F64", 64}}) {
    const std::string data(static_cast<size_t>(bits), '\0');  // 8 elements
    const std::string header = fmt::format(R"({{"t":{{"dtype":"{}","shape":[8],"data_offsets":[0,{}]}}}})", name, bits);
    const std::vector<Tensor> tensors = Parse(SafetensorsBytes(header, data));
    ASSERT_EQ(tensors.size(), 1u) << name;
    EXPECT_EQ(TensorDTypeName(tensors[0].dtype), name);
    EXPECT_EQ(TensorDTypeBits(tensors[0].dtype), bits);
  }
}

TEST(Safetensors, RefusesShortFiles) {
  ExpectRefused("", {"at least 8 bytes", "0 bytes"});
  ExpectRefused(std::string(7, '\0'), {"7 bytes"});
  ExpectRefused(std::string(8, '\0'), {"its header", "nothing"});
}

TEST(Safetensors, RefusesHeaderLengths) {
  ExpectRefused(std::string("\x10\0\0\0\0\0\0\0{}", 10), {"at most the file's 2 bytes", "found 16", "truncated"});
  ExpectRefused(std::string("\x01\xe1\xf5\x05\0\0\0\0{}", 10), {"at most 100000000 bytes", "found 100000001"});
  ExpectRefused(std::string("\xff\xff\xff\xff\xff\xff\xff\xff{}", 10), {"18446744073709551615"});
}

TEST(Safetensors, RefusesOtherText) {
  ExpectRefused(SafetensorsBytes("[1, 2]", ""), {"its header", "a JSON object"});
  ExpectRefused(SafetensorsBytes("  {}", ""), {"a JSON object"});
  ExpectRefused(SafetensorsBytes("{\"a\":", ""), {"its header", "not JSON"});
  ExpectRefused(SafetensorsBytes("{}x", ""), {"not JSON"});
  ExpectRefused(SafetensorsBytes("{\"\xff\":1}", ""), {"not JSON"});
  ExpectRefused(SafetensorsBytes(std::string(100000, '[').insert(0, "{\"a\":"), ""), {"its header"});
}

TEST(Safetensors, RefusesOtherForms) {
  ExpectRefused(One("3"), {"an object for \"t\"", "found 3"});
  ExpectRefused(One("null"), {"an object for \"t\"", "null"});
  ExpectRefused(One("[]"), {"an object for \"t\"", "a list"});
  ExpectRefused(One("{}"), {"tensor \"t\"", "dtype", "none"});
  ExpectRefused(One(R"({"dtype":"U8","shape":[8]})"), {"tensor \"t\"", "data_offsets", "none"});
  ExpectRefused(One(R"({"dtype":"U8","data_offsets":[0,8]})"), {"tensor \"t\"", "shape", "none"});
  ExpectRefused(One(R"({"dtype":8,"shape":[8],"data_offsets":[0,8]})"), {"a string as dtype", "found 8"});
  ExpectRefused(One(R"({"dtype":"U8","shape":8,"data_offsets":[0,8]})"), {"a list as shape", "found 8"});
  ExpectRefused(One(R"({"dtype":"U8","shape":[[8]],"data_offsets":[0,8]})"),
                {"a shape of non-negative integers", "a list"});
  ExpectRefused(One(R"({"dtype":"U8","shape":[8],"data_offsets":"0,8"})"), {"a list as data_offsets"});
  ExpectRefused(One(R"({"dtype":"U8","shape":[8],"data_offsets":[0,8],"more":1})"), {"\"more\""});
  ExpectRefused(SafetensorsBytes(R"({"__metadata__":{"a":1}})", ""), {"__metadata__", "strings", "found 1"});
  ExpectRefused(SafetensorsBytes(R"({"__metadata__":[]})", ""), {"an object for \"__metadata__\"", "a list"});
}

TEST(Safetensors, RefusesDuplicates) {
  const std::string t = R"({"dtype":"U8","shape":[8],"data_offsets":[0,8]})";
  ExpectRefused(SafetensorsBytes("{\"t\":" + t + ",\"t\":" + t + "}", std::string(8, '\0')),
                {"each name once", "\"t\" twice"});
  ExpectRefused(One(R"({"dtype":"U8","dtype":"I8","shape":[8],"data_offsets":[0,8]})"),
                {"each key once", "\"dtype\" twice"});
}

TEST(Safetensors, RefusesDtypesAndShapes) {
  ExpectRefused(One(R"({"dtype":"F128","shape":[8],"data_offsets":[0,8]})"), {"tensor \"t\"", "a known dtype", "F128"});
  ExpectRefused(One(R"({"dtype":"U8","shape":[-8],"data_offsets":[0,8]})"), {"non-negative integers", "-8"});
  ExpectRefused(One(R"({"dtype":"U8","shape":[8.0],"data_offsets":[0,8]})"), {"non-negative integers", "8.0"});
  ExpectRefused(One(R"({"dtype":"U8","shape":[18446744073709551616],"data_offsets":[0,8]})"),
                {"non-negative integers"});
  ExpectRefused(One(R"({"dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,8]})"),
                {"fits in 64 bits", "4294967296, 4294967296"});
  ExpectRefused(One(R"({"dtype":"F32","shape":[9223372036854775807],"data_offsets":[0,8]})"), {"fits in 64 bits"});
  ExpectRefused(One(R"({"dtype":"U8","shape":[18446744073709551615,0],"data_offsets":[0,0]})"), {"fits in 64 bits"});
  ExpectRefused(One(R"({"dtype":"F4","shape":[3],"data_offsets":[0,8]})"), {"whole number of bytes", "12 bits"});
  ExpectRefused(One(R"({"dtype":"U8","shape":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,8],"data_offsets":[0,8]})"),
                {"at most 16"});
}

TEST(Safetensors, RefusesOffsets) {
  ExpectRefused(One(R"({"dtype":"U8","shape":[8],"data_offsets":[-1,7]})"),
                {"data_offsets of non-negative integers", "-1"});
  ExpectRefused(One(R"({"dtype":"U8","shape":[8],"data_offsets":[0,1e3]})"), {"non-negative integers", "1e3"});
  ExpectRefused(One(R"({"dtype":"U8","shape":[8],"data_offsets":[0]})"), {"[begin, end]", "[0]"});
  ExpectRefused(One(R"({"dtype":"U8","shape":[8],"data_offsets":[0,4,8]})"), {"[begin, end]", "[0, 4, 8]"});
  ExpectRefused(One(R"({"dtype":"U8","shape":[8],"data_offsets":[8,0]})"), {"begin <= end", "[8, 0]"});
  ExpectRefused(One(R"({"dtype":"U8","shape":[9],"data_offsets":[0,9]})"),
                {"within the file's 8 bytes", "[0, 9]", "truncated"});
  ExpectRefused(One(R"({"dtype":"U8","shape":[8],"data_offsets":[18446744073709551608,18446744073709551615]})"),
                {"within the file's"});
  ExpectRefused(One(R"({"dtype":"U8","shape":[7],"data_offsets":[0,8]})"), {"7 bytes of U8 (7)", "8 bytes"});
  ExpectRefused(One(R"({"dtype":"F32","shape":[8],"data_offsets":[0,8]})"), {"32 bytes of F32 (8)", "8 bytes"});
}

TEST(Safetensors, RefusesWhatDoesNotCoverTheData) {
  const auto two = [](int a0, int a1, int b0, int b1) {
    return SafetensorsBytes(fmt::format(R"({{"a":{{"dtype":"U8","shape":[{}],"data_offsets":[{},{}]}},)"
                                        R"("b":{{"dtype":"U8","shape":[{}],"data_offsets":[{},{}]}}}})",
                                        a1 - a0, a0, a1, b1 - b0, b0, b1),
                            std::string(8, '\0'));
  };
  EXPECT_EQ(Parse(two(0, 4, 4, 8)).size(), 2u);
  EXPECT_EQ(Parse(two(4, 8, 0, 4))[0].name, "b");
  ExpectRefused(two(0, 5, 4, 8), {"tensor \"b\"", "an overlap"});
  ExpectRefused(two(0, 8, 0, 8), {"an overlap"});
  ExpectRefused(two(0, 3, 4, 8), {"tensor \"b\"", "a hole"});
  ExpectRefused(two(1, 4, 4, 8), {"tensor \"a\"", "a hole"});
  ExpectRefused(two(0, 4, 4, 7), {"7 bytes of data", "found 8"});
  ExpectRefused(SafetensorsBytes("{}", "x"), {"0 bytes of data", "found 1"});
  EXPECT_TRUE(Parse(SafetensorsBytes("{}", "")).empty());
}

TEST(Safetensors, EveryTruncationIsRefused) {
  const std::string whole = SafetensorsBytes(
      std::vector<TestTensor>{{"a", "BF16", {4}, std::string(8, '\1')}, {"b", "U8", {5}, std::string(5, '\2')}});
  EXPECT_EQ(Parse(whole).size(), 2u);
  for (size_t size = 0; size < whole.size(); ++size) {
    ExpectRefused(whole.substr(0, size), {});
  }
  ExpectRefused(whole + '\0', {"bytes of data"});
}

TEST(Safetensors, ViewsCheckDtypeRankAndAlignment) {
  const std::string header = R"({"odd":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                             R"("f":{"dtype":"F32","shape":[2,1],"data_offsets":[1,9]}}  )";
  ASSERT_EQ(header.size() % 8, 0u);
  const std::string data = std::string("\7\0\0\x80\x3f\0\0\0\xc0", 9);  // 7, then 1.0 and -2.0
  const std::string bytes = SafetensorsBytes(header, data);
  alignas(8) char memory[512];
  std::memcpy(memory, bytes.data(), bytes.size());
  const std::vector<Tensor> parsed = ParseSafetensors({reinterpret_cast<std::byte*>(memory), bytes.size()}, "memory");
  ExpectError(ErrorCode::kSafetensors, {"memory", "tensor \"f\"", "aligned to 4 bytes", "save the file again"},
              [&] { parsed[1].As<float, 2>(); });

  // A file's odd tensors are copied, and only those.
  TempFolder folder;
  folder.Write("m.safetensors", bytes);
  const auto file = SafetensorsFile::Open(folder / "m.safetensors");
  EXPECT_EQ(file->realigned(), 1u);
  const Tensor& f = file->tensors()[1];
  EXPECT_EQ((f.As<float, 2>()(0, 0)), 1.0f);
  EXPECT_EQ((f.As<float, 2>()(1, 0)), -2.0f);
  ExpectError(ErrorCode::kTensor, {"f", "F32 (2, 1)"}, [&] { f.As<float, 1>(); });
  ExpectError(ErrorCode::kTensor, {"f", "F32 (2, 1)"}, [&] { f.As<bf16, 2>(); });
}

TEST(Safetensors, DataThatIsReadBeginsOnACacheLine) {
  TempFolder folder;
  const std::string bytes = SafetensorsBytes(R"({"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]}} )", "abc");
  ASSERT_NE((bytes.size() - 3) % 64, 0u);
  folder.Write("m.safetensors", bytes);
  const auto file = SafetensorsFile::Open(folder / "m.safetensors", {.map = false, .on_read = {}});
  const Tensor& a = file->tensors()[0];
  EXPECT_EQ(reinterpret_cast<uintptr_t>(a.data) % 64, 0u);
  EXPECT_EQ(std::memcmp(a.data, "abc", 3), 0);
}

TEST(Safetensors, DataThatIsWrittenBeginsOnACacheLine) {
  TempFolder folder;
  for (const std::string name : {"a", "ab", "abc"}) {
    SafetensorsWriter writer(folder / name, {{name, TensorDType::kU8, {1}}});
    writer.Write(std::as_bytes(std::span("x", 1)));
    writer.Finish();
    const std::string bytes = ReadWhole(folder / name);
    EXPECT_EQ((bytes.size() - 1) % 64, 0u) << name;
    EXPECT_EQ(Parse(bytes).size(), 1u) << name;
  }
}

TEST(Safetensors, OpenNamesTheFile) {
  TempFolder folder;
  ExpectError(ErrorCode::kMissingFile, {folder / "none.safetensors", "No such file"},
              [&] { SafetensorsFile::Open(folder / "none.safetensors"); });
  ExpectError(ErrorCode::kMissingFile, {folder.path()}, [&] { SafetensorsFile::Open(folder.path()); });
  folder.Write("empty.safetensors", "");
  ExpectError(ErrorCode::kSafetensors, {folder / "empty.safetensors", "0 bytes"},
              [&] { SafetensorsFile::Open(folder / "empty.safetensors"); });
}

}  // namespace
}  // namespace mxmla
