// A progress bar on standard error, when that is a terminal; nothing otherwise.
#pragma once

#include <cstddef>
#include <string_view>

namespace refute {

class Progress {
 public:
  Progress();
  // Clears the line.
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // Draws `done` of `total`, naming what is at work.
  void show(std::size_t done, std::size_t total, std::string_view label);
  void clear();

 private:
  bool terminal_;
  bool drawn_ = false;
};

}  // namespace refute
