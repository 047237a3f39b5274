#include "validators/selftest/worker_pool.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <exception>
#include <optional>
#include <utility>
#include <vector>

#include "kernels/check.h"

namespace refute {
namespace {

using Clock = std::chrono::steady_clock;

bool write_all(int to, const char* bytes, std::size_t size) {
  while (size > 0) {
    const ssize_t written = write(to, bytes, size);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return false;
    bytes += written;
    size -= static_cast<std::size_t>(written);
  }
  return true;
}

bool read_all(int from, char* bytes, std::size_t size) {
  while (size > 0) {
    const ssize_t count = read(from, bytes, size);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return false;
    bytes += count;
    size -= static_cast<std::size_t>(count);
  }
  return true;
}

// A message is its length and its bytes.
bool send(int to, const std::string& text) {
  const auto size = static_cast<std::uint64_t>(text.size());
  return write_all(to, reinterpret_cast<const char*>(&size), sizeof(size)) &&
         write_all(to, text.data(), text.size());
}

std::optional<std::string> receive(int from) {
  std::uint64_t size = 0;
  if (!read_all(from, reinterpret_cast<char*>(&size), sizeof(size))) return std::nullopt;
  std::string text(size, '\0');
  if (!read_all(from, text.data(), text.size())) return std::nullopt;
  return text;
}

[[noreturn]] void serve(int tasks, int results, const WorkerPool::Work& work) {
  // What a broken precondition prints belongs to no report.
  std::signal(SIGINT, SIG_IGN);
  if (std::freopen("/dev/null", "w", stderr) == nullptr) _exit(1);
  while (const auto task = receive(tasks)) {
    if (!send(results, work(*task))) _exit(1);
  }
  _exit(0);
}

std::string describe_end(int status) {
  if (WIFSIGNALED(status)) return fmt::format("signal {}", strsignal(WTERMSIG(status)));
  return fmt::format("exit code {}", WEXITSTATUS(status));
}

struct Worker {
  pid_t process = -1;
  int tasks = -1;
  int results = -1;
  std::optional<std::string> task;  // While it works on one.
  Clock::time_point deadline;
};

}  // namespace

struct WorkerPool::State {
  std::chrono::milliseconds limit;
  Work work;
  std::vector<Worker> workers;

  void start(Worker& worker) {
    int tasks[2];
    int results[2];
    CHECK(pipe(tasks) == 0 && pipe(results) == 0);
    const pid_t process = fork();
    CHECK(process >= 0);
    if (process == 0) {
      // Ends of other workers' pipes would keep them alive.
      for (const Worker& other : workers) {
        if (other.tasks >= 0) close(other.tasks);
        if (other.results >= 0) close(other.results);
      }
      close(tasks[1]);
      close(results[0]);
      serve(tasks[0], results[1], work);
    }
    close(tasks[0]);
    close(results[1]);
    worker = {process, tasks[1], results[0], std::nullopt, {}};
  }

  static int stop(Worker& worker) {
    close(worker.tasks);
    close(worker.results);
    int status = 0;
    while (waitpid(worker.process, &status, 0) < 0 && errno == EINTR) {
    }
    worker = {};
    return status;
  }

  void give(Worker& worker, std::deque<std::string>& queue) {
    if (worker.process < 0) start(worker);
    worker.task = std::move(queue.front());
    queue.pop_front();
    worker.deadline = Clock::now() + limit;
    // A failed write is seen as the end of the results.
    (void)send(worker.tasks, *worker.task);
  }

  TaskResult take(Worker& worker) {
    if (auto text = receive(worker.results)) return {TaskEnd::kDone, *std::move(text)};
    return {TaskEnd::kCrashed, describe_end(stop(worker))};
  }

  static TaskResult cut_off(Worker& worker) {
    kill(worker.process, SIGKILL);
    stop(worker);
    return {TaskEnd::kTimedOut, "took too long"};
  }
};

WorkerPool::WorkerPool(std::size_t num_workers, std::chrono::milliseconds limit, Work work)
    : state_(new State{limit, std::move(work), std::vector<Worker>(num_workers)}) {
  CHECK(num_workers > 0);
  std::signal(SIGPIPE, SIG_IGN);
}

WorkerPool::~WorkerPool() {
  for (Worker& worker : state_->workers) {
    if (worker.process >= 0) State::stop(worker);
  }
}

void WorkerPool::run(std::deque<std::string>& queue, const OnResult& on_result) {
  auto& workers = state_->workers;
  const auto is_busy = [](const Worker& worker) { return worker.task.has_value(); };
  while (true) {
    for (Worker& worker : workers) {
      if (!worker.task && !queue.empty()) state_->give(worker, queue);
    }
    if (std::none_of(workers.begin(), workers.end(), is_busy)) return;

    std::vector<pollfd> waiting;
    std::vector<Worker*> busy;
    Clock::time_point first = Clock::time_point::max();
    for (Worker& worker : workers) {
      if (!worker.task) continue;
      waiting.push_back({worker.results, POLLIN, 0});
      busy.push_back(&worker);
      first = std::min(first, worker.deadline);
    }
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(first - Clock::now()).count();
    poll(waiting.data(), waiting.size(), static_cast<int>(std::max<std::int64_t>(left, 0)));
    for (std::size_t i = 0; i < busy.size(); ++i) {
      Worker& worker = *busy[i];
      const bool answered = (waiting[i].revents & (POLLIN | POLLHUP)) != 0;
      if (!answered && Clock::now() < worker.deadline) continue;
      const std::string task = *std::move(worker.task);
      worker.task.reset();
      const TaskResult result = answered ? state_->take(worker) : State::cut_off(worker);
      on_result(task, result);
    }
  }
}

}  // namespace refute
