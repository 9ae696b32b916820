// GGUF models as this program's own: their metadata as a config, their tensors under DeepSeek's names.
#pragma once

#include <string>
#include <vector>

#include "checkpoint/json_reader.h"
#include "checkpoint/safetensors.h"
#include "core/gguf.h"

namespace mxmla {

// The config.json that the metadata of a "deepseek2" file (DeepSeek-V2, V3, R1, Kimi-K2, GLM-4.7-Flash, ...) amounts
// to. Errors, naming the key: kArchitecture for another architecture, kBadConfig for what is missing or misshapen.
Json GgufToConfig(const GgufHeader& header, const std::string& subject);

// The tensor's name in DeepSeek's spelling: "blk.3.attn_q_a.weight" is "model.layers.3.self_attn.q_a_proj.weight"; the
// name itself where it has none.
std::string GgufTensorName(std::string_view name);

// The tensors of all parts, under those names. Errors: kTensor for a type that no kernel reads, kSafetensors for a name
// that occurs twice.
std::vector<Tensor> GgufTensors(const std::vector<std::shared_ptr<const GgufFile>>& parts);

}  // namespace mxmla
