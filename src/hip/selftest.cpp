#include "hip/selftest.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "hip/layout_probe.h"
#include "hip/library.h"
#include "hip/selftest_case.h"

namespace mxmla::hip {
namespace {

constexpr int kLanes = 64;

// Pinned memory of both sides.
template <class T>
class Shared {
 public:
  explicit Shared(int64_t count) : count_(count) {
    void* data = nullptr;
    Check(Hip().host_malloc(&data, static_cast<size_t>(count) * sizeof(T) + 16, hipHostMallocDefault), "selftest",
          "pinned memory");
    data_ = static_cast<T*>(data);
    std::fill_n(data_, count, T{});
  }
  ~Shared() { static_cast<void>(Hip().host_free(data_)); }
  Shared(const Shared&) = delete;

  T* data() const { return data_; }
  T& operator[](int64_t i) const { return data_[i]; }
  int64_t size() const { return count_; }

 private:
  T* data_ = nullptr;
  int64_t count_;
};

// --- matrix instructions ---

// An experiment: matrices of small whole numbers, whose products are exact, and scales that are powers of two.
struct Experiment {
  Shape shape;
  std::vector<int> a, b;              // (n, k): codes' values, 0 or 1, or more where the format has them
  std::vector<int> scale_a, scale_b;  // (n, k / 32): exponents

  explicit Experiment(const Shape& of)
      : shape(of),
        a(static_cast<size_t>(of.n * of.k)),
        b(a.size()),
        scale_a(static_cast<size_t>(of.n * std::max(of.k / 32, 1))),
        scale_b(scale_a.size()) {}

  int& A(int r, int k) { return a[static_cast<size_t>(r * shape.k + k)]; }
  int& B(int r, int k) { return b[static_cast<size_t>(r * shape.k + k)]; }
  int& ScaleA(int r, int block) { return scale_a[static_cast<size_t>(r * (shape.k / 32) + block)]; }
  int& ScaleB(int r, int block) { return scale_b[static_cast<size_t>(r * (shape.k / 32) + block)]; }

  double Expected(int row, int column) {
    double sum = 0;
    for (int k = 0; k < shape.k; ++k) {
      const int exponent = shape.scaled ? ScaleA(row, k / 32) + ScaleB(column, k / 32) : 0;
      sum += std::ldexp(static_cast<double>(A(row, k) * B(column, k)), exponent);
    }
    return sum;
  }
};

// The code of 0, 1, 2, 3 or 4.
uint32_t CodeOf(int value, int bits) {
  constexpr uint32_t kFp4[] = {0, 2, 4, 5, 6};
  if (bits == 4) return kFp4[value];
  if (bits == 8) return e4m3::FromFloat(static_cast<float>(value)).bits;
  return bf16::FromFloat(static_cast<float>(value)).bits;
}

class Probe {
 public:
  Probe(Instruction instruction, hipStream_t stream)
      : instruction_(instruction),
        shape_(ShapeOf(instruction)),
        stream_(stream),
        a_(shape_.words * kLanes),
        b_(shape_.words * kLanes),
        scales_a_(kLanes),
        scales_b_(kLanes),
        out_(shape_.result_words * kLanes) {}

  const Shape& shape() const { return shape_; }

  // Empty when the result is as expected under the assumed layout.
  std::string Run(Experiment& e, int scale_byte = 0) {
    Fill(e, scale_byte);
    RunInstruction(instruction_, scale_byte, a_.data(), b_.data(), scales_a_.data(), scales_b_.data(), out_.data(),
                   stream_);
    Check(Hip().stream_synchronize(stream_), "selftest", "kernels that end");
    const int groups = kLanes / shape_.n;
    for (int r = 0; r < shape_.result_words; ++r) {
      for (int lane = 0; lane < kLanes; ++lane) {
        const int row = 4 * groups * (r / 4) + 4 * (lane / shape_.n) + r % 4, column = lane % shape_.n;
        const auto expected = static_cast<float>(e.Expected(row, column));
        const float found = out_[r * kLanes + lane];
        if (!(found == expected)) {
          return fmt::format("register {} of lane {}: expected {} (row {}, column {}), found {}", r, lane, expected,
                             row, column, found);
        }
      }
    }
    return {};
  }

 private:
  // Where a lane's element j lies in k.
  int KOf(int j, int group) const {
    const int groups = kLanes / shape_.n, elements = shape_.k / groups;
    if (shape_.bits == 8) return j / 16 * 16 * groups + group * 16 + j % 16;
    return group * elements + j;
  }
  void Fill(Experiment& e, int scale_byte) {
    const int groups = kLanes / shape_.n, per_word = 32 / shape_.bits;
    for (int lane = 0; lane < kLanes; ++lane) {
      const int i = lane % shape_.n, group = lane / shape_.n;
      for (int word = 0; word < shape_.words; ++word) {
        uint32_t of_a = 0, of_b = 0;
        for (int at = 0; at < per_word; ++at) {
          const int k = KOf(word * per_word + at, group);
          of_a |= CodeOf(e.A(i, k), shape_.bits) << (at * shape_.bits);
          of_b |= CodeOf(e.B(i, k), shape_.bits) << (at * shape_.bits);
        }
        a_[word * kLanes + lane] = of_a;
        b_[word * kLanes + lane] = of_b;
      }
      if (!shape_.scaled || group >= groups) continue;
      // The other bytes hold scales that would show.
      const auto scale = [&](int exponent) {
        return 0x8a8a8a8au ^ ((0x8au ^ static_cast<uint32_t>(127 + exponent)) << (8 * scale_byte));
      };
      scales_a_[lane] = scale(e.ScaleA(i, group));
      scales_b_[lane] = scale(e.ScaleB(i, group));
    }
  }

  Instruction instruction_;
  Shape shape_;
  hipStream_t stream_;
  Shared<uint32_t> a_, b_, scales_a_, scales_b_;
  Shared<float> out_;
};

class Reporter {
 public:
  explicit Reporter(const std::function<void(const Finding&)>& report) : report_(report) {}

  void Say(const Finding& finding) {
    all_ = all_ && finding.holds;
    report_(finding);
  }
  void Say(const std::string& name, const std::string& wrong) { Say(Finding{name, wrong.empty(), wrong}); }
  bool all() const { return all_; }

 private:
  const std::function<void(const Finding&)>& report_;
  bool all_ = true;
};

void ProbeLayouts(hipStream_t stream, Reporter& reporter) {
  for (const Instruction instruction : kInstructions) {
    Probe probe(instruction, stream);
    const Shape& shape = probe.shape();
    const std::string name(shape.name);
    {
      // One row of A and one column of B are not zero: where their product lands.
      std::string wrong;
      for (int at = 0; at < shape.n && wrong.empty(); ++at) {
        Experiment e(shape);
        for (int k = 0; k < shape.k; ++k) e.A(at, k) = e.B((at * 5 + 3) % shape.n, k) = 1;
        wrong = probe.Run(e);
      }
      reporter.Say(name + ": rows and columns of the result", wrong);
    }
    {
      // One element of A meets a B that is one in a single k.
      std::string wrong;
      for (int k = 0; k < shape.k && wrong.empty(); ++k) {
        Experiment e(shape);
        for (int r = 0; r < shape.n; ++r) {
          e.B(r, k) = 1;
          for (int of_a = 0; of_a < shape.k; ++of_a) e.A(r, of_a) = of_a % 5;
        }
        wrong = probe.Run(e);
      }
      reporter.Say(name + ": order of k in both operands", wrong);
    }
    if (!shape.scaled) continue;
    for (int byte = 0; byte < 4; ++byte) {
      Experiment e(shape);
      for (int r = 0; r < shape.n; ++r) {
        for (int k = 0; k < shape.k; ++k) e.A(r, k) = e.B(r, k) = 1;
        for (int block = 0; block < shape.k / 32; ++block) {
          e.ScaleA(r, block) = (r + 3 * block) % 7 - 3;
          e.ScaleB(r, block) = (2 * r + block) % 5 - 2;
        }
      }
      reporter.Say(fmt::format("{}: block scales in byte {}", name, byte), probe.Run(e, byte));
    }
  }
}

}  // namespace

bool SelfTest(Backend& backend, const std::function<void(const Finding&)>& report) {
  Reporter reporter(report);
  ProbeLayouts(static_cast<hipStream_t>(backend.Context().stream), reporter);
  CheckOps(backend, [&](const Finding& finding) { reporter.Say(finding); });
  return reporter.all();
}

}  // namespace mxmla::hip
