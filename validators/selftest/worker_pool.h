// Processes that work on texts: what a fault breaks (a crash, an endless loop) ends one of them and
// not the selftest.
#pragma once

#include <chrono>
#include <cstddef>
#include <deque>
#include <functional>
#include <memory>
#include <string>

namespace refute {

enum class TaskEnd { kDone, kCrashed, kTimedOut };

struct TaskResult {
  TaskEnd end = TaskEnd::kDone;
  std::string text;  // What the work returned; for a crash, the signal or exit code in words.
};

class WorkerPool {
 public:
  // Runs in a process of its own, forked from this one, for many tasks one after the other.
  using Work = std::function<std::string(const std::string& task)>;
  // Called in this process, in the order in which tasks end; may append tasks to the queue.
  using OnResult = std::function<void(const std::string& task, const TaskResult& result)>;

  // Preconditions: num_workers > 0; no thread of this process holds a lock that `work` takes.
  WorkerPool(std::size_t num_workers, std::chrono::milliseconds limit, Work work);
  ~WorkerPool();
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  // Until the queue is empty and every task has ended. A worker that crashed or took longer than
  // the limit is replaced.
  void run(std::deque<std::string>& queue, const OnResult& on_result);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace refute
