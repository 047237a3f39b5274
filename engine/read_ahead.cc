#include "engine/read_ahead.h"

#include <sys/mman.h>

#include <algorithm>

namespace refute {
namespace {

constexpr std::size_t kPiece = std::size_t{8} << 20;
constexpr std::size_t kDistance = std::size_t{256} << 20;
constexpr std::size_t kLeastBytes = std::size_t{64} << 20;

bool read_and_map(const std::byte* begin, std::size_t bytes) {
#if defined(MADV_POPULATE_READ)
  return madvise(const_cast<std::byte*>(begin), bytes, MADV_POPULATE_READ) == 0;
#else
  static_cast<void>(begin);
  static_cast<void>(bytes);
  return false;
#endif
}

}  // namespace

ReadAhead::ReadAhead(std::span<const std::byte> mapped) : mapped_(mapped) {
  if (mapped.size() < kLeastBytes) {
    read_ = mapped.size();
    return;
  }
  thread_ = std::thread([this] { read(); });
}

ReadAhead::~ReadAhead() {
  stopping_ = true;
  wanted_ = mapped_.size();
  wanted_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void ReadAhead::wait_for(const std::byte* end) {
  // What lies outside is never read, so nobody may wait for it.
  const auto bytes = std::min(static_cast<std::size_t>(end - mapped_.data()), mapped_.size());
  std::size_t wanted = wanted_.load();
  while (wanted < bytes && !wanted_.compare_exchange_weak(wanted, bytes)) {
  }
  if (wanted < bytes) wanted_.notify_all();
  for (std::size_t read; (read = read_.load()) < bytes;) read_.wait(read);
}

void ReadAhead::read() {
  for (std::size_t at = 0; at < mapped_.size() && !stopping_;) {
    for (std::size_t wanted; !stopping_ && (wanted = wanted_.load()) + kDistance < at;) {
      wanted_.wait(wanted);
    }
    const std::size_t bytes = std::min(kPiece, mapped_.size() - at);
    if (!read_and_map(mapped_.data() + at, bytes)) break;
    at += bytes;
    read_ = at;
    read_.notify_all();
  }
  read_ = mapped_.size();
  read_.notify_all();
}

}  // namespace refute
