#include "validators/progress.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <string>

#include "validators/report.h"

namespace refute {
namespace {

constexpr std::size_t kBarWidth = 24;

std::size_t terminal_columns() {
  winsize size{};
  if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return 80;
  return size.ws_col;
}

bool is_live_terminal() {
  const char* terminal = std::getenv("TERM");
  return isatty(STDERR_FILENO) == 1 && terminal != nullptr && std::string_view(terminal) != "dumb";
}

}  // namespace

Progress::Progress() : terminal_(is_live_terminal()) {}

Progress::~Progress() { clear(); }

void Progress::show(std::size_t done, std::size_t total, std::string_view label) {
  if (!terminal_ || total == 0) return;
  const std::size_t filled = std::min(kBarWidth, done * kBarWidth / total);
  std::string line = fmt::format("[{}{}] {}/{} {}", std::string(filled, '#'),
                                 std::string(kBarWidth - filled, '.'), done, total, label);
  // A line that wraps could not be drawn over.
  line.resize(std::min(line.size(), terminal_columns() - 1));
  print_error("\r" + line + "\x1b[K");
  drawn_ = true;
}

void Progress::clear() {
  if (drawn_) print_error("\r\x1b[K");
  drawn_ = false;
}

}  // namespace refute
