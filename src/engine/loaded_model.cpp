#include "engine/loaded_model.h"

#include <fmt/format.h>

#include <charconv>
#include <chrono>

#include "checkpoint/safetensors.h"
#include "core/available_memory.h"
#include "cpu/backend.h"
#include "model/activations.h"
#include "ref/backend.h"
#ifdef MXMLA_WITH_CUDA
#include "cuda/backend.h"
#endif
#ifdef MXMLA_WITH_HIP
#include "hip/backend.h"
#endif

namespace mxmla {

namespace {

// N of `kind` ("cuda") alone, which is 0, or of "cuda:N"; -1 for another name.
int DeviceIndex(std::string_view device, std::string_view kind) {
  if (!device.starts_with(kind)) return -1;
  std::string_view number = device.substr(kind.size());
  if (number.empty()) return 0;
  if (number.front() != ':') return -1;
  number.remove_prefix(1);
  int index = -1;
  const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), index);
  return error == std::errc() && end == number.data() + number.size() ? index : -1;
}

// Null when no GPU is asked for, or none is there that `auto` could choose.
std::unique_ptr<Backend> OpenGpu(const DeviceOptions& options, int threads) {
  const std::string& device = options.device;
  const int index = DeviceIndex(device, "cuda");
#ifdef MXMLA_WITH_CUDA
  if (index >= 0) return cuda::OpenBackend(index, threads, options.batch_invariant);
  if (device == "auto" && cuda::WhyUnusable(0).empty()) return cuda::OpenBackend(0, threads, options.batch_invariant);
#else
  if (index >= 0) {
    Fail(ErrorCode::kDevice, "--device " + device, "a build with the CUDA backend", "one without",
         "build with the preset cuda where nvcc is, or use --device cpu");
  }
#endif
  const int hip_index = DeviceIndex(device, "hip");
#ifdef MXMLA_WITH_HIP
  if (hip_index >= 0) return hip::OpenBackend(hip_index, threads);
#else
  if (hip_index >= 0) {
    Fail(ErrorCode::kDevice, "--device " + device, "a build with the HIP backend", "one without",
         "build with the preset gfx950 where clang-22 is, or use --device cpu");
  }
#endif
  static_cast<void>(threads);
  return nullptr;
}

const KernelSet& HostKernels(const std::string& device) {
  if (device == "ref") return RefKernels();
  if (device == "cpu" || device == "auto") return CpuKernels(DetectCpuIsa());
  Fail(ErrorCode::kUsage, "--device", "auto, ref, cpu, cuda, cuda:N, hip or hip:N", device);
}

// Tells how far the bytes are.
class LoadReport {
 public:
  explicit LoadReport(const std::function<void(const LoadState&)>& hear) : hear_(hear) {}

  void Say(size_t done, size_t total, bool finished = false) const {
    const double seconds = std::chrono::duration<double>(Clock::now() - begin_).count();
    if (hear_) hear_({done, total, seconds, finished});
  }
  void Finish(size_t total) const { Say(total, total, true); }

 private:
  using Clock = std::chrono::steady_clock;

  const std::function<void(const LoadState&)>& hear_;
  const Clock::time_point begin_ = Clock::now();
};

std::string GigaBytes(size_t bytes) { return fmt::format("{:.2f} GB", static_cast<double>(bytes) * 1e-9); }

}  // namespace

std::unique_ptr<Backend> OpenBackend(const DeviceOptions& device) {
  const int threads = device.threads > 0 ? device.threads : ThreadPool::AvailableProcessors();
  if (std::unique_ptr<Backend> gpu = OpenGpu(device, threads)) return gpu;
  return std::make_unique<HostBackend>(HostKernels(device.device), threads);
}

const PlacedWeights& LoadedModel::Placed(const ModelOptions& options) const {
  // Before anything is uploaded: the decoder's ops would find no kernel.
  if (UsesIndexer(config, options) && backend->kernels().index_top_k.empty()) {
    Fail(ErrorCode::kDevice, "--device " + backend->Name(),
         fmt::format("a context of at most {} tokens (index_topk), where attention reads all of it",
                     config.indexer.topk),
         fmt::format("{}", options.max_context),
         "there are no kernels for sparse attention on this device: choose a shorter context or --device cpu");
  }
  const auto known = placed_.find(options.absorb_dtype);
  if (known != placed_.end()) return known->second;
  PlacedWeights placed = PlaceWeights(config, weights, options.absorb_dtype, backend->pool());
  if (!backend->reads_host_memory()) {
    CheckRoom(placed, options);
    Upload(&placed);
  }
  PlaceExperts(*backend, &placed);
  return placed_.emplace(options.absorb_dtype, std::move(placed)).first->second;
}

void LoadedModel::CheckRoom(const PlacedWeights& placed, const ModelOptions& options) const {
  const std::optional<size_t> free = backend->FreeMemory();
  if (!free) return;
  const size_t weight_bytes = PlacedBytes(placed);
  const Activations::Needs needs = Activations::NeedsOf(config, options, backend->kernels().activation_dtype);
  const size_t all = weight_bytes + needs.kv_cache + needs.rest;
  if (all <= *free) return;
  Fail(ErrorCode::kMemory, "memory of device " + backend->Name(),
       fmt::format("{} (weights {}, KV cache {}, activations {})", GigaBytes(all), GigaBytes(weight_bytes),
                   GigaBytes(needs.kv_cache), GigaBytes(needs.rest)),
       GigaBytes(*free) + " free",
       weight_bytes > *free ? "choose a smaller model, a lower precision or --device cpu"
                            : "choose a shorter context or a smaller batch");
}

void LoadedModel::Upload(PlacedWeights* placed) const {
  LoadReport report(on_upload);
  const size_t total = PlacedBytes(*placed);
  UploadWeights(
      *backend, [&](size_t done) { report.Say(done, total); }, placed);
  report.Finish(total);
}

LoadedModel LoadedModel::Open(const std::string& folder, const DeviceOptions& device,
                              const std::function<void(const LoadState&)>& on_read) {
  LoadedModel model;
  model.backend = OpenBackend(device);
  model.config = LoadConfig(folder);
  LoadReport report(on_read);
  size_t read = 0;
  const auto count = [&](size_t done, size_t total) {
    read = done;
    report.Say(done, total);
  };
  const Checkpoint checkpoint = Checkpoint::Open(folder, {device.map_weights, count});
  if (read > 0) report.Finish(read);
  if (model.backend->reads_host_memory()) {
    model.read_ahead = StartReadAhead(checkpoint.mappings(), AvailableMemory());
  }
  model.weights = LoadWeights(checkpoint, model.config);
  return model;
}

LoadedModel LoadedModel::Dummy(const ModelConfig& config, uint64_t seed, const DeviceOptions& device) {
  LoadedModel model;
  model.backend = OpenBackend(device);
  model.config = config;
  model.weights = DummyWeights(config, seed, model.backend->pool());
  return model;
}

}  // namespace mxmla
