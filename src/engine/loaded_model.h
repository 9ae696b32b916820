// A model ready to run: its config and weights, and the device that it runs on.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "checkpoint/config.h"
#include "checkpoint/weights.h"
#include "core/profiler.h"
#include "model/placed_weights.h"
#include "ops/backend.h"

namespace mxmla {

struct DeviceOptions {
  std::string device = "auto";  // auto, ref, cpu, cuda
  int threads = 0;              // 0: every processor this process may use
};

// A device by name. Errors: kUsage for an unknown name, kDevice for one this build does not have.
std::unique_ptr<Backend> OpenBackend(const DeviceOptions& device);

struct LoadedModel {
  ModelConfig config;
  ModelWeights weights;
  std::unique_ptr<Backend> backend;

  // What sessions read beside `weights`; made when first asked for, once for each dtype. The model must not be moved
  // afterwards. Not for two threads at once.
  const PlacedWeights& Placed(AbsorbDType dtype) const;

  // Opens a Hugging Face folder. Errors: see LoadConfig, Checkpoint::Open and LoadWeights.
  static LoadedModel Open(const std::string& folder, const DeviceOptions& device);
  // Random weights in the precision that `config` names.
  static LoadedModel Dummy(const ModelConfig& config, uint64_t seed, const DeviceOptions& device);

 private:
  mutable std::map<AbsorbDType, PlacedWeights> placed_;
};

}  // namespace mxmla
