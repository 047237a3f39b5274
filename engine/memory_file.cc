#include "engine/memory_file.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

namespace refute {

Result<MemoryFile> MemoryFile::create(const char* name, std::span<const std::byte> bytes) {
  MemoryFile file(memfd_create(name, MFD_CLOEXEC));
  std::size_t written = 0;
  while (file.descriptor_ >= 0 && written < bytes.size()) {
    const ssize_t count = write(file.descriptor_, bytes.data() + written, bytes.size() - written);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) break;
    written += static_cast<std::size_t>(count);
  }
  if (file.descriptor_ < 0 || written < bytes.size()) {
    return Error{ErrorKind::kOutOfMemory, name,
                 std::to_string(bytes.size()) + " bytes of memory as a file", std::strerror(errno)};
  }
  return file;
}

MemoryFile::MemoryFile(MemoryFile&& other) noexcept
    : descriptor_(std::exchange(other.descriptor_, -1)) {}

MemoryFile& MemoryFile::operator=(MemoryFile&& other) noexcept {
  std::swap(descriptor_, other.descriptor_);
  return *this;
}

MemoryFile::~MemoryFile() {
  if (descriptor_ >= 0) close(descriptor_);
}

std::filesystem::path MemoryFile::path() const {
  return "/proc/self/fd/" + std::to_string(descriptor_);
}

}  // namespace refute
