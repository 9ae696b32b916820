// Any text as config.json (with a generation config after a zero byte) and as a safetensors index: either an Error, or
// a value that keeps its promises.
#include <cstdlib>
#include <cstring>

#include "checkpoint/config.h"
#include "checkpoint/safetensors.h"

namespace {

void CheckError(const mxmla::Error& error) {
  if (std::strlen(error.what()) == 0 || std::strchr(error.what(), '\n')) abort();
}

void CheckConfig(const mxmla::ModelConfig& config) {
  if (config.hidden_size < 1 || config.num_hidden_layers < 1 || config.qk_rope_head_dim % 2 != 0) abort();
  if (config.n_routed_experts > 0 &&
      (config.num_experts_per_tok < 1 || config.num_experts_per_tok > config.n_routed_experts))
    abort();
  config.quantization.exclude.Matches("model.layers.0.self_attn.kv_a_proj_with_mqa");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const size_t zero = text.find('\0');
  const std::string_view generation = zero == std::string_view::npos ? std::string_view() : text.substr(zero + 1);
  try {
    CheckConfig(mxmla::ParseConfig(text.substr(0, zero), generation, "folder/config.json"));
  } catch (const mxmla::Error& error) {
    CheckError(error);
  }
  try {
    for (const auto& [name, file] : mxmla::ParseSafetensorsIndex(text, "index.json")) {
      if (file.find('/') != std::string::npos || file.empty() || file == "..") abort();
    }
  } catch (const mxmla::Error& error) {
    CheckError(error);
  }
  return 0;
}
