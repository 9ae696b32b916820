// Any bytes as a GGUF file: either an Error, or tensors that lie in the file, and a tokenizer's parts or an Error.
#include <cstdlib>
#include <cstring>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "text/gguf_vocabulary.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::span<const std::byte> file(reinterpret_cast<const std::byte*>(data), size);
  try {
    const mxmla::GgufHeader header = mxmla::ParseGguf(file, "fuzz");
    size_t total = 0;
    volatile uint8_t sum = 0;
    for (const mxmla::GgufTensor& tensor : header.tensors) {
      if (tensor.data.data() < file.data() || tensor.data.data() + tensor.data.size() > file.data() + size) abort();
      // Every byte, so that AddressSanitizer sees one that is not there.
      for (const std::byte byte : tensor.data) sum = static_cast<uint8_t>(sum + static_cast<uint8_t>(byte));
      total += tensor.data.size();
    }
    if (total > size) abort();
    mxmla::GgufAsTokenizerConfig(header, "fuzz");
    mxmla::GgufAsTokenizerJson(header, "fuzz");
  } catch (const mxmla::Error& error) {
    if (std::strlen(error.what()) == 0 || std::strchr(error.what(), '\n')) abort();
  } catch (const nlohmann::json::exception&) {
    abort();
  }
  return 0;
}
