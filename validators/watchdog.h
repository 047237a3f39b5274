// A time limit on each step of a piece of work that cannot be interrupted.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

namespace refute {

class Watchdog {
 public:
  // on_expiry gets the name of the step that took longer than `limit`; it is called on another
  // thread and is expected to end the process.
  Watchdog(std::chrono::milliseconds limit, std::function<void(const std::string&)> on_expiry);
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

  // Starts the clock of the next step.
  void arm(std::string step);
  // The step is over.
  void disarm();

 private:
  using Clock = std::chrono::steady_clock;
  void watch();

  std::chrono::milliseconds limit_;
  std::function<void(const std::string&)> on_expiry_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::string step_;
  Clock::time_point deadline_ = Clock::time_point::max();  // While no step is under way.
  bool stopping_ = false;
  std::thread thread_;  // Last, since it uses all of the above.
};

}  // namespace refute
