#include "cuda/backend.h"

#include <fmt/format.h>

#include "cuda/cublas_products.h"
#include "cuda/event_clock.h"
#include "cuda/graph_recorder.h"
#include "cuda/placed_experts.h"
#include "cuda/read_bandwidth.h"
#include "cuda/status.h"
#include "cuda/upload.h"

namespace mxmla::cuda {
namespace {

size_t FreeBytes() {
  size_t free = 0, total = 0;
  Check(cudaMemGetInfo(&free, &total), "--device cuda", "the device's free memory");
  return free;
}

class StreamFence final : public Fence {
 public:
  explicit StreamFence(cudaStream_t stream) : stream_(stream) {
    Check(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming), "--device cuda", "an event");
  }
  ~StreamFence() override { cudaEventDestroy(event_); }
  StreamFence(const StreamFence&) = delete;

  void Set() override { Check(cudaEventRecord(event_, stream_), "a step's results", "an event"); }
  void Wait() override { Check(cudaEventSynchronize(event_), "a step", "kernels that end"); }

 private:
  cudaStream_t stream_;
  cudaEvent_t event_ = nullptr;
};

class CudaBackend final : public Backend {
 public:
  CudaBackend(int index, int threads, bool batch_invariant)
      : Backend(Kernels(batch_invariant), threads), index_(index) {
    Use();
    Check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "--device cuda", "a stream");
    Check(cudaEventCreateWithFlags(&uploaded_, cudaEventDisableTiming), "--device cuda", "an event");
    clock_ = std::make_unique<EventClock>(stream_);
  }
  ~CudaBackend() override {
    clock_.reset();
    cudaEventDestroy(uploaded_);
    cudaStreamDestroy(stream_);
  }

  bool reads_host_memory() const override { return false; }

  Memory Allocate(size_t bytes, Fill fill, const std::string& what, const std::string& hint) override {
    Use();
    void* data = nullptr;
    const size_t room = bytes > 0 ? bytes : 1;
    if (const cudaError_t status = cudaMalloc(&data, room); status != cudaSuccess) {
      cudaGetLastError();  // the next call starts anew
      const size_t free = FreeBytes();
      Fail(ErrorCode::kMemory, what, fmt::format("{} bytes of the device's memory", bytes),
           status == cudaErrorMemoryAllocation ? fmt::format("{} bytes free", free)
                                               : std::string(cudaGetErrorString(status)),
           hint);
    }
    Memory memory(static_cast<std::byte*>(data), bytes, [](std::byte* freed) { cudaFree(freed); });
    if (fill == Fill::kZero) {
      Check(cudaMemsetAsync(data, 0, room, stream_), what, "zeros in the device's memory");
      Check(cudaStreamSynchronize(stream_), what, "zeros in the device's memory");
    }
    return memory;
  }

  Memory AllocateStaging(size_t bytes, const std::string& what, const std::string& hint) override {
    Use();
    return AllocatePinned(bytes, what, hint);
  }

  void Upload(std::byte* device, const std::byte* staging, size_t bytes) override {
    Check(cudaMemcpyAsync(device, staging, bytes, cudaMemcpyHostToDevice, stream_), "a step's arrays",
          "a copy to the device");
    Check(cudaEventRecord(uploaded_, stream_), "a step's arrays", "an event");
  }

  // What every step begins with.
  void FinishUploads() override {
    Use();
    Check(cudaEventSynchronize(uploaded_), "a step's arrays", "their copy");
  }

  void QueueDownload(std::byte* staging, const std::byte* device, size_t bytes) override {
    Check(cudaMemcpyAsync(staging, device, bytes, cudaMemcpyDeviceToHost, stream_), "a step's results",
          "a copy from the device");
  }
  std::unique_ptr<Fence> MakeFence() override { return std::make_unique<StreamFence>(stream_); }

  void UploadAll(std::span<const Transfer> transfers, const std::function<void(size_t done)>& progress) override {
    Check(cudaStreamSynchronize(stream_), "a step", "kernels that end");
    UploadPageable(index_, pool().threads(), transfers, progress);
  }

  std::optional<size_t> FreeMemory() const override { return FreeBytes(); }

  bool prefers_bf16() const override { return true; }
  // An expert of 64, six of them chosen, then has 192 rows, which fill the tensor cores' tiles.
  int64_t prefill_rows() const override { return 2048; }

  std::shared_ptr<const void> PlaceExperts(std::span<const LinearWeight> weights) override {
    return std::make_shared<PlacedExperts>(weights);
  }

  std::unique_ptr<Recorder> MakeRecorder() override { return MakeGraphRecorder(stream_); }
  bool replays() const override { return true; }
  QueueClock* clock() override { return clock_.get(); }
  double MeasureReadBandwidth() override { return ReadBandwidth(stream_); }
  std::unique_ptr<VendorProducts> OpenVendorProducts(std::string* why) override { return OpenCublas(stream_, why); }

 protected:
  void* stream() const override { return stream_; }

 private:
  // The calling thread's device.
  void Use() const { Check(cudaSetDevice(index_), "--device cuda", "a device that can be used"); }

  const int index_;
  cudaStream_t stream_ = nullptr;
  cudaEvent_t uploaded_ = nullptr;  // behind the last Upload
  std::unique_ptr<EventClock> clock_;
};

}  // namespace

std::string WhyUnusable(int index) {
  int devices = 0;
  const cudaError_t counted = cudaGetDeviceCount(&devices);
  if (counted == cudaErrorInsufficientDriver) {
    int driver = 0;
    cudaDriverGetVersion(&driver);
    if (driver == 0) return "no NVIDIA driver";
    return fmt::format("a driver for CUDA {}.{}, older than {}.{}", driver / 1000, driver % 1000 / 10,
                       CUDART_VERSION / 1000, CUDART_VERSION % 1000 / 10);
  }
  if (counted == cudaErrorNoDevice || (counted == cudaSuccess && devices == 0)) return "no GPU";
  if (counted != cudaSuccess) return cudaGetErrorString(counted);
  if (index >= devices) return fmt::format("{} of them", devices);
  int major = 0, minor = 0;
  cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, index);
  cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, index);
  if (major != 9 || minor != 0) return fmt::format("one of compute capability {}.{}", major, minor);
  return {};
}

std::unique_ptr<Backend> OpenBackend(int index, int threads, bool batch_invariant) {
  if (const std::string why = WhyUnusable(index); !why.empty()) {
    Fail(ErrorCode::kDevice, fmt::format("--device cuda:{}", index),
         fmt::format("a Hopper GPU (compute capability 9.0) of number {}", index), why, "use --device cpu");
  }
  return std::make_unique<CudaBackend>(index, threads, batch_invariant);
}

}  // namespace mxmla::cuda
