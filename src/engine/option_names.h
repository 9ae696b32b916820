// The spelling of the options that choose how a model is computed, the same on the command line and in the API.
#pragma once

#include <string_view>

#include "model/options.h"

namespace mxmla {

// Each throws an Error (kUsage) that lists the names for any other.
VLayout ParseVLayout(std::string_view name);               // copy, strided, fused
AbsorbDType ParseAbsorbDType(std::string_view name);       // checkpoint, bf16, mxfp4
ActivationFormat ParseActivations(std::string_view name);  // bf16, fp8, mxfp4
KvDType ParseKvDType(std::string_view name);               // auto, bf16, fp8

}  // namespace mxmla
