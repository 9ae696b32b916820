// The products on the matrix units against `ref` on the same bytes: every pair of formats, ragged extents, extreme
// scales, poison, strided outputs among canaries; the three layouts of the V projection bit for bit; and what the
// emulator counted against formulas.
#include <dlfcn.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <nlohmann/json.hpp>
#include <random>

#include "core/thread_pool.h"
#include "hip/backend.h"
#include "hip/grouped_linear.h"
#include "hip/library.h"
#include "hip/linear.h"
#include "hip/query_absorb.h"
#include "hip/value_project.h"
#include "ops/quantize.h"
#include "ref/backend.h"

namespace mxmla {
namespace {

constexpr uint8_t kCanary = 0xa5;

// Memory that both sides address, in rows that begin on 16-byte boundaries, full of canaries.
class Bytes {
 public:
  explicit Bytes(size_t bytes) : bytes_(bytes) {
    void* data = nullptr;
    hip::Check(hip::Hip().host_malloc(&data, bytes + 1, hipHostMallocDefault), "test", "memory");
    data_ = static_cast<uint8_t*>(data);
    std::memset(data_, kCanary, bytes);
  }
  ~Bytes() { static_cast<void>(hip::Hip().host_free(data_)); }
  Bytes(const Bytes&) = delete;

  uint8_t* data() const { return data_; }
  size_t size() const { return bytes_; }
  std::vector<uint8_t> Copy() const { return {data_, data_ + bytes_}; }

 private:
  uint8_t* data_ = nullptr;
  size_t bytes_;
};

template <class T>
struct Matrix {
  Bytes bytes;
  View<T, 2> view;

  // `padding` elements behind each row.
  Matrix(int64_t rows, int64_t columns, int64_t padding)
      : bytes(static_cast<size_t>((rows + 1) * (columns + padding)) * sizeof(T)),
        view{reinterpret_cast<T*>(bytes.data()), {rows, columns}, {columns + padding, 1}} {}

  bool UntouchedOutside() const {
    for (int64_t r = 0; r <= view.shape[0]; ++r) {
      const auto* row = reinterpret_cast<const uint8_t*>(view.data + r * view.stride[0]);
      const int64_t begin = r < view.shape[0] ? view.shape[1] * int64_t{sizeof(T)} : 0;
      for (int64_t at = begin; at < view.stride[0] * int64_t{sizeof(T)}; ++at) {
        if (row[at] != kCanary) return false;
      }
    }
    return true;
  }
};

enum class Kind { kBf16, kFp8, kMxfp4 };
const char* Name(Kind kind) { return kind == Kind::kBf16 ? "bf16" : kind == Kind::kFp8 ? "fp8" : "mxfp4"; }

using Rng = std::mt19937_64;

// Rows of random finite values; also as weights, whose FP8 scales are of squares.
class Tensor {
 public:
  Tensor(Rng& rng, Kind kind, int64_t rows, int64_t k) : kind_(kind), rows_(rows), k_(k) {
    std::uniform_real_distribution<float> uniform(-1, 1);
    std::uniform_real_distribution<float> scale(1e-3f, 1e-2f);
    if (kind == Kind::kBf16) {
      half_ = std::make_unique<Matrix<bf16>>(rows, k, 16);
      ForEach(half_->view, [&](bf16& v) { v = bf16::FromFloat(uniform(rng)); });
    } else if (kind == Kind::kFp8) {
      fp8_ = std::make_unique<Matrix<e4m3>>(rows, k, 32);
      ForEach(fp8_->view, [&](e4m3& v) { v = e4m3::FromFloat(100 * uniform(rng)); });
      group_scales_ = std::make_unique<Matrix<float>>(rows, (k + 127) / 128, 3);
      block_scales_ = std::make_unique<Matrix<float>>((rows + kFirstRow + 127) / 128, (k + 127) / 128, 1);
      ForEach(group_scales_->view, [&](float& v) { v = scale(rng); });
      ForEach(block_scales_->view, [&](float& v) { v = scale(rng); });
    } else {
      fp4_ = std::make_unique<Matrix<e2m1x2>>(rows, k / 2, 16);
      ForEach(fp4_->view, [&](e2m1x2& v) { v.bits = static_cast<uint8_t>(rng()); });
      fp4_scales_ = std::make_unique<Matrix<e8m0>>(rows, k / 32, 5);
      ForEach(fp4_scales_->view, [&](e8m0& v) { v.bits = static_cast<uint8_t>(120 + rng() % 10); });
    }
  }

  Activation<2> Input() const {
    if (kind_ == Kind::kBf16) return View<const bf16, 2>(half_->view);
    if (kind_ == Kind::kFp8) return Fp8Group<const e4m3, 2>{fp8_->view, group_scales_->view};
    return Mxfp4<const e2m1x2, 2>{fp4_->view, fp4_scales_->view};
  }
  LinearWeight Weights() const {
    if (kind_ == Kind::kBf16) return View<const bf16, 2>(half_->view);
    if (kind_ == Kind::kFp8) return Fp8Block{fp8_->view, block_scales_->view, kFirstRow};
    return Mxfp4<const e2m1x2, 2>{fp4_->view, fp4_scales_->view};
  }
  // (rows / heads, heads, k) of (rows, k).
  Activation<3> Heads(int64_t heads) const {
    const auto split = [&](const auto& view) { return view.Split(0, rows_ / heads, heads); };
    if (kind_ == Kind::kBf16) return View<const bf16, 3>(split(half_->view));
    if (kind_ == Kind::kFp8) return Fp8Group<const e4m3, 3>{split(fp8_->view), split(group_scales_->view)};
    return Mxfp4<const e2m1x2, 3>{split(fp4_->view), split(fp4_scales_->view)};
  }
  e8m0& Scale(int64_t r, int64_t block) { return fp4_scales_->view(r, block); }
  e2m1x2& Codes(int64_t r, int64_t pair) { return fp4_->view(r, pair); }
  bf16& Half(int64_t r, int64_t k) { return half_->view(r, k); }

 private:
  template <class T, class Body>
  static void ForEach(const View<T, 2>& view, const Body& body) {
    for (int64_t r = 0; r < view.shape[0]; ++r) {
      for (int64_t c = 0; c < view.shape[1]; ++c) body(view(r, c));
    }
  }

  static constexpr int64_t kFirstRow = 88;  // weights begin inside a square of scales

  Kind kind_;
  int64_t rows_, k_;
  std::unique_ptr<Matrix<bf16>> half_;
  std::unique_ptr<Matrix<e4m3>> fp8_;
  std::unique_ptr<Matrix<float>> group_scales_, block_scales_;
  std::unique_ptr<Matrix<e2m1x2>> fp4_;
  std::unique_ptr<Matrix<e8m0>> fp4_scales_;
};

class HipProducts : public testing::Test {
 protected:
  void SetUp() override {
    if (const std::string why = hip::WhyUnusable(0); !why.empty()) GTEST_SKIP() << why;
    on_device_.kernels = &hip::Kernels();
    on_device_.pool = &pool_;
    on_host_.kernels = &RefKernels();
    on_host_.pool = &pool_;
  }

  // What the emulator counted of kernels whose names have `part` in them, since the last call.
  static nlohmann::json Counted(const std::string& part) {
    void* library = dlopen(std::getenv("MXMLA_HIP_LIB"), RTLD_NOW | RTLD_NOLOAD);
    const auto json = reinterpret_cast<const char* (*)()>(dlsym(library, "gfx950emu_counters_json"));
    const auto reset = reinterpret_cast<void (*)()>(dlsym(library, "gfx950emu_reset_counters"));
    const nlohmann::json all = nlohmann::json::parse(json());
    reset();
    for (const auto& [name, counters] : all.items()) {
      if (name.find(part) != std::string::npos) return counters;
    }
    return {};
  }
  static bool Emulated() {
    void* library = dlopen(std::getenv("MXMLA_HIP_LIB"), RTLD_NOW | RTLD_NOLOAD);
    return library && dlsym(library, "gfx950emu_set_seed");
  }
  static void SetSeed(uint64_t seed) {
    void* library = dlopen(std::getenv("MXMLA_HIP_LIB"), RTLD_NOW | RTLD_NOLOAD);
    reinterpret_cast<void (*)(uint64_t)>(dlsym(library, "gfx950emu_set_seed"))(seed);
  }

  Rng rng_{20261130};
  ThreadPool pool_{2};
  ExecContext on_device_, on_host_;
};

// Sums of magnitudes are of the order of `scale`: the largest magnitude of a row of results bounds their errors.
void ExpectNear(const View<float, 2>& found, const View<float, 2>& expected, float tolerance) {
  for (int64_t r = 0; r < expected.shape[0]; ++r) {
    float largest = 0;
    for (int64_t c = 0; c < expected.shape[1]; ++c) {
      if (std::isfinite(expected(r, c))) largest = std::max(largest, std::fabs(expected(r, c)));
    }
    for (int64_t c = 0; c < expected.shape[1]; ++c) {
      if (std::isnan(expected(r, c))) {
        ASSERT_TRUE(std::isnan(found(r, c))) << r << ", " << c;
      } else {
        ASSERT_NEAR(found(r, c), expected(r, c), tolerance * largest) << r << ", " << c;
      }
    }
  }
}

struct Pair {
  Kind x, w;
};
constexpr Pair kPairs[] = {{Kind::kBf16, Kind::kBf16},
                           {Kind::kBf16, Kind::kFp8},
                           {Kind::kBf16, Kind::kMxfp4},
                           {Kind::kFp8, Kind::kFp8},
                           {Kind::kMxfp4, Kind::kMxfp4}};

TEST_F(HipProducts, LinearOfEveryPairOfFormats) {
  struct Size {
    int64_t rows, n, k;
  };
  for (const Size size :
       {Size{1, 16, 128}, {1, 5, 32}, {3, 33, 160}, {16, 48, 544}, {17, 70, 256}, {33, 16, 384}, {67, 20, 1056}}) {
    for (const Pair pair : kPairs) {
      SCOPED_TRACE(testing::Message() << size.rows << " x " << size.n << " x " << size.k << " " << Name(pair.x) << " * "
                                      << Name(pair.w));
      const Tensor x(rng_, pair.x, size.rows, size.k), w(rng_, pair.w, size.n, size.k);
      Matrix<float> expected(size.rows, size.n, 0), found(size.rows, size.n, 3);
      Matrix<bf16> half(size.rows, size.n, 5);
      const LinearArgs args{x.Input(), w.Weights(), FloatOutput<2>(found.view)};
      ASSERT_TRUE(hip::HonoursLinear(args));
      Linear(on_host_, {x.Input(), w.Weights(), FloatOutput<2>(expected.view)});
      hip::Linear(on_device_, args);
      hip::Linear(on_device_, {x.Input(), w.Weights(), FloatOutput<2>(half.view)});
      ExpectNear(found.view, expected.view, 3e-6f);
      EXPECT_TRUE(found.UntouchedOutside());
      EXPECT_TRUE(half.UntouchedOutside());
      for (int64_t r = 0; r < size.rows; ++r) {
        for (int64_t c = 0; c < size.n; ++c) {
          ASSERT_EQ(half.view(r, c).bits, bf16::FromFloat(found.view(r, c)).bits);
        }
      }
    }
  }
}

TEST_F(HipProducts, ARowsBitsDependOnNothingBesideIt) {
  const int64_t rows = 70, n = 40, k = 416;
  for (const Pair pair : kPairs) {
    SCOPED_TRACE(testing::Message() << Name(pair.x) << " * " << Name(pair.w));
    const Tensor x(rng_, pair.x, rows, k), w(rng_, pair.w, n, k);
    Matrix<float> together(rows, n, 0), alone(rows, n, 0);
    hip::Linear(on_device_, {x.Input(), w.Weights(), FloatOutput<2>(together.view)});
    for (int64_t r = 0; r < rows;) {
      const int64_t count = std::min<int64_t>(rows - r, r < 6 ? 1 : 23);
      const auto in = std::visit([&](const auto& v) -> Activation<2> { return v.Rows(r, count); }, x.Input());
      hip::Linear(on_device_, {in, w.Weights(), FloatOutput<2>(alone.view.Rows(r, count))});
      r += count;
    }
    EXPECT_EQ(together.bytes.Copy(), alone.bytes.Copy());
  }
}

TEST_F(HipProducts, ExtremeScalesAndPoison) {
  const int64_t rows = 5, n = 20, k = 256;
  for (const Kind of_x : {Kind::kBf16, Kind::kMxfp4}) {
    SCOPED_TRACE(Name(of_x));
    Tensor x(rng_, of_x, rows, k), w(rng_, Kind::kMxfp4, n, k);
    for (int64_t block = 0; block < k / 32; ++block) {
      w.Scale(0, block).bits = 0;    // 2^-127
      w.Scale(1, block).bits = 200;  // large, but finite in sums
    }
    w.Scale(2, 3).bits = e8m0::kNan;
    w.Scale(17, 0).bits = e8m0::kNan;
    if (of_x == Kind::kMxfp4) {
      x.Scale(1, 7).bits = e8m0::kNan;
      x.Scale(3, 0).bits = 1;
    } else {
      x.Half(1, 200) = bf16::FromFloat(std::nanf(""));
      x.Half(2, 3) = {0x0001};  // subnormal
    }
    Matrix<float> expected(rows, n, 0), found(rows, n, 0);
    Linear(on_host_, {x.Input(), w.Weights(), FloatOutput<2>(expected.view)});
    hip::Linear(on_device_, {x.Input(), w.Weights(), FloatOutput<2>(found.view)});
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t c = 0; c < n; ++c) {
        const bool poisoned = r == 1 || c == 2 || c == 17;
        ASSERT_EQ(std::isnan(expected.view(r, c)), poisoned);
        ASSERT_EQ(std::isnan(found.view(r, c)), poisoned) << r << ", " << c;
        if (poisoned) continue;
        const float bound = c == 1 ? 0x1p60f : c == 0 ? 0x1p-125f : 1e-3f;
        ASSERT_NEAR(found.view(r, c), expected.view(r, c), std::max(bound, 1e-5f * std::fabs(expected.view(r, c))));
      }
    }
    for (int64_t r = 0; r < rows; ++r) {  // not lost among the large
      if (r != 1) {
        ASSERT_NE(found.view(r, 0), 0.0f);
      }
    }
  }
}

TEST_F(HipProducts, LayoutsThatAreNotHonouredAreRefused) {
  const Tensor x(rng_, Kind::kBf16, 2, 64), w(rng_, Kind::kMxfp4, 16, 64);
  Matrix<float> out(2, 16, 0);
  const auto odd = std::get<View<const bf16, 2>>(x.Input()).Slice(1, 4, 32);
  const auto weights = std::visit(
      [](const auto& v) -> LinearWeight {
        if constexpr (requires { v.values; })
          return v.Rows(0, 16);
        else
          return v;
      },
      w.Weights());
  EXPECT_FALSE(hip::HonoursLinear({Activation<2>(odd), weights, FloatOutput<2>(out.view)}));
  const Tensor fp8(rng_, Kind::kFp8, 2, 64);
  EXPECT_FALSE(hip::HonoursLinear({fp8.Input(), weights, FloatOutput<2>(out.view)}));
}

// --- the V projection ---

struct Flat {
  Matrix<bf16> half;
  Matrix<e2m1x2> codes;
  Matrix<e8m0> block_scales;
  Matrix<e4m3> fp8;
  Matrix<float> group_scales;

  Flat(int64_t rows, int64_t columns)
      : half(rows, columns, 6),
        codes(rows, columns / 2, 7),
        block_scales(rows, columns / 32, 3),
        fp8(rows, columns, 9),
        group_scales(rows, columns / 128, 1) {}

  Mxfp4<e2m1x2, 2> Mx() const { return {codes.view, block_scales.view}; }
  Fp8Group<e4m3, 2> Fp8() const { return {fp8.view, group_scales.view}; }
  std::vector<std::vector<uint8_t>> Bits() const {
    return {half.bytes.Copy(), codes.bytes.Copy(), block_scales.bytes.Copy(), fp8.bytes.Copy(),
            group_scales.bytes.Copy()};
  }
};

TEST_F(HipProducts, TheThreeLayoutsOfTheVProjectionAreTheSameBits) {
  const int64_t heads = 3, v = 128, nope = 64, latents = 512;
  for (const int64_t rows : {1, 5, 16, 35}) {
    for (const Pair pair : kPairs) {
      for (const ScaleMode mode : {ScaleMode::kEven, ScaleMode::kFloor, ScaleMode::kCeil}) {
        if (mode != ScaleMode::kEven && (rows != 5 || pair.w != Kind::kMxfp4)) continue;
        SCOPED_TRACE(testing::Message() << rows << " rows, " << Name(pair.x) << " * " << Name(pair.w));
        const Tensor attn(rng_, pair.x, rows * heads, latents), w(rng_, pair.w, heads * (nope + v), latents);
        const HeadWeight w_vc{w.Weights(), heads, nope + v, nope, v};
        const auto project = [&](auto out) {
          const ValueProjectArgs args{attn.Heads(heads), w_vc, {out}, mode};
          EXPECT_TRUE(hip::HonoursValueProject(args));
          hip::ValueProject(on_device_, args);
        };
        // Strided: token-major, then the row kernel that flattens and quantises.
        Flat strided(rows, heads * v), copied(rows, heads * v), fused(rows, heads * v);
        project(FloatOutput<3>(strided.half.view.Split(1, heads, v)));
        const auto quantise = [&](Flat& flat, const FloatInput<3>& in) {
          FlattenQuantize(on_device_, {in, QuantizedOutput<2>(flat.Mx()), mode});
          FlattenQuantize(on_device_, {in, QuantizedOutput<2>(flat.Fp8()), mode});
        };
        quantise(strided, View<const bf16, 3>(strided.half.view.Split(1, heads, v)));
        // Copy: head-major, copied to token-major, then the same.
        Matrix<bf16> head_major(heads * rows, v, 0);
        const View<bf16, 3> by_head = head_major.view.Split(0, heads, rows).Permute({1, 0, 2});
        project(FloatOutput<3>(by_head));
        Copy(on_device_,
             {FloatInput<3>(View<const bf16, 3>(by_head)), FloatOutput<3>(copied.half.view.Split(1, heads, v))});
        quantise(copied, View<const bf16, 3>(copied.half.view.Split(1, heads, v)));
        // Fused: o_proj's input.
        project(ActivationOutput<2>(fused.half.view));
        project(ActivationOutput<2>(fused.Mx()));
        project(ActivationOutput<2>(fused.Fp8()));
        ASSERT_EQ(strided.Bits(), copied.Bits());
        ASSERT_EQ(strided.Bits(), fused.Bits());
        // And near ref.
        Matrix<float> expected(rows, heads * v, 0), found(rows, heads * v, 0);
        ValueProject(on_host_, {attn.Heads(heads), w_vc, {FloatOutput<3>(expected.view.Split(1, heads, v))}, mode});
        project(FloatOutput<3>(found.view.Split(1, heads, v)));
        ExpectNear(found.view, expected.view, 3e-6f);
      }
    }
  }
}

TEST_F(HipProducts, TheFusedQuantiserIsRefsOnTheSameValues) {
  const int64_t rows = 4, heads = 2, v = 128, latents = 512;
  Tensor attn(rng_, Kind::kBf16, rows * heads, latents);
  const Tensor w(rng_, Kind::kBf16, heads * v, latents);
  for (int64_t k = 0; k < latents; ++k) {
    attn.Half(2, k) = bf16::FromFloat(0);  // row 1, head 0: zeros
    attn.Half(5, k) = bf16::FromFloat(k % 2 ? 1e30f : -1e30f);
  }
  attn.Half(7, 9) = bf16::FromFloat(std::nanf(""));  // row 3, head 1: poison
  const HeadWeight w_vc{w.Weights(), heads, v, 0, v};
  for (const ScaleMode mode : {ScaleMode::kEven, ScaleMode::kFloor, ScaleMode::kCeil}) {
    Flat fused(rows, heads * v), expected(rows, heads * v);
    for (const ActivationOutput<2>& out :
         {ActivationOutput<2>(fused.half.view), ActivationOutput<2>(fused.Mx()), ActivationOutput<2>(fused.Fp8())}) {
      hip::ValueProject(on_device_, {attn.Heads(heads), w_vc, {out}, mode});
    }
    const FloatInput<3> values = View<const bf16, 3>(fused.half.view.Split(1, heads, v));
    FlattenQuantize(on_host_, {values, QuantizedOutput<2>(expected.Mx()), mode});
    FlattenQuantize(on_host_, {values, QuantizedOutput<2>(expected.Fp8()), mode});
    EXPECT_EQ(fused.codes.bytes.Copy(), expected.codes.bytes.Copy());
    EXPECT_EQ(fused.block_scales.bytes.Copy(), expected.block_scales.bytes.Copy());
    EXPECT_EQ(fused.fp8.bytes.Copy(), expected.fp8.bytes.Copy());
    EXPECT_EQ(fused.group_scales.bytes.Copy(), expected.group_scales.bytes.Copy());
    EXPECT_EQ(fused.block_scales.view(3, 7).bits, e8m0::kNan);
    EXPECT_EQ(fused.block_scales.view(1, 0).bits, 0);
  }
}

// --- the query's move into the latent space ---

TEST_F(HipProducts, QueryAbsorbFromTheCheckpointsOwnBlocks) {
  const int64_t heads = 3, v = 64, latents = 256;
  for (const int64_t nope : {128, 192}) {
    for (const int64_t rows : {1, 7, 33}) {
      for (const Kind kind : {Kind::kBf16, Kind::kMxfp4}) {
        SCOPED_TRACE(testing::Message() << rows << " rows of " << nope << ", " << Name(kind));
        const Tensor query(rng_, Kind::kBf16, rows * heads, nope);
        Tensor w(rng_, kind, heads * (nope + v), latents);
        if (kind == Kind::kMxfp4) w.Scale(nope + v + 5, 1).bits = e8m0::kNan;  // head 1: latents 32 .. 63
        const HeadWeight w_kc{w.Weights(), heads, nope + v, 0, nope};
        Matrix<float> expected(rows, heads * latents, 0), found(rows, heads * latents, 4);
        const QueryAbsorbArgs args{query.Heads(heads), w_kc, false,
                                   FloatOutput<3>(found.view.Split(1, heads, latents))};
        ASSERT_TRUE(hip::HonoursQueryAbsorb(args));
        QueryAbsorb(on_host_,
                    {query.Heads(heads), w_kc, false, FloatOutput<3>(expected.view.Split(1, heads, latents))});
        hip::QueryAbsorb(on_device_, args);
        ExpectNear(found.view, expected.view, 3e-6f);
        EXPECT_TRUE(found.UntouchedOutside());
        EXPECT_EQ(std::isnan(found.view(0, latents + 40)), kind == Kind::kMxfp4);
      }
    }
  }
}

// --- experts ---

TEST_F(HipProducts, ExpertsOfEveryPairOfFormats) {
  const int64_t n = 40, k = 288;
  constexpr int64_t kExperts = 70;  // more than a wave has lanes
  for (const Pair pair : kPairs) {
    for (const int64_t pairs_per_row : {1, 3}) {
      for (const int64_t rows : {1, 50, 200}) {
        SCOPED_TRACE(testing::Message() << Name(pair.x) << " * " << Name(pair.w) << ", " << rows << " rows");
        const int64_t pairs = rows * pairs_per_row;
        const Tensor x(rng_, pair.x, rows, k), all(rng_, pair.w, kExperts * n, k);
        std::vector<LinearWeight> weights;
        for (int64_t e = 0; e < kExperts; ++e) weights.push_back(Rows(all.Weights(), e * n, n));
        // Half of the pairs are two experts'; the last pairs are padding.
        const int64_t padding = pairs > 4 ? 3 : 0;
        std::vector<std::vector<int32_t>> of_expert(kExperts);
        for (int64_t p = 0; p < pairs - padding; ++p) {
          of_expert[rng_() % 2 ? (rng_() % 2 ? 5 : 69) : rng_() % kExperts].push_back(static_cast<int32_t>(p));
        }
        const Bytes begin_bytes(sizeof(int32_t) * (kExperts + 1)),
            pair_bytes(sizeof(int32_t) * static_cast<size_t>(pairs));
        auto* begin = reinterpret_cast<int32_t*>(begin_bytes.data());
        auto* order = reinterpret_cast<int32_t*>(pair_bytes.data());
        int32_t next = 0;
        for (int64_t e = 0; e < kExperts; ++e) {
          begin[e] = next;
          for (const int32_t p : of_expert[static_cast<size_t>(e)]) order[next++] = p;
        }
        begin[kExperts] = next;
        for (int64_t p = pairs - padding; p < pairs; ++p) order[next++] = static_cast<int32_t>(p);
        Matrix<float> expected(pairs, n, 0), found(pairs, n, 2);
        const hip::PlacedExperts placed(weights);
        GroupedLinearArgs args{x.Input(),
                               pairs_per_row,
                               weights,
                               View<const int32_t, 1>::Contiguous(begin, {kExperts + 1}),
                               View<const int32_t, 1>::Contiguous(order, {pairs}),
                               FloatOutput<2>(expected.view)};
        GroupedLinear(on_host_, args);
        args.out = FloatOutput<2>(found.view);
        args.placed = &placed;
        ASSERT_TRUE(hip::HonoursGroupedLinear(args));
        hip::GroupedLinear(on_device_, args);
        ExpectNear(found.view.Rows(0, pairs - padding), expected.view.Rows(0, pairs - padding), 3e-6f);
        EXPECT_TRUE(found.UntouchedOutside());
        const auto* rest = reinterpret_cast<const uint8_t*>(found.view.Rows(pairs - padding, padding).data);
        for (int64_t i = 0; i < padding * (n + 2) * 4; ++i) ASSERT_EQ(rest[i], kCanary);  // padding stays as it was
      }
    }
  }
}

// --- what the emulator counts ---

TEST_F(HipProducts, TheFusedLayoutStoresCodesAndScalesAlone) {
  if (!Emulated()) GTEST_SKIP() << "a GPU counts nothing";
  const int64_t rows = 20, heads = 2, v = 128, latents = 512;
  const Tensor attn(rng_, Kind::kBf16, rows * heads, latents), w(rng_, Kind::kMxfp4, heads * v, latents);
  const HeadWeight w_vc{w.Weights(), heads, v, 0, v};
  const Flat flat(rows, heads * v);
  Counted("");
  ValueProject(on_device_, {attn.Heads(heads), w_vc, {ActivationOutput<2>(flat.Mx())}});
  const nlohmann::json counted = Counted("");
  EXPECT_EQ(counted["launches"], 1);
  EXPECT_EQ(counted["global_store_bytes"], rows * heads * (v / 2 + v / 32));
}

TEST_F(HipProducts, WorkIsWhatTheFormulaSays) {
  if (!Emulated()) GTEST_SKIP() << "a GPU counts nothing";
  const int64_t n = 64, k = 512;
  for (const int64_t rows : {1, 16, 33}) {
    const int64_t tiles = rows <= 16 ? 1 : rows <= 32 ? 2 : 4;
    for (const Pair pair : kPairs) {
      SCOPED_TRACE(testing::Message() << rows << " rows, " << Name(pair.x) << " * " << Name(pair.w));
      const Tensor x(rng_, pair.x, rows, k), w(rng_, pair.w, n, k);
      Matrix<bf16> out(rows, n, 0);
      Counted("");
      hip::Linear(on_device_, {x.Input(), w.Weights(), FloatOutput<2>(out.view)});
      const nlohmann::json counted = Counted("LinearKernel");
      const bool wide = pair.x != Kind::kBf16;  // 128 elements an instruction, else 32
      EXPECT_EQ(counted["mfma"], n / 16 * tiles * k / (wide ? 128 : 32));
      EXPECT_EQ(counted["global_store_bytes"], rows * n * 2);
      // Every weight and scale once for each 16 features; a lane's scales: one byte a block, or four floats a step.
      const auto lane_bytes = [&](Kind kind, bool weight) -> int64_t {
        const int64_t values = 64 * 32 * (kind == Kind::kBf16 ? 4 : kind == Kind::kFp8 ? 2 : 1) / 2;
        const int64_t scales = kind == Kind::kMxfp4 ? 64 : kind == Kind::kFp8 ? (weight ? 64 * 16 : 64 * 4) : 0;
        return values + scales;
      };
      const int64_t steps = n / 16 * k / 128;
      EXPECT_EQ(counted["global_load_bytes"], steps * (lane_bytes(pair.w, true) + tiles * lane_bytes(pair.x, false)));
      EXPECT_EQ(counted["scratch_bytes"], 0);
    }
  }
}

TEST_F(HipProducts, OrdersOfWavesGiveTheSameBits) {
  if (!Emulated()) GTEST_SKIP() << "a GPU has an order of its own";
  const Tensor x(rng_, Kind::kBf16, 19, 640), w(rng_, Kind::kMxfp4, 40, 640);
  Matrix<bf16> first(19, 40, 0);
  hip::Linear(on_device_, {x.Input(), w.Weights(), FloatOutput<2>(first.view)});
  for (uint64_t seed = 100; seed < 105; ++seed) {
    SetSeed(seed);
    Matrix<bf16> again(19, 40, 0);
    hip::Linear(on_device_, {x.Input(), w.Weights(), FloatOutput<2>(again.view)});
    EXPECT_EQ(first.bytes.Copy(), again.bytes.Copy());
  }
}

}  // namespace
}  // namespace mxmla
