// Small random checkpoints, written tensor by tensor under the published names.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "temp_folder.h"

namespace mxmla {

enum class Precision { kBf16, kF32, kFp8, kMxfp4 };

inline void PrintTo(Precision precision, std::ostream* out) {
  constexpr const char* kNames[] = {"BF16", "F32", "FP8", "MXFP4"};
  *out << kNames[static_cast<int>(precision)];
}

using TensorMap = std::map<std::string, TestTensor>;

// DeepSeek-V3 in the published spelling: hidden 64, 3 layers (the first dense), 2 heads, q_lora 32, kv_lora 32, nope
// 32, rope 8, v 32, 4 experts of 32 in 2 groups, one shared.
nlohmann::json TinyConfig();
// DeepSeek-V2: no q_lora, softmax.
nlohmann::json TinyV2Config();

// Sets the quantization_config that belongs to `precision`.
void Declare(nlohmann::json* config, Precision precision);

// All tensors of the config (which must spell n_routed_experts etc. as TinyConfig does), projections in `precision`.
TensorMap TinyTensors(const nlohmann::json& config, Precision precision);

// A matrix X.weight and the scale that its precision needs, of random values.
void AddMatrix(TensorMap* tensors, const std::string& module, int64_t n, int64_t k, Precision precision);
void AddVector(TensorMap* tensors, const std::string& name, int64_t n, const std::string& dtype = "BF16");

void WriteModel(const TempFolder& folder, const nlohmann::json& config, const TensorMap& tensors);

}  // namespace mxmla
