#include "validators/embedded_files.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string_view>
#include <utility>

#include "validators/sha256.h"

// Labels of embedded_files.S.
extern "C" {
extern const std::byte refute_embedded_model_begin[];
extern const std::byte refute_embedded_model_end[];
extern const std::byte refute_embedded_expectations_begin[];
extern const std::byte refute_embedded_expectations_end[];
extern const char refute_embedded_kill_matrix_begin[];
extern const char refute_embedded_kill_matrix_end[];
}

namespace refute {
namespace {

std::string sha256_of(std::span<const std::byte> bytes) {
  return sha256_hex({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
}

}  // namespace

std::span<const std::byte> embedded_model() {
  return {refute_embedded_model_begin, refute_embedded_model_end};
}

std::span<const std::byte> embedded_expectations() {
  return {refute_embedded_expectations_begin, refute_embedded_expectations_end};
}

std::string_view embedded_kill_matrix() {
  return {refute_embedded_kill_matrix_begin, refute_embedded_kill_matrix_end};
}

const std::string& embedded_model_sha256() {
  static const std::string digest = sha256_of(embedded_model());
  return digest;
}

const std::string& embedded_expectations_sha256() {
  static const std::string digest = sha256_of(embedded_expectations());
  return digest;
}

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
