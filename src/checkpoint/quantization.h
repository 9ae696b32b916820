// What a checkpoint's configuration says of its weights' formats.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/exclude_list.h"
#include "core/dtype.h"

namespace mxmla {

enum class QuantMethod {
  kNone,
  kFp8,                // DeepSeek's, and what transformers calls fp8
  kQuark,              // AMD's
  kCompressedTensors,  // of vLLM's and Moonshot's checkpoints
  kModelOpt,           // NVIDIA's
  kGguf,               // a GGUF file: tensors say themselves what they are
};

// A matrix's format, as configurations declare it; core/weight_formats.h has the types.
enum class WeightFormat { kFp8Squares, kFp8Channel, kFp8Tensor, kMxfp8, kMxfp4, kNvfp4, kInt4 };
// As FormatName of the matrix: "fp8-block128", "int4-g32", ...
std::string_view WeightFormatName(WeightFormat format);

// The precision of a tensor follows from what the file holds; this only decides for dummy weights, and is checked
// against the file.
struct QuantizationConfig {
  // Modules with a format of their own; none: plain floats.
  struct Override {
    ExcludeList modules;
    std::optional<WeightFormat> format;
  };

  QuantMethod method = QuantMethod::kNone;
  std::optional<WeightFormat> format;                                     // of modules that nothing else names
  std::map<std::string, std::optional<WeightFormat>, std::less<>> named;  // modules by their whole names
  std::vector<Override> overrides;                                        // the first that matches counts
  ExcludeList exclude;                      // quark's exclude, compressed-tensors' ignore, fp8's modules_to_not_convert
  ScaleMode scale_mode = ScaleMode::kEven;  // quark's scale_calculation_mode
  // Of activations in FP8: kCeil where fp8's scale_fmt is "ue8m0".
  ScaleMode fp8_activation_scale_mode = ScaleMode::kEven;
  std::string input_dtype;  // quark's input_tensors.dtype ("fp4", ...); "" when absent

  // What a projection is declared to be; none: plain floats. `module` is its tensors' name without a suffix.
  std::optional<WeightFormat> FormatOf(std::string_view module) const;
};

// "none", "fp8", "quark mxfp4", "compressed-tensors int4-g32", "modelopt nvfp4", ...
std::string QuantizationName(const QuantizationConfig& quantization);

}  // namespace mxmla
