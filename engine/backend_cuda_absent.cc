// Builds without the CUDA toolkit.
#include "engine/backend_cuda.h"

namespace refute {

Result<std::unique_ptr<Backend>> make_cuda_backend(const CudaOptions& /*options*/) {
  return Error{ErrorKind::kUnsupported, "cuda", "a build with CUDA",
               "this build has no CUDA backend"};
}

}  // namespace refute
