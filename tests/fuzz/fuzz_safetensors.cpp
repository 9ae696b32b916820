// Any bytes as a safetensors file: either an Error, or tensors that lie in the file and whose elements can all be read.
#include <cstdlib>
#include <cstring>

#include "checkpoint/safetensors.h"
#include "checkpoint/tensor_reader.h"

namespace {

// Reads every byte of the view, so that AddressSanitizer sees one that is not there.
template <class T>
void Touch(const mxmla::Tensor& tensor) {
  try {
    const auto view = tensor.As<T, 2>();
    volatile uint8_t sum = 0;
    const auto* bytes = reinterpret_cast<const uint8_t*>(view.data);
    for (size_t i = 0; i < static_cast<size_t>(view.size()) * sizeof(T); ++i)
      sum = static_cast<uint8_t>(sum + bytes[i]);
  } catch (const mxmla::Error&) {
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::span<const std::byte> file(reinterpret_cast<const std::byte*>(data), size);
  try {
    const std::vector<mxmla::Tensor> tensors = mxmla::ParseSafetensors(file, "fuzz");
    size_t total = 0;
    for (const mxmla::Tensor& tensor : tensors) {
      total += tensor.bytes;
      if (tensor.data < file.data() || tensor.data + tensor.bytes > file.data() + file.size()) abort();
      Touch<float>(tensor);
      Touch<mxmla::bf16>(tensor);
      Touch<mxmla::e4m3>(tensor);
      Touch<mxmla::e8m0>(tensor);
      // What a loader does with it next, whatever the shapes.
      for (const mxmla::Tensor& scale : tensors) {
        for (const mxmla::Tensor* mxmla::MatrixTensors::*role :
             {&mxmla::MatrixTensors::scale_inv, &mxmla::MatrixTensors::scale, &mxmla::MatrixTensors::scale_2,
              &mxmla::MatrixTensors::global_scale, &mxmla::MatrixTensors::shape}) {
          mxmla::MatrixTensors matrix{&tensor};
          matrix.scale = &scale;
          matrix.*role = &scale;
          const auto [n, k] = mxmla::MatrixExtents(matrix);
          mxmla::WidenedScales widened;
          try {
            const mxmla::LinearWeight weight = mxmla::ReadMatrix(matrix, n, k, &widened);
            std::vector<float> row(static_cast<size_t>(k));
            if (n > 0 && k < 4096) mxmla::DequantizeRow(weight, n - 1, row.data());
            mxmla::CheckMatrix(matrix);
          } catch (const mxmla::Error&) {
          }
        }
        if (&scale - tensors.data() > 8) break;
      }
    }
    if (total > size) abort();
  } catch (const mxmla::Error& error) {
    if (std::strlen(error.what()) == 0 || std::strchr(error.what(), '\n')) abort();
  }
  return 0;
}
