// The CUDA backend. In every build: without CUDA, or without a device, make_cuda_backend says why.
#pragma once

#include <memory>

#include "engine/backend.h"
#include "engine/cuda_options.h"
#include "kernels/result.h"

namespace refute {

// kUnsupported when this build has no CUDA; kNoDevice naming what is missing on this machine.
// Sessions must not outlive the backend, and one thread at a time may use them. open_session gives
// kUnsupported for a model that the options do not go with.
Result<std::unique_ptr<Backend>> make_cuda_backend(const CudaOptions& options = {});

}  // namespace refute
