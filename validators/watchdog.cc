#include "validators/watchdog.h"

#include <utility>

namespace refute {

Watchdog::Watchdog(std::chrono::milliseconds limit,
                   std::function<void(const std::string&)> on_expiry)
    : limit_(limit), on_expiry_(std::move(on_expiry)), thread_([this] { watch(); }) {}

Watchdog::~Watchdog() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_one();
  thread_.join();
}

void Watchdog::arm(std::string step) {
  {
    const std::lock_guard lock(mutex_);
    step_ = std::move(step);
    deadline_ = Clock::now() + limit_;
  }
  changed_.notify_one();
}

void Watchdog::disarm() {
  const std::lock_guard lock(mutex_);
  deadline_ = Clock::time_point::max();
}

void Watchdog::watch() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    if (deadline_ == Clock::time_point::max()) {
      changed_.wait(lock);
      continue;
    }
    changed_.wait_until(lock, deadline_);
    if (!stopping_ && Clock::now() >= deadline_) {
      deadline_ = Clock::time_point::max();
      on_expiry_(step_);
    }
  }
}

}  // namespace refute
