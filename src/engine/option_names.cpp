#include "engine/option_names.h"

#include "core/error.h"

namespace mxmla {

VLayout ParseVLayout(std::string_view name) {
  if (name == "copy") return VLayout::kCopy;
  if (name == "strided") return VLayout::kStrided;
  if (name == "fused") return VLayout::kFused;
  Fail(ErrorCode::kUsage, "v-layout", "copy, strided or fused", name);
}

AbsorbDType ParseAbsorbDType(std::string_view name) {
  if (name == "checkpoint") return AbsorbDType::kCheckpoint;
  if (name == "bf16") return AbsorbDType::kBf16;
  if (name == "mxfp4") return AbsorbDType::kMxfp4;
  Fail(ErrorCode::kUsage, "absorb-dtype", "checkpoint, bf16 or mxfp4", name);
}

ActivationFormat ParseActivations(std::string_view name) {
  if (name == "bf16") return ActivationFormat::kPlain;
  if (name == "fp8") return ActivationFormat::kFp8;
  if (name == "mxfp4") return ActivationFormat::kMxfp4;
  Fail(ErrorCode::kUsage, "activations", "bf16, fp8 or mxfp4", name);
}

KvDType ParseKvDType(std::string_view name) {
  if (name == "auto") return KvDType::kAuto;
  if (name == "bf16") return KvDType::kBf16;
  if (name == "fp8") return KvDType::kFp8;
  Fail(ErrorCode::kUsage, "kv-dtype", "auto, bf16 or fp8", name);
}

}  // namespace mxmla
