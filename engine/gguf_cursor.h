// Bounds-checked reading of a GGUF file's bytes from front to back, for the reader only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <utility>

#include "kernels/result.h"

namespace refute {

class GgufCursor {
 public:
  // `file` is how errors call the file.
  GgufCursor(std::span<const std::byte> bytes, std::string file)
      : bytes_(bytes), file_(std::move(file)), context_("header") {}

  // What is being read, for the errors from here on: "metadata 'general.name'".
  void set_context(std::string context) { context_ = std::move(context); }

  std::size_t offset() const { return offset_; }
  std::size_t remaining() const { return bytes_.size() - offset_; }

  // The next `count` items of `item_bytes` each. kMalformed when the count is implausible for any
  // file, kUnreadable when the file ends before them.
  Result<std::span<const std::byte>> take(std::uint64_t count, std::size_t item_bytes) {
    if (count > kMaxCount) {
      return error(ErrorKind::kMalformed, "a length of at most 2^48", std::to_string(count));
    }
    if (count > remaining() / item_bytes) {
      return error(ErrorKind::kUnreadable, std::to_string(count * item_bytes) + " more bytes",
                   std::to_string(remaining()) + " before the end of the file");
    }
    const auto taken = bytes_.subspan(offset_, static_cast<std::size_t>(count) * item_bytes);
    offset_ += taken.size();
    return taken;
  }

  // A number as the file stores it, wherever it lies.
  template <typename T>
  Result<T> number() {
    const auto bytes = take(1, sizeof(T));
    if (!bytes) return bytes.error();
    T value;
    std::memcpy(&value, bytes->data(), sizeof(T));
    return value;
  }

  // A 64-bit length, then as many bytes.
  Result<std::string> string() {
    const auto length = number<std::uint64_t>();
    if (!length) return length.error();
    const auto bytes = take(*length, 1);
    if (!bytes) return bytes.error();
    return std::string(reinterpret_cast<const char*>(bytes->data()), bytes->size());
  }

  Error error(ErrorKind kind, std::string expected, std::string found) const {
    return {kind, file_ + ": " + context_ + " at byte " + std::to_string(offset_),
            std::move(expected), std::move(found)};
  }

 private:
  // Counts times item sizes stay far below 2^64.
  static constexpr std::uint64_t kMaxCount = std::uint64_t{1} << 48;

  std::span<const std::byte> bytes_;
  std::size_t offset_ = 0;
  std::string file_;
  std::string context_;
};

}  // namespace refute
