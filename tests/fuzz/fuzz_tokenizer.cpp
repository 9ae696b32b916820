// Any text as tokenizer.json: an Error of one line, or a tokenizer that gives back what it encodes.
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "core/error.h"
#include "text/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::filesystem::path folder = [] {
    std::string path = (std::filesystem::temp_directory_path() / "mxmla-fuzz-XXXXXX").string();
    if (!mkdtemp(path.data())) abort();
    return path;
  }();
  std::ofstream(folder / "tokenizer.json", std::ios::binary)
      .write(reinterpret_cast<const char*>(data), static_cast<std::streamsize>(size));
  try {
    const auto tokenizer = mxmla::Tokenizer::Load(folder);
    tokenizer->Decode(tokenizer->Encode("The 3 quick ß\n <a>", true));
  } catch (const mxmla::Error& error) {
    if (std::strlen(error.what()) == 0 || std::strchr(error.what(), '\n')) abort();
  }
  return 0;
}
