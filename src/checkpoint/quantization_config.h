// The quantization_config of a config.json, and ModelOpt's hf_quant_config.json.
#pragma once

#include "checkpoint/config.h"
#include "checkpoint/json_reader.h"

namespace mxmla {

// `quantization` is the value of the key. Anything but the known methods in their known forms is an Error
// (kQuantization) that names it.
QuantizationConfig ParseQuantization(const JsonFields& quantization);
// `file` is hf_quant_config.json.
QuantizationConfig ParseModelOptFile(const JsonFields& file);
// Refuses `root`, a config with MLX's key `quantization`.
[[noreturn]] void RefuseMlx(const JsonFields& root);

// "even", "floor" or "ceil".
std::string_view ScaleModeName(ScaleMode mode);

// --- one method each ---

QuantizationConfig ParseQuark(const JsonFields& quantization);
QuantizationConfig ParseCompressedTensors(const JsonFields& quantization);
QuantizationConfig ParseModelOpt(const JsonFields& quantization);

// --- what they share ---

[[noreturn]] void RefuseQuantization(const JsonFields& fields, std::string_view key, std::string_view expected,
                                     std::string_view found, std::string_view hint = {});
// The key is absent, null, or one of `allowed`.
void RequireOneOf(const JsonFields& fields, std::string_view key, std::initializer_list<std::string_view> allowed);
// The key is there and not null.
void RequirePresent(const JsonFields& fields, std::string_view key, std::string_view expected);

}  // namespace mxmla
