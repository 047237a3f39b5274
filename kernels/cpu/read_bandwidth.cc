// Every thread streams its share with the widest loads of the context's instruction set. The XOR of
// all words is compared with the one that was written, so no pass can leave anything out.
#include "kernels/cpu/read_bandwidth.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <vector>

#include "kernels/check.h"
#include "kernels/cpu/simd.h"

namespace refute::cpu {
namespace {

constexpr std::size_t kLeastBytes = std::size_t{256} << 20;
constexpr std::size_t kCaches = 4;  // Buffer bytes per byte of last-level cache.
constexpr std::size_t kPasses = 7;
constexpr std::size_t kGrain = std::size_t{1} << 17;  // Words a range, 1 MiB.

// Anonymous memory, in huge pages where the system gives them.
class Buffer {
 public:
  explicit Buffer(std::size_t bytes) : bytes_(bytes) {
    void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return;
    madvise(memory, bytes, MADV_HUGEPAGE);  // A wish; without it the pages are small.
    words_ = static_cast<std::uint64_t*>(memory);
  }
  ~Buffer() {
    if (words_ != nullptr) munmap(words_, bytes_);
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  std::uint64_t* words() const { return words_; }  // Null when there is no memory.

 private:
  std::size_t bytes_;
  std::uint64_t* words_ = nullptr;
};

}  // namespace

std::size_t read_bandwidth_buffer_bytes() {
  const long cache = std::max({sysconf(_SC_LEVEL2_CACHE_SIZE), sysconf(_SC_LEVEL3_CACHE_SIZE), 0L});
  return std::max(kLeastBytes, kCaches * static_cast<std::size_t>(cache));
}

std::optional<ReadBandwidth> measure_read_bandwidth(const Context& context) {
  const std::size_t bytes = read_bandwidth_buffer_bytes();
  const Buffer buffer(bytes);
  if (buffer.words() == nullptr) return std::nullopt;
  const std::size_t count = bytes / sizeof(std::uint64_t);
  std::atomic<std::uint64_t> written = 0;
  context.threads().parallel_for(count, kGrain, [&](std::size_t begin, std::size_t end) {
    std::uint64_t sum = 0;
    for (std::size_t i = begin; i < end; ++i) {
      const std::uint64_t word = (i + 1) * 0x9e3779b97f4a7c15ULL;  // Nothing that compresses.
      buffer.words()[i] = word;
      sum ^= word;
    }
    written.fetch_xor(sum, std::memory_order_relaxed);
  });

  std::vector<double> rates;
  for (std::size_t pass = 0; pass < kPasses; ++pass) {
    std::atomic<std::uint64_t> read = 0;
    const auto start = std::chrono::steady_clock::now();
    context.threads().parallel_for(count, kGrain, [&](std::size_t begin, std::size_t end) {
      read.fetch_xor(context.simd().xor_words(buffer.words() + begin, end - begin),
                     std::memory_order_relaxed);
    });
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
    CHECK(read == written);
    rates.push_back(static_cast<double>(bytes) / took.count());
  }
  return ReadBandwidth::of(rates);
}

}  // namespace refute::cpu
