// Workers spin briefly on the number of the current job, then sleep on it. Ranges are handed out by
// an atomic counter, so a thread that the system delays takes fewer of them. The first ranges are
// long, for the sake of memory that is read in order; the last ones are short, so that all threads
// end together.

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

#include "kernels/check.h"
#include "kernels/cpu/context.h"

namespace refute::cpu {
namespace {

// About 20 to 50 us: longer than the gap between two ops of a forward pass.
constexpr int kSpins = 1000;

void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

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
  std::atomic<std::size_t> next{0};

  std::atomic<bool> busy{false};
  std::vector<std::thread> workers;

  // Half of each thread's share of what is left, in whole grains.
  std::size_t range_from(std::size_t begin) const {
    const std::size_t grains = (count - begin + grain - 1) / grain;
    const std::size_t shares = 2 * (workers.size() + 1);
    return (grains + shares - 1) / shares * grain;
  }

  void take_ranges() {
    std::size_t begin = next.load();
    while (begin < count) {
      const std::size_t end = std::min(begin + range_from(begin), count);
      if (!next.compare_exchange_weak(begin, end)) continue;
      (*body)(begin, end);
      begin = next.load();
    }
  }

  void work() {
    std::uint32_t seen = 0;
    for (;;) {
      for (int spin = 0; spin < kSpins && job.load() == seen; ++spin) pause();
      job.wait(seen);
      seen = job.load();
      if (stopping.load()) return;
      if (seen % 2 == 0) continue;
      // Either the caller's closing of the job is seen here, or it sees this thread inside.
      inside.fetch_add(1);
      if (job.load() == seen) take_ranges();
      inside.fetch_sub(1);
    }
  }
};

ThreadPool::ThreadPool(std::size_t num_threads) : state_(std::make_unique<State>()) {
  CHECK(num_threads > 0);
  State* const state = state_.get();
  for (std::size_t i = 1; i < num_threads; ++i) {
    state->workers.emplace_back([state] { state->work(); });
  }
}

ThreadPool::~ThreadPool() {
  state_->stopping.store(true);
  state_->job.fetch_add(2);
  state_->job.notify_all();
  for (std::thread& worker : state_->workers) worker.join();
}

std::size_t ThreadPool::num_threads() const { return state_->workers.size() + 1; }

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
  state.next.store(0);
  state.job.fetch_add(1);
  state.job.notify_all();
  state.take_ranges();
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
