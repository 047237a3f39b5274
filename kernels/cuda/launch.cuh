// How kernels are launched: counted, every launch checked.
#pragma once

#include <cuda_runtime.h>

#include "kernels/cuda/stream.h"

namespace refute::cuda {
namespace {

// Launches on a stream. `overlap` lets the kernel start before the ones in front of it
// have finished (programmatic dependent launch): it must call wait_for_previous() before it touches
// anything that another kernel writes, and so must every kernel after it in the stream.
struct Launch {
  dim3 grid;
  dim3 block;
  std::size_t shared_bytes = 0;
  bool overlap = false;
  bool large_shared = false;  // Static and dynamic together may pass 48 KiB.
  unsigned cluster = 1;       // Blocks of a cluster, along x.
  bool cooperative = false;   // All blocks run at once.

  template <typename... Parameters, typename... Arguments>
  void operator()(const Stream& stream, void (*kernel)(Parameters...),
                  Arguments&&... arguments) const {
    if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
    if (large_shared) {
      CUDA_CHECK(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                      static_cast<int>(shared_bytes)));
    }
    cudaLaunchAttribute attributes[3] = {};
    unsigned count = 0;
    if (overlap) {
      attributes[count].id = cudaLaunchAttributeProgrammaticStreamSerialization;
      attributes[count++].val.programmaticStreamSerializationAllowed = 1;
    }
    if (cluster > 1) {
      attributes[count].id = cudaLaunchAttributeClusterDimension;
      attributes[count++].val.clusterDim = {cluster, 1, 1};
    }
    cudaLaunchConfig_t config{};
    config.gridDim = grid;
    config.blockDim = block;
    config.dynamicSmemBytes = shared_bytes;
    config.stream = stream.handle;
    if (cooperative) {
      attributes[count].id = cudaLaunchAttributeCooperative;
      attributes[count++].val.cooperative = 1;
    }
    config.attrs = attributes;
    config.numAttrs = count;
    CUDA_CHECK(cudaLaunchKernelEx(&config, kernel, Parameters(arguments)...));
    ++stream.launches;
  }
};

inline unsigned blocks_for(std::size_t items, std::size_t per_block) {
  return static_cast<unsigned>((items + per_block - 1) / per_block);
}

}  // namespace
}  // namespace refute::cuda
