// An anonymous file in memory: bytes behind a path, for readers that map files.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>

#include "kernels/result.h"

namespace refute {

// Gone with its owner; a mapping made while it lives stays valid after it.
class MemoryFile {
 public:
  // kOutOfMemory when the system gives no memory for it.
  static Result<MemoryFile> create(const char* name, std::span<const std::byte> bytes);
  MemoryFile(MemoryFile&& other) noexcept;
  MemoryFile& operator=(MemoryFile&& other) noexcept;
  ~MemoryFile();

  std::filesystem::path path() const;  // "/proc/self/fd/3"

 private:
  explicit MemoryFile(int descriptor) : descriptor_(descriptor) {}
  int descriptor_ = -1;
};

}  // namespace refute
