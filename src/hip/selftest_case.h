// An op with operands in both memories: `ref` runs it on the host's, the backend on the device's, and the results are
// compared. Operands are buffers; an op's views are made once for each side.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <type_traits>
#include <vector>

#include "hip/library.h"
#include "hip/selftest.h"
#include "ref/backend.h"

namespace mxmla::hip {

enum class Side { kHost, kDevice };

// Memory of the device of `bytes`, freed with this.
class DeviceBytes {
 public:
  explicit DeviceBytes(size_t bytes) {
    Check(Hip().malloc(&data_, std::max<size_t>(bytes, 1)), "selftest", "the device's memory");
  }
  ~DeviceBytes() { static_cast<void>(Hip().free(data_)); }
  DeviceBytes(const DeviceBytes&) = delete;

  void* data() const { return data_; }

 private:
  void* data_ = nullptr;
};

template <class T>
class Buffer {
 public:
  explicit Buffer(int64_t count) : host_(static_cast<size_t>(count)), device_(static_cast<size_t>(count) * sizeof(T)) {}

  std::vector<T>& host() { return host_; }
  T* On(Side side) { return side == Side::kHost ? host_.data() : static_cast<T*>(device_.data()); }
  void Upload() { Copy(device_.data(), host_.data(), hipMemcpyHostToDevice); }
  std::vector<T> Fetch() {
    std::vector<T> values(host_.size());
    Copy(values.data(), device_.data(), hipMemcpyDeviceToHost);
    return values;
  }

 private:
  void Copy(void* to, const void* from, hipMemcpyKind kind) {
    Check(Hip().memcpy_async(to, from, host_.size() * sizeof(T), kind, nullptr), "selftest", "a copy");
    Check(Hip().stream_synchronize(nullptr), "selftest", "a copy");
  }

  std::vector<T> host_;
  DeviceBytes device_;
};

class OpCase {
 public:
  using Op = std::function<void(const ExecContext&, Side)>;

  // `backend` is hip's.
  OpCase(Backend& backend, uint64_t seed) : backend_(backend), rng_(seed) {}

  std::mt19937_64& rng() { return rng_; }
  template <class T>
  Buffer<T>& Make(int64_t count) {
    auto made = std::make_shared<Buffer<T>>(count);
    uploads_.push_back([made] { made->Upload(); });
    return *made;
  }
  // Uniform in -scale .. scale.
  template <class T>
  Buffer<T>& Random(int64_t count, float scale = 1) {
    Buffer<T>& buffer = Make<T>(count);
    std::uniform_real_distribution<float> uniform(-scale, scale);
    for (T& value : buffer.host()) {
      if constexpr (std::is_same_v<T, float>) {
        value = uniform(rng_);
      } else {
        value = T::FromFloat(uniform(rng_));
      }
    }
    return buffer;
  }
  // What the op writes: compared with ref's, relative to the largest magnitude; whole numbers and codes are to be
  // equal.
  template <class T>
  Buffer<T>& Result(int64_t count, float tolerance = 0) {
    Buffer<T>& buffer = Make<T>(count);
    compares_.push_back([&buffer, tolerance] { return Compare(buffer.host(), buffer.Fetch(), tolerance); });
    return buffer;
  }

  // Runs `op` by ref, then by the device a few times, and answers whether the results agree.
  Finding Run(const std::string& name, const Op& op) {
    for (const auto& upload : uploads_) upload();
    const ExecContext on_host = Host(op), on_device = Device(op);
    op(on_host, Side::kHost);
    Finding finding{name, true, {}, 1e30};
    for (int run = 0; run < kRuns; ++run) {
      finding.seconds = std::min(finding.seconds, Timed([&] { op(on_device, Side::kDevice); }));
    }
    for (const auto& compare : compares_) {
      const std::string wrong = compare();
      if (wrong.empty() || !finding.holds) continue;
      finding.holds = false;
      finding.detail = wrong;
    }
    return finding;
  }

 private:
  static constexpr int kRuns = 3;

  ExecContext Host(const Op& op) {
    ExecContext context;
    context.kernels = &RefKernels();
    context.pool = &backend_.pool();
    WorkspaceSize size = Planned(context, op, Side::kHost);
    size.per_worker = (size.per_worker + 63) / 64 * 64;
    host_shared_.assign(size.shared + 64, std::byte{});
    host_workers_.assign(size.per_worker * static_cast<size_t>(backend_.pool().threads()) + 64, std::byte{});
    host_counters_.assign(size.counters + 64, std::byte{});
    const auto aligned = [](std::vector<std::byte>& bytes) {
      return bytes.data() + (64 - reinterpret_cast<uintptr_t>(bytes.data()) % 64) % 64;
    };
    context.workspace = {aligned(host_shared_), aligned(host_workers_), size, aligned(host_counters_)};
    return context;
  }
  ExecContext Device(const Op& op) {
    ExecContext context = backend_.Context();
    const WorkspaceSize size = Planned(context, op, Side::kDevice);
    shared_ = backend_.Allocate(size.shared, Fill::kZero, "selftest", "");
    counters_ = backend_.Allocate(size.counters, Fill::kZero, "selftest", "");
    context.workspace = {shared_.data(), nullptr, size, counters_.data()};
    return context;
  }
  static WorkspaceSize Planned(ExecContext context, const Op& op, Side side) {
    WorkspaceSize size;
    context.planned = &size;
    op(context, side);
    return size;
  }

  double Timed(const std::function<void()>& launches) {
    QueueClock& clock = *backend_.clock();
    clock.Mark();
    launches();
    clock.Mark();
    const std::vector<double> seconds = clock.Read();
    Check(Hip().stream_synchronize(static_cast<hipStream_t>(backend_.Context().stream)), "selftest",
          "kernels that end");
    return seconds.back() - seconds.front();
  }

  template <class T>
  static std::string Compare(const std::vector<T>& expected, const std::vector<T>& found, float tolerance) {
    if constexpr (std::is_same_v<T, float> || std::is_same_v<T, bf16>) {
      const auto value = [](const T& of) {
        if constexpr (std::is_same_v<T, bf16>) {
          return of.ToFloat();
        } else {
          return of;
        }
      };
      float largest = 0;
      for (const T& one : expected) largest = std::max(largest, std::fabs(value(one)));
      for (size_t i = 0; i < expected.size(); ++i) {
        const float a = value(expected[i]), b = value(found[i]);
        if (!(std::fabs(a - b) <= tolerance * largest))
          return fmt::format("element {}: expected {}, found {}", i, a, b);
      }
    } else {
      for (size_t i = 0; i < expected.size(); ++i) {
        if (std::memcmp(&expected[i], &found[i], sizeof(T)) != 0) return fmt::format("element {}: other bits", i);
      }
    }
    return {};
  }

  Backend& backend_;
  std::mt19937_64 rng_;
  std::vector<std::function<void()>> uploads_;
  std::vector<std::function<std::string()>> compares_;
  std::vector<std::byte> host_shared_, host_workers_, host_counters_;
  Memory shared_, counters_;
};

// Each op, or group of ops that go together, once.
void CheckOps(Backend& backend, const std::function<void(const Finding&)>& report);

// The launches that quantise on their way to a product, against their parts on the device: the same bits.
void CheckQuantizedLaunches(Backend& backend, const std::function<void(const Finding&)>& report);

}  // namespace mxmla::hip
