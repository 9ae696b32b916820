#include "cuda/cublas_products.h"

#if __has_include(<cublas_v2.h>)  // a toolkit may come without it

#include <cublas_v2.h>
#include <dlfcn.h>
#include <fmt/format.h>

#include "cuda/status.h"

namespace mxmla::cuda {
namespace {

constexpr std::string_view kWhat = "cuBLAS";

// cublasGemmStridedBatchedEx, whose name the header overloads.
using MultiplyFunction = cublasStatus_t (*)(cublasHandle_t, cublasOperation_t, cublasOperation_t, int m, int n, int k,
                                            const void* alpha, const void* a, cudaDataType, int lda, long long stride_a,
                                            const void* b, cudaDataType, int ldb, long long stride_b, const void* beta,
                                            void* c, cudaDataType, int ldc, long long stride_c, int batch,
                                            cublasComputeType_t, cublasGemmAlgo_t);

// The functions of the library, by the types of its header.
struct Library {
  void* file = nullptr;
  decltype(&cublasCreate_v2) create = nullptr;
  decltype(&cublasDestroy_v2) destroy = nullptr;
  decltype(&cublasGetVersion_v2) version = nullptr;
  decltype(&cublasSetStream_v2) set_stream = nullptr;
  decltype(&cublasSetWorkspace_v2) set_workspace = nullptr;
  MultiplyFunction multiply = nullptr;
};

template <class Function>
bool Find(void* file, const char* name, Function* function) {
  *function = reinterpret_cast<Function>(dlsym(file, name));
  return *function != nullptr;
}

// It stays loaded: what it keeps on the device lives as long as the process.
std::string Load(Library* library) {
  const std::string name = fmt::format("libcublas.so.{}", CUBLAS_VER_MAJOR);
  library->file = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!library->file) return fmt::format("{} is not where the system's linker looks (LD_LIBRARY_PATH)", name);
  if (Find(library->file, "cublasCreate_v2", &library->create) &&
      Find(library->file, "cublasDestroy_v2", &library->destroy) &&
      Find(library->file, "cublasGetVersion_v2", &library->version) &&
      Find(library->file, "cublasSetStream_v2", &library->set_stream) &&
      Find(library->file, "cublasSetWorkspace_v2", &library->set_workspace) &&
      Find(library->file, "cublasGemmStridedBatchedEx", &library->multiply)) {
    return {};
  }
  return fmt::format("{} lacks a function", name);
}

void Must(cublasStatus_t status, std::string_view expected) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  Fail(ErrorCode::kDevice, std::string(kWhat), std::string(expected),
       fmt::format("status {}", static_cast<int>(status)));
}

class CublasProducts final : public VendorProducts {
 public:
  CublasProducts(const Library& library, cudaStream_t stream) : library_(library) {
    Must(library_.create(&handle_), "a handle");
    try {
      Must(library_.set_stream(handle_, stream), "a stream");
      // Its own workspace would be allocated while a graph is captured.
      Check(cudaMalloc(&workspace_, kWorkspaceBytes), kWhat, "a workspace of 32 MiB");
      Must(library_.set_workspace(handle_, workspace_, kWorkspaceBytes), "a workspace");
    } catch (...) {
      Release();
      throw;
    }
  }
  ~CublasProducts() override { Release(); }

  std::string Name() const override {
    int version = 0;
    Must(library_.version(handle_, &version), "a version");
    return fmt::format("cuBLAS {}.{}.{}", version / 10000, version % 10000 / 100, version % 100);
  }

  // Column-major for the library: out^T = weight x^T.
  void Multiply(const VendorProductArgs& args) override {
    const float one = 1, zero = 0;
    const auto dimension = [](int64_t extent) { return static_cast<int>(extent); };
    Must(library_.multiply(handle_, CUBLAS_OP_T, CUBLAS_OP_N, dimension(args.weight.shape[1]),
                           dimension(args.x.shape[1]), dimension(args.x.shape[2]), &one, args.weight.data, CUDA_R_16BF,
                           dimension(args.weight.stride[1]), args.weight.stride[0], args.x.data, CUDA_R_16BF,
                           dimension(args.x.stride[1]), args.x.stride[0], &zero, args.out.data, CUDA_R_16BF,
                           dimension(args.out.stride[1]), args.out.stride[0], dimension(args.x.shape[0]),
                           CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
         "a product that it takes");
  }

 private:
  static constexpr size_t kWorkspaceBytes = size_t{32} << 20;

  void Release() {
    if (handle_) library_.destroy(handle_);
    cudaFree(workspace_);
  }

  Library library_;
  cublasHandle_t handle_ = nullptr;
  void* workspace_ = nullptr;
};

}  // namespace

std::unique_ptr<VendorProducts> OpenCublas(cudaStream_t stream, std::string* why) {
  Library library;
  *why = Load(&library);
  if (!why->empty()) return nullptr;
  return std::make_unique<CublasProducts>(library, stream);
}

}  // namespace mxmla::cuda

#else

namespace mxmla::cuda {

std::unique_ptr<VendorProducts> OpenCublas(cudaStream_t, std::string* why) {
  *why = "this build had no cublas_v2.h";
  return nullptr;
}

}  // namespace mxmla::cuda

#endif
