// What the ops refuse, and how they say so.
#include <gmock/gmock.h>

#include "harness.h"

namespace mxmla::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using LayoutTest = BackendTest;

template <class Action>
std::string LayoutError(const Action& action) {
  try {
    action();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kLayout) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "no error";
  return "";
}

TEST_P(LayoutTest, WrongExtentsNameOpOperandExpectedAndFound) {
  const Machine machine(backend());
  const Tensor<2> x(rng_, backend().plain(), {3, 64}), out(rng_, backend().plain(), {3, 8});
  const Weight wrong_k(rng_, Format::kBf16, 8, 96), wrong_n(rng_, Format::kBf16, 9, 64);
  EXPECT_THAT(LayoutError([&] {
                Linear(machine.context(), {x.AnyIn(), wrong_k.View(), out.Out()}, "q_b");
              }),
              AllOf(HasSubstr("q_b: x extent 1"), HasSubstr("expected 96, found 64")));
  EXPECT_THAT(LayoutError([&] {
                Linear(machine.context(), {x.AnyIn(), wrong_n.View(), out.Out()});
              }),
              AllOf(HasSubstr("linear: out extent 1"), HasSubstr("expected 9, found 8")));
  ASSERT_TRUE(out.UntouchedOutside());
}

TEST_P(LayoutTest, PlanesThatDisagreeAreRefused) {
  const Machine machine(backend());
  Tensor<2> x(rng_, Format::kMxfp4, {3, 64});
  x.Randomize(rng_);
  x.fp4_scales->view.shape[1] = 1;
  const Tensor<2> out(rng_, backend().plain(), {3, 8});
  const Weight w(rng_, Format::kMxfp4, 8, 64);
  EXPECT_THAT(LayoutError([&] {
                Linear(machine.context(), {x.AnyIn(), w.View(), out.Out()});
              }),
              AllOf(HasSubstr("linear: x (MXFP4)"), HasSubstr("values (3, 32), scales (3, 1)")));
  const Weight block(rng_, Format::kFp8, 200, 64);
  const Tensor<2> y(rng_, backend().plain(), {3, 64}), wide(rng_, backend().plain(), {3, 200});
  auto beyond = std::get<Fp8Block>(block.View());
  beyond.first_row = 100;
  EXPECT_THAT(LayoutError([&] {
                Linear(machine.context(), {y.AnyIn(), beyond, wide.Out()});
              }),
              HasSubstr("weight (FP8 block)"));
}

TEST_P(LayoutTest, HeadsBeyondTheTensorAreRefused) {
  const Machine machine(backend());
  const Tensor<3> attn(rng_, backend().plain(), {2, 3, 64}), out(rng_, backend().plain(), {2, 3, 32});
  const Weight w(rng_, Format::kBf16, 3 * 96 - 1, 64);
  EXPECT_THAT(LayoutError([&] {
                ValueProject(machine.context(), {attn.AnyIn(), {w.View(), 3, 96, 64, 32}, out.Out(), ScaleMode::kEven});
              }),
              AllOf(HasSubstr("value_project: w_vc"), HasSubstr("287 rows")));
}

TEST_P(LayoutTest, DecodeAttentionRefusesARankWiderThanTheCache) {
  const Machine machine(backend());
  const Tensor<3> query(rng_, backend().plain(), {1, 3, 96}), pages(rng_, backend().plain(), {2, 16, 96});
  const Tensor<3> out(rng_, backend().plain(), {1, 3, 64});
  const int32_t table[2] = {0, 1}, sequence[1] = {0};
  const int32_t length[1] = {17};
  DecodeAttentionArgs args{query.In(),
                           std::visit([](const auto& v) -> KvInput<3> { return v; }, pages.In()),
                           View<const int32_t, 2>::Contiguous(table, {1, 2}),
                           View<const int32_t, 1>::Contiguous(sequence, {1}),
                           View<const int32_t, 1>::Contiguous(length, {1}),
                           64,
                           1.0f,
                           out.Out()};
  args.kv_lora_rank = 97;
  EXPECT_THAT(LayoutError([&] { DecodeAttention(machine.context(), args); }),
              HasSubstr("kv_lora_rank (up to the width of query)"));
}

// A kernel either honours a stride (and then the result is that of any other layout) or refuses it by name.
TEST_P(LayoutTest, InnerStridesAreHonouredOrRefused) {
  MXMLA_NEEDS(value_project);
  Machine machine(backend());
  Tensor<3> attn(rng_, backend().plain(), {3, 5, 96}, {true, 2}), packed(rng_, backend().plain(), {3, 5, 96});
  attn.Randomize(rng_);
  if (attn.f32) packed.f32->Set(attn.f32->Elements());
  if (attn.half) packed.half->Set(attn.half->Elements());
  const Weight w(rng_, Format::kMxfp4, 5 * 96, 96);
  const HeadWeight w_vc{w.View(), 5, 96, 64, 32};
  const Tensor<3> out(rng_, backend().plain(), {3, 5, 32}), expected(rng_, backend().plain(), {3, 5, 32});
  machine.Run([&](const ExecContext& context) {
    ValueProject(context, {packed.AnyIn(), w_vc, expected.Out(), ScaleMode::kEven});
  });
  try {
    machine.Run([&](const ExecContext& context) {
      ValueProject(context, {attn.AnyIn(), w_vc, out.Out(), ScaleMode::kEven});
    });
    EXPECT_EQ(out.Bits(), expected.Bits());
    EXPECT_TRUE(backend().is_ref());
  } catch (const Error& error) {
    EXPECT_FALSE(backend().is_ref());
    EXPECT_EQ(error.code(), ErrorCode::kLayout);
    EXPECT_THAT(error.what(), AllOf(HasSubstr("value_project: no kernel honours the views"),
                                    HasSubstr((backend().partial ? "gpu" : std::string(backend().kernels->isa)) +
                                              ": attn inner stride 1"),
                                    HasSubstr("attn bf16 (3, 5, 96) strides (")));
    for (double value : out.Values()) ASSERT_TRUE(std::isnan(value)) << "a refused output was written";
  }
}

// Scales of FP8 groups may be written column-major.
TEST_P(LayoutTest, ColumnMajorScalesAreHonoured) {
  const Machine machine(backend());
  Tensor<3> x(rng_, backend().plain(), {6, 1, 300});
  x.Randomize(rng_);
  const Tensor<3> expected(rng_, Format::kFp8, {6, 1, 300});
  Quantize(machine.context(), {x.In(), expected.QuantizedOut(), ScaleMode::kEven});
  const Tensor<3> codes(rng_, Format::kFp8, {6, 1, 300});
  OperandVector<float> scales(6 * 3);
  const View<float, 3> column_major{scales.data(), {6, 1, 3}, {1, 1, 6}};
  Quantize(machine.context(), {x.In(), Fp8Group<e4m3, 3>{codes.fp8->view, column_major}, ScaleMode::kEven});
  EXPECT_EQ(codes.fp8->Bits(), expected.fp8->Bits());
  for (int64_t r = 0; r < 6; ++r) {
    for (int64_t g = 0; g < 3; ++g) EXPECT_EQ(column_major(r, 0, g), expected.fp8_scales->view(r, 0, g));
  }
}

// Each kernel writes its name down.
TEST(KernelTable, PicksTheFirstKernelThatHonoursTheViews) {
  using Args = std::string_view*;
  const KernelTable<Args> table{
      {"packed", {{"x", true}}, [](const ExecContext&, const Args& ran) { *ran = "packed"; }},
      {"aligned", {{"x", false, 16}}, [](const ExecContext&, const Args& ran) { *ran = "aligned"; }},
      {"aligned too", {{"x", false, 16}}, [](const ExecContext&, const Args& ran) { *ran = "aligned too"; }}};
  alignas(16) float memory[64] = {};
  const auto dispatch = [&](std::array<int64_t, 2> strides) {
    OperandList operands;
    operands.Add("x", View<float, 2>{memory, {3, 4}, strides});
    std::string_view ran;
    Dispatch(ExecContext{}, table, "op", &ran, operands, 0);
    return ran;
  };
  EXPECT_EQ(dispatch({4, 1}), "packed") << "all three honour it";
  EXPECT_EQ(dispatch({5, 1}), "packed") << "the others do not";
  EXPECT_EQ(dispatch({8, 2}), "aligned") << "the first does not";
  EXPECT_THAT(LayoutError([&] {
                dispatch({9, 2});
              }),
              AllOf(HasSubstr("packed: x inner stride 1"), HasSubstr("aligned: x aligned to 16 bytes"),
                    HasSubstr("aligned too: x"), HasSubstr("strides (9, 2)")));
}

TEST(KernelTable, RequirementsAreMetOrExplained) {
  float memory[64] = {};
  OperandList operands;
  operands.Add("x", View<float, 2>{memory, {4, 5}, {10, 2}});
  const std::vector<Requirement> any, inner{{"x", true}}, aligned{{"x", false, 16}},
      half{{"x", false, 1, DTypeBit(DType::kBf16)}}, absent{{"y", true, 64, 0}};
  EXPECT_TRUE(internal::Meets(any, operands));
  EXPECT_FALSE(internal::Meets(inner, operands));
  EXPECT_FALSE(internal::Meets(aligned, operands)) << "rows are 40 bytes apart";
  EXPECT_FALSE(internal::Meets(half, operands));
  EXPECT_TRUE(internal::Meets(absent, operands));
  OperandList column;
  column.Add("x", View<float, 2>{memory, {4, 1}, {10, 7}});
  EXPECT_TRUE(internal::Meets(inner, column)) << "the stride of one element says nothing";

  std::string report;
  internal::Explain("cpu/a", inner, operands, &report);
  internal::Explain("cpu/b", {{"x", false, 16, DTypeBit(DType::kBf16) | DTypeBit(DType::kE4m3)}}, operands, &report);
  EXPECT_EQ(report, "cpu/a: x inner stride 1; or cpu/b: x bf16|e4m3 aligned to 16 bytes");
  EXPECT_THAT(
      LayoutError([&] { internal::FailLayout("op", report, operands); }),
      AllOf(HasSubstr("op: no kernel honours the views: expected cpu/a"), HasSubstr("x f32 (4, 5) strides (10, 2)")));
}

// Two kernels of one op: the extents choose, whatever the layouts allow; a plan asks for both kernels' memory.
TEST(KernelTable, ConditionsChooseTheKernel) {
  struct Args {
    int64_t rows;
    std::string_view* ran;
  };
  const std::vector<Requirement> inner{{"x", true}};
  const KernelTable<Args> table{{"few",
                                 inner,
                                 [](const ExecContext&, const Args& args) { *args.ran = "few"; },
                                 [](const Args&, int workers) {
                                   return WorkspaceSize{size_t{10} * static_cast<size_t>(workers), 1};
                                 },
                                 {{"at most 4 rows", [](const Args& args) { return args.rows <= 4; }}}},
                                {"many",
                                 inner,
                                 [](const ExecContext&, const Args& args) { *args.ran = "many"; },
                                 [](const Args& args, int) {
                                   return WorkspaceSize{1, static_cast<size_t>(args.rows)};
                                 },
                                 {{"at most 100 rows", [](const Args& args) { return args.rows <= 100; }}}}};
  ThreadPool pool(3);
  ExecContext context;
  context.pool = &pool;
  float memory[16] = {};
  OperandList honoured, refused;
  honoured.Add("x", View<float, 2>{memory, {2, 2}, {2, 1}});
  refused.Add("x", View<float, 2>{memory, {2, 2}, {4, 2}});
  std::string_view ran;
  Dispatch(context, table, "op", Args{4, &ran}, honoured, 0);
  EXPECT_EQ(ran, "few");
  Dispatch(context, table, "op", Args{5, &ran}, honoured, 0);
  EXPECT_EQ(ran, "many");
  EXPECT_THAT(LayoutError([&] {
                Dispatch(context, table, "op", Args{101, &ran}, honoured, 0);
              }),
              AllOf(HasSubstr("at most 4 rows"), HasSubstr("at most 100 rows")));
  EXPECT_THAT(LayoutError([&] {
                Dispatch(context, table, "op", Args{1, &ran}, refused, 0);
              }),
              HasSubstr("x inner stride 1"));
  ran = "";
  WorkspaceSize size;
  context.planned = &size;
  Dispatch(context, table, "op", Args{50, &ran}, honoured, 0);
  EXPECT_EQ(ran, "");
  EXPECT_EQ(size.shared, 30u);
  EXPECT_EQ(size.per_worker, 50u);
}

TEST(Workspace, TooSmallAPlanIsNamed) {
  alignas(64) std::byte memory[64 + 2 * 128];
  ExecContext context;
  context.workspace = {memory, memory + 64, {64, 128}};
  EXPECT_EQ(context.Scratch<float>(1, 64, 16) - context.Scratch<float>(0, 64, 16), 32);
  EXPECT_THROW(context.Scratch<float>(0, 64, 17), Error);
  EXPECT_THROW(context.SharedScratch<float>(32, 9), Error);
}

MXMLA_INSTANTIATE_BACKENDS(LayoutTest);

}  // namespace
}  // namespace mxmla::test
