#include <fmt/format.h>
#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <map>

#include "checkpoint/weight_tree.h"
#include "core/available_memory.h"
#include "core/error.h"
#include "core/thread_pool.h"

namespace mxmla {
namespace {

constexpr size_t kPatternBytes = size_t{1} << 20;
constexpr size_t kFillTask = size_t{8} << 20;
constexpr size_t kAlignment = 64;
constexpr size_t kHugePage = size_t{2} << 20;

// SplitMix64.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t Next() {
    uint64_t z = state_ += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  float Uniform() { return static_cast<float>(Next() >> 40) * 0x1p-24f; }
  // Of variance 1, bounded by 3.46: the sum of four uniforms.
  float Normal() { return (Uniform() + Uniform() + Uniform() + Uniform() - 2.0f) * std::sqrt(3.0f); }

 private:
  uint64_t state_;
};

struct Mapping {
  void* base = nullptr;
  size_t bytes = 0;
  ~Mapping() {
    if (base) munmap(base, bytes);
  }
};

// What a plane is filled with. Rows of k products of unit variance then sum to about unit variance.
enum class Content { kBf16, kE4m3, kFp8Scale, kE2m1, kMxScale, kNvScale, kInt4Scale, kNorm, kBias };

class DummySource : public WeightSource {
 public:
  DummySource(const ModelConfig& config, uint64_t seed) : config_(config), seed_(seed) {}

  LinearWeight Matrix(const std::string& module, int64_t n, int64_t k, bool plain) override {
    std::optional<WeightFormat> format;
    if (!plain && module != "lm_head") {
      format = config_.quantization.FormatOf(config_.multimodal ? "language_model." + module : module);
    }
    const bool whole_blocks = k % kMxBlock == 0;
    const auto blocks = [](int64_t extent) { return (extent + kFp8Block - 1) / kFp8Block; };
    if (format == WeightFormat::kFp8Squares) {
      return Fp8Block{Plane<const e4m3>(Content::kE4m3, n, k, 0),
                      Plane<const float>(Content::kFp8Scale, blocks(n), blocks(k), k), 0};
    }
    if (format == WeightFormat::kFp8Channel) {
      const auto values = Plane<const e4m3>(Content::kE4m3, n, k, 0);
      return Fp8Block{values, {Plane<const float>(Content::kFp8Scale, n, 1, k).data, {n, blocks(k)}, {1, 0}}, 0, 1};
    }
    if (format == WeightFormat::kFp8Tensor) {
      const auto values = Plane<const e4m3>(Content::kE4m3, n, k, 0);
      const float* scale = Plane<const float>(Content::kFp8Scale, 1, 1, k).data;
      return Fp8Block{values, {scale, {blocks(n), blocks(k)}, {0, 0}}};
    }
    if (format == WeightFormat::kMxfp4 && whole_blocks) {
      return Mxfp4<const e2m1x2, 2>{Plane<const e2m1x2>(Content::kE2m1, n, k / 2, 0),
                                    Plane<const e8m0>(Content::kMxScale, n, k / kMxBlock, k)};
    }
    if (format == WeightFormat::kMxfp8 && whole_blocks) {
      return Mxfp8{Plane<const e4m3>(Content::kE4m3, n, k, 0),
                   Plane<const e8m0>(Content::kMxScale, n, k / kMxBlock, k)};
    }
    if (format == WeightFormat::kNvfp4 && k % kNvBlock == 0) {
      const auto codes = Plane<const e2m1x2>(Content::kE2m1, n, k / 2, 0);
      // A code's root mean square is 2.93 and that of the scales about 1.
      const float scale = 0.34f / std::sqrt(static_cast<float>(k));
      return Nvfp4{codes, Plane<const e4m3>(Content::kNvScale, n, k / kNvBlock, 0), scale};
    }
    if (format == WeightFormat::kInt4 && whole_blocks) {
      return Int4Group{Plane<const int4x2>(Content::kE2m1, n, k / 2, 0),
                       Plane<const bf16>(Content::kInt4Scale, n, k / kInt4Group, k)};
    }
    return Plane<const bf16>(Content::kBf16, n, k, k);
  }

  View<const float, 1> Vector(const std::string& name, int64_t n) override {
    const bool bias = name.find("e_score_correction_bias") != std::string::npos;
    return Plane<const float>(bias ? Content::kBias : Content::kNorm, 1, n, 0).Select(0, 0);
  }

  View<const float, 1> OptionalVector(const std::string&, int64_t) override { return {}; }
  void UnusedVector(const std::string&) override {}
  bool HasHead() override { return false; }  // only matters for a tied head
  std::optional<SplitHeads> Split(const std::string&) override { return std::nullopt; }
  std::optional<ExpertWeights> FusedExperts(const std::string&) override { return std::nullopt; }

  // The first walk of the tree counted the bytes; the second hands them out.
  std::shared_ptr<const void> Allocate() {
    auto mapping = std::make_shared<Mapping>();
    const size_t bytes = offset_ + kHugePage;
    if (const size_t available = AvailableMemory(); bytes > available)
      FailMemory(bytes, fmt::format("{:.1f} GB free", available * 1e-9));
    void* base = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED) FailMemory(bytes, std::strerror(errno));
    mapping->base = base;
    mapping->bytes = bytes;
    madvise(base, bytes, MADV_HUGEPAGE);  // a wish; the fill works without
    const size_t past = reinterpret_cast<uintptr_t>(base) % kHugePage;
    base_ = static_cast<std::byte*>(base) + (past == 0 ? 0 : kHugePage - past);
    offset_ = 0;
    return mapping;
  }

  void Fill(ThreadPool& pool) {
    struct Task {
      const Job* job;
      size_t begin, bytes;
    };
    std::vector<Task> tasks;
    for (const Job& job : jobs_) {
      for (size_t begin = 0; begin < job.bytes; begin += kFillTask) {
        tasks.push_back({&job, begin, std::min(kFillTask, job.bytes - begin)});
      }
    }
    pool.ParallelFor(static_cast<int64_t>(tasks.size()), [&](int64_t i, int) {
      const Task& task = tasks[static_cast<size_t>(i)];
      const std::vector<std::byte>& pattern = *task.job->pattern;
      // Each task starts elsewhere in the pattern, at a whole element.
      size_t at = Random(seed_ + static_cast<uint64_t>(i)).Next() % pattern.size() / 4 * 4;
      for (size_t done = 0; done < task.bytes;) {
        const size_t count = std::min(pattern.size() - at, task.bytes - done);
        std::memcpy(task.job->destination + task.begin + done, pattern.data() + at, count);
        done += count;
        at = 0;
      }
    });
  }

 private:
  struct Job {
    std::byte* destination;
    size_t bytes;
    const std::vector<std::byte>* pattern;
  };

  [[noreturn]] static void FailMemory(size_t bytes, const std::string& found) {
    Fail(ErrorCode::kMemory, "dummy weights", fmt::format("{:.1f} GB of memory", static_cast<double>(bytes) * 1e-9),
         found, "cut the model down with --layers or --experts");
  }

  template <class T>
  View<T, 2> Plane(Content content, int64_t n, int64_t k, int64_t row) {
    const size_t bytes = static_cast<size_t>(n) * static_cast<size_t>(k) * sizeof(T);
    View<T, 2> view = View<T, 2>::Contiguous(nullptr, {n, k});
    if (base_) {
      view.data = reinterpret_cast<T*>(base_ + offset_);
      jobs_.push_back({base_ + offset_, bytes, &Pattern(content, row)});
    }
    offset_ += (bytes + kAlignment - 1) / kAlignment * kAlignment;
    return view;
  }

  const std::vector<std::byte>& Pattern(Content content, int64_t row) {
    const auto [at, inserted] = patterns_.try_emplace({content, row});
    if (inserted)
      at->second = MakePattern(content, row,
                               Random(seed_ ^ (static_cast<uint64_t>(content) << 56) ^ static_cast<uint64_t>(row)));
    return at->second;
  }

  static std::vector<std::byte> MakePattern(Content content, int64_t row, Random random) {
    std::vector<std::byte> pattern;
    pattern.reserve(kPatternBytes);
    const auto fill = [&](auto make) {
      using T = decltype(make());
      for (size_t i = 0; i < kPatternBytes / sizeof(T); ++i) {
        const auto bytes = std::bit_cast<std::array<std::byte, sizeof(T)>>(make());
        pattern.insert(pattern.end(), bytes.begin(), bytes.end());
      }
    };
    const float deviation = 1.0f / std::sqrt(static_cast<float>(std::max<int64_t>(row, 1)));
    switch (content) {
      case Content::kBf16:
        fill([&] { return bf16::FromFloat(random.Normal() * deviation); });
        break;
      case Content::kE4m3:
        fill([&] { return e4m3::FromFloat(random.Normal()); });
        break;
      case Content::kFp8Scale:
        fill([&] { return deviation * (0.75f + 0.5f * random.Uniform()); });
        break;
      case Content::kE2m1:
        fill([&] { return e2m1x2{static_cast<uint8_t>(random.Next() >> 56)}; });
        break;
      case Content::kMxScale: {
        // A random E2M1 code has a root mean square of 2.93.
        const int exponent = static_cast<int>(std::floor(std::log2(deviation / 2.93f)));
        fill([&] {
          return e8m0{static_cast<uint8_t>(std::clamp(127 + exponent + static_cast<int>(random.Next() >> 63), 0, 254))};
        });
        break;
      }
      case Content::kNvScale:
        fill([&] { return e4m3::FromFloat(0.75f + 0.5f * random.Uniform()); });
        break;
      case Content::kInt4Scale:
        // A random integer from -8 to 7 has a root mean square of 4.64.
        fill([&] { return bf16::FromFloat(deviation / 4.64f * (0.75f + 0.5f * random.Uniform())); });
        break;
      case Content::kNorm:
        fill([&] { return 1.0f + 0.1f * (random.Uniform() - 0.5f); });
        break;
      case Content::kBias:
        fill([&] { return 0.1f * (random.Uniform() - 0.5f); });
        break;
    }
    return pattern;
  }

  const ModelConfig& config_;
  const uint64_t seed_;
  std::byte* base_ = nullptr;
  size_t offset_ = 0;
  std::vector<Job> jobs_;
  std::map<std::pair<Content, int64_t>, std::vector<std::byte>> patterns_;
};

}  // namespace

ModelWeights DummyWeights(const ModelConfig& config, uint64_t seed, ThreadPool& pool) {
  DummySource source(config, seed);
  BuildWeights(config, source);
  std::shared_ptr<const void> storage = source.Allocate();
  ModelWeights weights = BuildWeights(config, source);
  source.Fill(pool);
  weights.storage = std::move(storage);
  return weights;
}

}  // namespace mxmla
