// The CUDA device as the host sees it: a context with one stream, and memory that frees itself.
// Only in builds with CUDA.
//
// No device, a driver that is too old and memory that could not be had are Results; every other
// CUDA error is sticky, so CUDA_CHECK aborts: an aborted run never passes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "kernels/cuda/stream.h"
#include "kernels/result.h"

namespace refute::cuda {

// kOutOfMemory naming `what`, the bytes asked for and the bytes there are.
Error out_of_memory(const std::string& what, std::size_t bytes);

struct DeviceInfo {
  std::string name;            // "NVIDIA H100 80GB HBM3"
  int compute_capability = 0;  // 90
  int num_multiprocessors = 0;
  int driver_version = 0;  // 13000
  std::size_t total_memory = 0;
};

struct DeviceMemory {
  std::size_t free = 0;
  std::size_t total = 0;
};
DeviceMemory device_memory();

// Bytes in all DeviceBuffers of this process: state of the process, but nothing depends on it.
std::size_t held_bytes();
void count_held(std::size_t bytes);
void count_freed(std::size_t bytes);

// Device memory of `size` elements, freed on destruction.
template <typename T>
class DeviceBuffer {
 public:
  DeviceBuffer() = default;
  // `what` names the use in the error. Contents are undefined.
  static Result<DeviceBuffer> allocate(std::size_t size, const std::string& what) {
    DeviceBuffer buffer;
    if (size == 0) return buffer;
    void* data = nullptr;
    const cudaError_t error = cudaMalloc(&data, size * sizeof(T));
    if (error == cudaErrorMemoryAllocation) {
      (void)cudaGetLastError();  // Not sticky: forget it.
      return out_of_memory(what, size * sizeof(T));
    }
    CUDA_CHECK(error);
    buffer.data_ = static_cast<T*>(data);
    buffer.size_ = size;
    count_held(buffer.bytes());
    return buffer;
  }
  ~DeviceBuffer() {
    if (data_ == nullptr) return;
    CUDA_CHECK(cudaFree(data_));
    count_freed(bytes());
  }
  DeviceBuffer(DeviceBuffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  DeviceBuffer& operator=(DeviceBuffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }

  T* data() const { return data_; }
  std::size_t size() const { return size_; }
  std::size_t bytes() const { return size_ * sizeof(T); }

 private:
  T* data_ = nullptr;
  std::size_t size_ = 0;
};

// Page-locked host memory of `size` elements, freed on destruction.
template <typename T>
class PinnedBuffer {
 public:
  PinnedBuffer() = default;
  static Result<PinnedBuffer> allocate(std::size_t size, const std::string& what) {
    PinnedBuffer buffer;
    if (size == 0) return buffer;
    void* data = nullptr;
    const cudaError_t error = cudaMallocHost(&data, size * sizeof(T));
    if (error == cudaErrorMemoryAllocation) {
      (void)cudaGetLastError();
      return Error{ErrorKind::kOutOfMemory, what,
                   std::to_string(size * sizeof(T)) + " bytes of page-locked host memory",
                   "an allocation that failed"};
    }
    CUDA_CHECK(error);
    buffer.data_ = static_cast<T*>(data);
    buffer.size_ = size;
    return buffer;
  }
  ~PinnedBuffer() {
    if (data_ != nullptr) CUDA_CHECK(cudaFreeHost(data_));
  }
  PinnedBuffer(PinnedBuffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  PinnedBuffer& operator=(PinnedBuffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }

  T* data() const { return data_; }
  std::size_t size() const { return size_; }

 private:
  T* data_ = nullptr;
  std::size_t size_ = 0;
};

// What every op runs with: a device and a stream on it. Ops are asynchronous; copies to the host
// wait for the stream. One thread at a time.
class Context {
 public:
  // kNoDevice when there is no driver, no device, or none that this build has code for.
  static Result<Context> create();

  const DeviceInfo& device() const { return device_; }
  // What the ops take.
  operator const Stream&() const { return stream_; }
  cudaStream_t stream() const { return stream_.handle; }
  void synchronize() const { CUDA_CHECK(cudaStreamSynchronize(stream())); }

  // Kernels launched through this context so far (a graph's nodes count with every replay).
  std::uint64_t launches() const { return stream_.launches; }
  void count_launches(std::uint64_t count) const { stream_.launches += count; }

  // Waits until the copy is done. Sizes in elements.
  template <typename T>
  void to_device(const T* from, std::size_t size, T* to) const {
    copy(to, from, size * sizeof(T), cudaMemcpyHostToDevice);
  }
  template <typename T>
  void to_host(const T* from, std::size_t size, T* to) const {
    copy(to, from, size * sizeof(T), cudaMemcpyDeviceToHost);
  }

 private:
  struct StreamDeleter {
    void operator()(cudaStream_t stream) const { CUDA_CHECK(cudaStreamDestroy(stream)); }
  };
  Context() = default;
  void copy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) const;

  DeviceInfo device_;
  std::unique_ptr<CUstream_st, StreamDeleter> owned_stream_;
  Stream stream_;
};

}  // namespace refute::cuda
