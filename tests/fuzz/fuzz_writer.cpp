// The tensors of any bytes that are a safetensors file, written again: what the writer makes of them is read as the
// same tensors.
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <map>

#include "checkpoint/writer.h"

namespace {

const std::string& ScratchFolder() {
  static const std::string folder = [] {
    char name[] = "/dev/shm/fuzz_writer_XXXXXX";
    if (!mkdtemp(name)) abort();
    return std::string(name);
  }();
  return folder;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::vector<mxmla::Tensor> tensors;
  try {
    tensors = mxmla::ParseSafetensors({reinterpret_cast<const std::byte*>(data), size}, "fuzz");
  } catch (const mxmla::Error&) {
    return 0;
  }
  std::vector<mxmla::OutputTensor> outputs;
  for (const mxmla::Tensor& tensor : tensors) outputs.push_back({tensor.name, tensor.dtype, tensor.shape});
  const std::string path = ScratchFolder() + "/x.safetensors";
  {
    mxmla::SafetensorsWriter writer(path, outputs);
    for (const mxmla::Tensor& tensor : tensors) writer.Write({tensor.data, tensor.bytes});
    writer.Finish();
  }
  std::ifstream file(path, std::ios::binary);
  const std::string written{std::istreambuf_iterator<char>(file), {}};
  unlink(path.c_str());
  const std::vector<mxmla::Tensor> found = mxmla::ParseSafetensors(std::as_bytes(std::span(written)), "written");
  if (found.size() != tensors.size()) abort();
  std::map<std::string, const mxmla::Tensor*> by_name;  // tensors without elements have no order
  for (const mxmla::Tensor& tensor : found) by_name[tensor.name] = &tensor;
  for (const mxmla::Tensor& tensor : tensors) {
    const mxmla::Tensor* const same = by_name[tensor.name];
    if (!same || same->dtype != tensor.dtype || same->shape != tensor.shape || same->bytes != tensor.bytes ||
        !std::equal(tensor.data, tensor.data + tensor.bytes, same->data)) {
      abort();
    }
  }
  return 0;
}
