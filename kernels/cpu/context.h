// What every CPU op runs with: a thread pool and an instruction set.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string_view>

#include "kernels/result.h"

namespace refute::cpu {

enum class Isa { kPortable, kAvx2, kAvx512Vnni };

// "portable", "avx2", "avx512-vnni".
std::string_view isa_name(Isa isa);
std::optional<Isa> parse_isa(std::string_view name);
// The best one that this processor and this build can run; and all of them, portable first.
Isa best_isa();
std::span<const Isa> supported_isas();

struct SimdKernels;  // kernels/cpu/simd.h

// [begin, end) of an index space.
struct IndexRange {
  std::size_t begin = 0;
  std::size_t end = 0;
};

// Threads that run ranges of an index space. Results never depend on the number of threads, because
// every output element is computed by one thread in one fixed order.
class ThreadPool {
 public:
  // num_threads counts the calling thread; at least 1.
  explicit ThreadPool(std::size_t num_threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  std::size_t num_threads() const;

  // What parallel_for hands to thread `thread` < num_threads() in order, unless others, who are
  // done early, take some of its end. Thread 0 is the caller.
  IndexRange share(std::size_t count, std::size_t grain, std::size_t thread) const;

  // Calls body(begin, end) on disjoint ranges that cover [0, count), each a multiple of `grain`
  // long but for the last; returns when all are done. One call at a time: neither the body nor
  // another thread may call it meanwhile (a CHECK finds it where threads are involved).
  void parallel_for(std::size_t count, std::size_t grain,
                    const std::function<void(std::size_t begin, std::size_t end)>& body) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

class Context {
 public:
  // num_threads 0 takes the number of processors; an isa that this machine lacks is kUnsupported.
  static Result<Context> create(std::size_t num_threads = 0, std::optional<Isa> isa = std::nullopt);

  Isa isa() const { return isa_; }
  const ThreadPool& threads() const { return *threads_; }
  const SimdKernels& simd() const { return *simd_; }

 private:
  Context(Isa isa, const SimdKernels* simd, std::unique_ptr<ThreadPool> threads);

  Isa isa_;
  const SimdKernels* simd_;
  std::unique_ptr<ThreadPool> threads_;
};

}  // namespace refute::cpu
