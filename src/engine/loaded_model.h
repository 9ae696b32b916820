// A model ready to run: its config and weights, and the device that it runs on.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "checkpoint/config.h"
#include "checkpoint/weights.h"
#include "core/profiler.h"
#include "core/read_ahead.h"
#include "model/placed_weights.h"
#include "ops/backend.h"

namespace mxmla {

struct DeviceOptions {
  std::string device = "auto";  // auto, ref, cpu, cuda, cuda:1
  int threads = 0;              // 0: every processor this process may use
  // A row's bits depend on nothing beside it, at any price. The host's backends know no other way.
  bool batch_invariant = false;
  bool map_weights = true;  // false: the files are read into the host's memory
};

// A device by name; `auto` is cuda where this build has it and a usable GPU is there, else cpu. Errors: kUsage for an
// unknown name, kDevice for one that this build or machine does not have.
std::unique_ptr<Backend> OpenBackend(const DeviceOptions& device);

// How far the weights are on their way into the host's memory or to a device.
struct LoadState {
  size_t done = 0, total = 0;  // bytes
  double seconds = 0;
  bool finished = false;  // said once, last
};

struct LoadedModel {
  ModelConfig config;
  ModelWeights weights;  // in the host's memory
  std::unique_ptr<Backend> backend;
  // Brings mapped weights into memory that kernels read there; null where nothing does so. Ends before they are
  // unmapped.
  std::unique_ptr<ReadAhead> read_ahead;
  // Hears of uploads, several times a second; may be empty.
  std::function<void(const LoadState&)> on_upload;

  // What sessions read; made when first asked for, once for each options.absorb_dtype. The model must not be moved
  // afterwards. Not for two threads at once. Refused (kMemory), before anything is uploaded, when the weights and what
  // a decoder with `options` allocates do not fit the device.
  const PlacedWeights& Placed(const ModelOptions& options) const;

  // Opens a Hugging Face folder. `on_read` hears of weights that are read, several times a second; may be empty.
  // Errors: see LoadConfig, Checkpoint::Open and LoadWeights.
  static LoadedModel Open(const std::string& folder, const DeviceOptions& device,
                          const std::function<void(const LoadState&)>& on_read = {});
  // Random weights in the precision that `config` names.
  static LoadedModel Dummy(const ModelConfig& config, uint64_t seed, const DeviceOptions& device);

 private:
  void CheckRoom(const PlacedWeights& placed, const ModelOptions& options) const;
  void Upload(PlacedWeights* placed) const;

  mutable std::map<AbsorbDType, PlacedWeights> placed_;
};

}  // namespace mxmla
