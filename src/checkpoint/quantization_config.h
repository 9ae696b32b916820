// The quantization_config of a config.json.
#pragma once

#include "checkpoint/config.h"
#include "checkpoint/json_reader.h"

namespace mxmla {

// `quantization` is the value of the key. Anything but the known methods in their known forms is an Error
// (kQuantization) that names it.
QuantizationConfig ParseQuantization(const JsonFields& quantization);

// "even", "floor" or "ceil".
std::string_view ScaleModeName(ScaleMode mode);

}  // namespace mxmla
