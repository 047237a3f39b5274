// Workers spin briefly on the number of the current job, then sleep on it. Every thread has a share
// of consecutive ranges, so that it walks through memory in order and knows what it reads next; one
// that is done early takes from the ends of the others' shares. A thread takes half of what is left
// of a share at a time, so that the last ranges are short and all threads end together.

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "kernels/check.h"
#include "kernels/cpu/context.h"

namespace refute::cpu {
namespace {

// About 0.2 ms: longer than what one thread does alone between two ops of a forward pass, at most
// the end of a token; to wake a thread takes longer than most gaps.
constexpr int kSpins = 10000;

void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

// Grains of a job, [begin, end).
struct Grains {
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
  bool empty() const { return begin >= end; }
};

// What is left of a thread's share; two numbers of 32 bits in one word, so that whoever takes some
// of it takes it from all.
class alignas(64) Share {
 public:
  void set(Grains grains) {
    CHECK(grains.end <= kMask);
    left_.store(grains.begin << kBits | grains.end);
  }
  // Half of what is left, from the beginning on.
  Grains take_first() {
    return take([](Grains left, std::uint64_t half) {
      return std::pair(Grains{left.begin, left.begin + half}, Grains{left.begin + half, left.end});
    });
  }
  // Half of what is left, up to the end.
  Grains take_last() {
    return take([](Grains left, std::uint64_t half) {
      return std::pair(Grains{left.end - half, left.end}, Grains{left.begin, left.end - half});
    });
  }

 private:
  static constexpr int kBits = 32;
  static constexpr std::uint64_t kMask = (std::uint64_t{1} << kBits) - 1;

  template <typename Split>
  Grains take(const Split& split) {
    std::uint64_t word = left_.load();
    for (;;) {
      const Grains left{word >> kBits, word & kMask};
      if (left.empty()) return {};
      const auto [taken, rest] = split(left, (left.end - left.begin + 1) / 2);
      if (left_.compare_exchange_weak(word, rest.begin << kBits | rest.end)) return taken;
    }
  }

  std::atomic<std::uint64_t> left_{0};
};

}  // namespace

struct ThreadPool::State {
  // Odd while job number / 2 is open to workers, even between jobs.
  std::atomic<std::uint32_t> job{0};
  std::atomic<bool> stopping{false};
  // Workers that may be reading the job below. The caller writes the job only when it is closed and
  // nobody is inside.
  std::atomic<std::uint32_t> inside{0};

  const std::function<void(std::size_t, std::size_t)>* body = nullptr;
  std::size_t count = 0;
  std::size_t grain = 0;
  std::unique_ptr<Share[]> shares;  // One a thread.

  std::atomic<bool> busy{false};
  std::vector<std::thread> workers;

  std::size_t num_threads() const { return workers.size() + 1; }

  void run(Grains taken) const { (*body)(taken.begin * grain, std::min(taken.end * grain, count)); }

  void take_ranges(std::size_t thread) {
    for (Grains taken; !(taken = shares[thread].take_first()).empty();) run(taken);
    for (std::size_t i = 1; i < num_threads(); ++i) {
      Share& other = shares[(thread + i) % num_threads()];
      for (Grains taken; !(taken = other.take_last()).empty();) run(taken);
    }
  }

  void work(std::size_t thread) {
    std::uint32_t seen = 0;
    for (;;) {
      for (int spin = 0; spin < kSpins && job.load() == seen; ++spin) pause();
      job.wait(seen);
      seen = job.load();
      if (stopping.load()) return;
      if (seen % 2 == 0) continue;
      // Either the caller's closing of the job is seen here, or it sees this thread inside.
      inside.fetch_add(1);
      if (job.load() == seen) take_ranges(thread);
      inside.fetch_sub(1);
    }
  }
};

ThreadPool::ThreadPool(std::size_t num_threads) : state_(std::make_unique<State>()) {
  CHECK(num_threads > 0);
  State* const state = state_.get();
  state->shares = std::make_unique<Share[]>(num_threads);
  for (std::size_t i = 1; i < num_threads; ++i) {
    state->workers.emplace_back([state, i] { state->work(i); });
  }
}

ThreadPool::~ThreadPool() {
  state_->stopping.store(true);
  state_->job.fetch_add(2);
  state_->job.notify_all();
  for (std::thread& worker : state_->workers) worker.join();
}

std::size_t ThreadPool::num_threads() const { return state_->num_threads(); }

IndexRange ThreadPool::share(std::size_t count, std::size_t grain, std::size_t thread) const {
  const std::size_t grains = (count + grain - 1) / grain;
  const std::size_t threads = num_threads();
  const auto begin_of = [&](std::size_t i) {
    return std::min((grains / threads * i + std::min(grains % threads, i)) * grain, count);
  };
  return {begin_of(thread), begin_of(thread + 1)};
}

void ThreadPool::parallel_for(
    std::size_t count, std::size_t grain,
    const std::function<void(std::size_t begin, std::size_t end)>& body) const {
  CHECK(grain > 0);
  if (count == 0) return;
  State& state = *state_;
  if (state.workers.empty() || count <= grain) {
    body(0, count);
    return;
  }
  CHECK(!state.busy.exchange(true));
  state.grain = grain;
  state.count = count;
  state.body = &body;
  for (std::size_t i = 0; i < state.num_threads(); ++i) {
    const IndexRange share = this->share(count, grain, i);
    const auto grains = [&](std::size_t index) { return (index + grain - 1) / grain; };
    state.shares[i].set({grains(share.begin), grains(share.end)});
  }
  state.job.fetch_add(1);
  state.job.notify_all();
  state.take_ranges(0);
  state.job.fetch_add(1);
  for (int spin = 0; state.inside.load() != 0; ++spin) {
    if (spin < kSpins) {
      pause();
    } else {
      std::this_thread::yield();
    }
  }
  state.busy.store(false);
}

}  // namespace refute::cpu
