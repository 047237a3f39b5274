#include "kernels/cuda/device.h"

#include <atomic>
#include <cstdio>
#include <cstdlib>

namespace refute::cuda {
namespace {

constexpr int kMinComputeCapability = 80;

std::atomic<std::size_t> held = 0;

Error no_device(std::string found) {
  return {ErrorKind::kNoDevice, "cuda", "a driver and a device of compute capability 8.0 or newer",
          std::move(found)};
}

}  // namespace

void cuda_check_failed(cudaError_t error, const char* call, const char* file, int line) {
  std::fprintf(stderr, "%s:%d: CUDA_CHECK failed: %s: %s (%s)\n", file, line, call,
               cudaGetErrorName(error), cudaGetErrorString(error));
  std::abort();
}

std::size_t held_bytes() { return held; }
void count_held(std::size_t bytes) { held += bytes; }
void count_freed(std::size_t bytes) { held -= bytes; }

DeviceMemory device_memory() {
  DeviceMemory memory;
  CUDA_CHECK(cudaMemGetInfo(&memory.free, &memory.total));
  return memory;
}

Error out_of_memory(const std::string& what, std::size_t bytes) {
  const DeviceMemory memory = device_memory();
  return {ErrorKind::kOutOfMemory, what, std::to_string(bytes) + " bytes of device memory",
          std::to_string(memory.free) + " free of " + std::to_string(memory.total)};
}

Result<Context> Context::create() {
  int count = 0;
  cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess) return no_device(cudaGetErrorString(error));
  if (count == 0) return no_device("no device");

  Context context;
  cudaDeviceProp properties{};
  CUDA_CHECK(cudaGetDeviceProperties(&properties, 0));
  DeviceInfo& device = context.device_;
  device.name = properties.name;
  device.compute_capability = 10 * properties.major + properties.minor;
  device.num_multiprocessors = properties.multiProcessorCount;
  device.total_memory = properties.totalGlobalMem;
  CUDA_CHECK(cudaDriverGetVersion(&device.driver_version));
  if (device.compute_capability < kMinComputeCapability) {
    return no_device(device.name + " of compute capability " + std::to_string(properties.major) +
                     "." + std::to_string(properties.minor));
  }
  // The first call that needs the device itself: busy, broken or full, it shows here.
  error = cudaSetDevice(0);
  if (error == cudaSuccess) error = cudaFree(nullptr);
  if (error != cudaSuccess) return no_device(device.name + ": " + cudaGetErrorString(error));
  cudaStream_t stream = nullptr;
  CUDA_CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  context.owned_stream_.reset(stream);
  context.stream_ = {stream, device.num_multiprocessors, device.compute_capability >= 90,
                     properties.sharedMemPerBlockOptin};
  return context;
}

void Context::copy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) const {
  if (bytes == 0) return;
  CUDA_CHECK(cudaMemcpyAsync(to, from, bytes, kind, stream()));
  synchronize();
}

}  // namespace refute::cuda
