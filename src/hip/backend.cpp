#include "hip/backend.h"

#include <fmt/format.h>

#include <vector>

#include "gpu/product_kernels.h"
#include "gpu/row_kernels.h"
#include "hip/decode_attention.h"
#include "hip/fused_experts.h"
#include "hip/graph_recorder.h"
#include "hip/grouped_linear.h"
#include "hip/library.h"
#include "hip/linear.h"
#include "hip/norm_linear.h"
#include "hip/prefill_attention.h"
#include "hip/query_absorb.h"
#include "hip/read_bandwidth.h"
#include "hip/value_project.h"

namespace mxmla::hip {
namespace {

constexpr std::string_view kDevice = "--device hip";

size_t FreeBytes() {
  size_t free = 0, total = 0;
  Check(Hip().mem_get_info(&free, &total), kDevice, "the device's free memory");
  return free;
}

// The times of a stream's work, by events between its kernels.
class EventClock final : public QueueClock {
 public:
  explicit EventClock(hipStream_t stream) : stream_(stream) {}
  ~EventClock() override {
    for (const hipEvent_t event : events_) static_cast<void>(Hip().event_destroy(event));
  }
  EventClock(const EventClock&) = delete;

  int64_t Mark() override {
    if (used_ == events_.size()) {
      hipEvent_t event = nullptr;
      Check(Hip().event_create(&event, hipEventDefault), "profiler", "an event");
      events_.push_back(event);
    }
    Check(Hip().event_record(events_[used_], stream_), "profiler", "an event in the stream");
    return static_cast<int64_t>(used_++);
  }
  std::vector<double> Read() override {
    std::vector<double> seconds(used_);
    if (used_ > 0) Check(Hip().event_synchronize(events_[used_ - 1]), "profiler", "kernels that end");
    for (size_t i = 0; i < used_; ++i) {
      float milliseconds = 0;
      Check(Hip().event_elapsed_time(&milliseconds, events_[0], events_[i]), "profiler", "an event's time");
      seconds[i] = static_cast<double>(milliseconds) * 1e-3;
    }
    used_ = 0;
    return seconds;
  }

 private:
  hipStream_t stream_;
  std::vector<hipEvent_t> events_;  // made once, used again after Read
  size_t used_ = 0;
};

class StreamFence final : public Fence {
 public:
  explicit StreamFence(hipStream_t stream) : stream_(stream) {
    Check(Hip().event_create(&event_, hipEventDefault), kDevice, "an event");
  }
  ~StreamFence() override { static_cast<void>(Hip().event_destroy(event_)); }
  StreamFence(const StreamFence&) = delete;

  void Set() override { Check(Hip().event_record(event_, stream_), "a step's results", "an event"); }
  void Wait() override { Check(Hip().event_synchronize(event_), "a step", "kernels that end"); }

 private:
  hipStream_t stream_;
  hipEvent_t event_ = nullptr;
};

class HipBackend final : public Backend {
 public:
  HipBackend(int index, int threads) : Backend(Kernels(), threads), index_(index) {
    Use();
    Check(Hip().stream_create(&stream_, hipStreamNonBlocking), kDevice, "a stream");
    Check(Hip().event_create(&uploaded_, hipEventDefault), kDevice, "an event");
    clock_ = std::make_unique<EventClock>(stream_);
  }
  ~HipBackend() override {
    clock_.reset();
    static_cast<void>(Hip().event_destroy(uploaded_));
    static_cast<void>(Hip().stream_destroy(stream_));
  }

  bool reads_host_memory() const override { return false; }

  Memory Allocate(size_t bytes, Fill fill, const std::string& what, const std::string& hint) override {
    Use();
    void* data = nullptr;
    const size_t room = bytes > 0 ? bytes : 1;
    if (const hipError_t status = Hip().malloc(&data, room); status != hipSuccess) {
      static_cast<void>(Hip().get_last_error());  // the next call starts anew
      Fail(ErrorCode::kMemory, what, fmt::format("{} bytes of the device's memory", bytes),
           status == hipErrorOutOfMemory ? fmt::format("{} bytes free", FreeBytes())
                                         : std::string(Hip().get_error_string(status)),
           hint);
    }
    Memory memory(static_cast<std::byte*>(data), bytes, [](std::byte* freed) { static_cast<void>(Hip().free(freed)); });
    if (fill == Fill::kZero) {
      Check(Hip().memset_async(data, 0, room, stream_), what, "zeros in the device's memory");
      Check(Hip().stream_synchronize(stream_), what, "zeros in the device's memory");
    }
    return memory;
  }

  Memory AllocateStaging(size_t bytes, const std::string& what, const std::string& hint) override {
    Use();
    void* data = nullptr;
    if (const hipError_t status = Hip().host_malloc(&data, bytes > 0 ? bytes : 1, hipHostMallocDefault);
        status != hipSuccess) {
      Fail(ErrorCode::kMemory, what, fmt::format("{} bytes of pinned memory", bytes), Hip().get_error_string(status),
           hint);
    }
    return {static_cast<std::byte*>(data), bytes, [](std::byte* freed) { static_cast<void>(Hip().host_free(freed)); }};
  }

  void Upload(std::byte* device, const std::byte* staging, size_t bytes) override {
    Check(Hip().memcpy_async(device, staging, bytes, hipMemcpyHostToDevice, stream_), "a step's arrays",
          "a copy to the device");
    Check(Hip().event_record(uploaded_, stream_), "a step's arrays", "an event");
  }

  // What every step begins with.
  void FinishUploads() override {
    Use();
    Check(Hip().event_synchronize(uploaded_), "a step's arrays", "their copy");
  }

  void QueueDownload(std::byte* staging, const std::byte* device, size_t bytes) override {
    Check(Hip().memcpy_async(staging, device, bytes, hipMemcpyDeviceToHost, stream_), "a step's results",
          "a copy from the device");
  }
  std::unique_ptr<Fence> MakeFence() override { return std::make_unique<StreamFence>(stream_); }

  std::optional<size_t> FreeMemory() const override { return FreeBytes(); }
  bool prefers_bf16() const override { return true; }

  std::shared_ptr<const void> PlaceExperts(std::span<const LinearWeight> weights) override {
    Use();
    return std::make_shared<PlacedExperts>(weights);
  }
  std::unique_ptr<Recorder> MakeRecorder() override { return MakeGraphRecorder(stream_); }
  bool replays() const override { return true; }
  QueueClock* clock() override { return clock_.get(); }
  double MeasureReadBandwidth() override { return ReadBandwidth(stream_); }

 protected:
  void* stream() const override { return stream_; }

 private:
  // The calling thread's device.
  void Use() const { Check(Hip().set_device(index_), kDevice, "a device that can be used"); }

  const int index_;
  hipStream_t stream_ = nullptr;
  hipEvent_t uploaded_ = nullptr;  // behind the last Upload
  std::unique_ptr<EventClock> clock_;
};

}  // namespace

std::string WhyUnusable(int index) {
  const Library* library = TryLibrary();
  if (!library) return WhyNotOpened();
  int devices = 0;
  if (library->get_device_count(&devices) != hipSuccess || devices == 0) return "no GPU";
  if (index >= devices) return fmt::format("{} of them", devices);
  return {};
}

std::unique_ptr<Backend> OpenBackend(int index, int threads) {
  if (const std::string why = WhyUnusable(index); !why.empty()) {
    Fail(ErrorCode::kDevice, fmt::format("{}:{}", kDevice, index), fmt::format("a gfx950 GPU of number {}", index), why,
         "use --device cpu");
  }
  return std::make_unique<HipBackend>(index, threads);
}

const KernelSet& Kernels() {
  static const KernelSet set = [] {
    KernelSet made;
    made.backend = "hip";
    made.isa = "gfx950";
    made.activation_dtype = DType::kBf16;
    constexpr std::string_view kName = "hip/gfx950";
    constexpr std::string_view kRows = "BF16 or MXFP4 by MXFP4, BF16 by BF16, BF16 or FP8 by FP8; 16-byte aligned rows";
    made.linear.push_back(
        {kName, {{"x", true}, {"weight", true}, {"out", true}}, Linear, nullptr, {{kRows, HonoursLinear}}});
    made.grouped_linear.push_back({kName,
                                   {{"x", true}, {"weight", true}, {"out", true}},
                                   GroupedLinear,
                                   nullptr,
                                   {{"placed experts of one format and layout", HonoursGroupedLinear}}});
    made.query_absorb.push_back(
        {kName,
         {{"q_nope", true}, {"w_kc", true}, {"out", true}},
         QueryAbsorb,
         nullptr,
         {{"bf16 or the weights' format by BF16, FP8 or MXFP4, qk_nope_head_dim a multiple of 32, kv_lora_rank of 128",
           HonoursQueryAbsorb}}});
    made.value_project.push_back({kName,
                                  {{"attn", true}, {"w_vc", true}, {"out", true}},
                                  ValueProject,
                                  nullptr,
                                  {{kRows, HonoursValueProject}}});
    made.decode_attention.push_back(
        {kName,
         {{"query", true}, {"kv_pages", true}, {"out", true}},
         DecodeAttention,
         DecodeAttentionWorkspace,
         {{"bf16 queries, kv_lora_rank 512, 64 rotated columns, 16-byte aligned rows", HonoursDecodeAttention}}});
    made.prefill_attention.push_back(
        {kName,
         {{"query", true}, {"kv_pages", true}, {"out", true}},
         PrefillAttention,
         PrefillAttentionWorkspace,
         {{"bf16 queries, heads as query_absorb and value_project take them", HonoursPrefillAttention}}});
    made.norm_linear.push_back({kName, {}, NormLinear, nullptr, {{"few rows", HonoursNormLinear}}});
    made.latent_query.push_back({kName, {}, LatentQuery, nullptr, {{"a cache in bf16", HonoursLatentQuery}}});
    made.attend_project.push_back({kName, {}, AttendProject, nullptr, {{"several splits", HonoursAttendProject}}});
    made.gated_experts.push_back({kName, {}, GatedExperts, nullptr, {{"experts of one format", HonoursGatedExperts}}});
    made.combined_experts.push_back({kName, {}, CombinedExperts, nullptr, {{"few pairs", HonoursCombinedExperts}}});
    gpu::AddProductKernels(made);
    gpu::AddRowKernels(made);
    return made;
  }();
  return set;
}

}  // namespace mxmla::hip
