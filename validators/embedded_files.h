// What the binary carries: the default subject, a trained model and its float64 expectations, so
// that `refute run` needs no file beside it, and the committed kill matrix.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

#include "kernels/result.h"

namespace refute {

inline constexpr const char* kEmbeddedSubjectName = "kjv-moe-7m";

std::span<const std::byte> embedded_model();         // kjv-moe-7m.gguf
std::span<const std::byte> embedded_expectations();  // kjv-moe-7m.expected.gguf
// contracts/kill-matrix.json (kill_matrix.h).
std::string_view embedded_kill_matrix();
// The sha256 of the first two, computed once.
const std::string& embedded_model_sha256();
const std::string& embedded_expectations_sha256();

// Bytes behind a path, for readers that map files: an anonymous file in memory, gone with its
// owner. A mapping made while it lives stays valid after it.
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
