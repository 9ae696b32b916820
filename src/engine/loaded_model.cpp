#include "engine/loaded_model.h"

#include "checkpoint/safetensors.h"
#include "cpu/backend.h"
#include "ref/backend.h"

namespace mxmla {

namespace {

const KernelSet& KernelsFor(const std::string& device) {
  if (device == "ref") return RefKernels();
  if (device == "cpu" || device == "auto") return CpuKernels(DetectCpuIsa());
  if (device == "cuda") {
    Fail(ErrorCode::kDevice, "--device cuda", "a build with a CUDA backend", "none in this version of mxmla",
         "use --device cpu");
  }
  Fail(ErrorCode::kUsage, "--device", "auto, ref, cpu or cuda", device);
}

}  // namespace

std::unique_ptr<Backend> OpenBackend(const DeviceOptions& device) {
  const int threads = device.threads > 0 ? device.threads : ThreadPool::AvailableProcessors();
  return std::make_unique<HostBackend>(KernelsFor(device.device), threads);
}

const PlacedWeights& LoadedModel::Placed(AbsorbDType dtype) const {
  const auto known = placed_.find(dtype);
  if (known != placed_.end()) return known->second;
  return placed_.emplace(dtype, PlaceWeights(config, weights, dtype, backend->pool())).first->second;
}

LoadedModel LoadedModel::Open(const std::string& folder, const DeviceOptions& device) {
  LoadedModel model;
  model.backend = OpenBackend(device);
  model.config = LoadConfig(folder);
  model.weights = LoadWeights(Checkpoint::Open(folder), model.config);
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
