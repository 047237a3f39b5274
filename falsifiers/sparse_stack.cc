#include "falsifiers/sparse_stack.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <string>
#include <utility>

#include "kernels/check.h"

namespace refute {
namespace {

constexpr std::size_t kInFront = std::size_t{1} << 31;

}  // namespace

Result<SparseStack> SparseStack::create(TensorType type, std::size_t num_experts, std::size_t rows,
                                        std::size_t columns) {
  SparseStack stack;
  stack.type_ = type;
  stack.num_experts_ = num_experts;
  stack.rows_ = rows;
  stack.columns_ = columns;
  const std::size_t size = kInFront + num_experts * rows * row_bytes(type, columns);
  // Read-only, so that the kernel reserves no memory even where it does not overcommit.
  void* mapping =
      mmap(nullptr, size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapping == MAP_FAILED) {
    return Error{ErrorKind::kOutOfMemory, "sparse stack",
                 std::to_string(size) + " bytes of addresses", std::strerror(errno)};
  }
  stack.mapping_ = static_cast<std::byte*>(mapping);
  stack.mapped_ = size;
  return stack;
}

SparseStack::SparseStack(SparseStack&& other) noexcept { *this = std::move(other); }

SparseStack& SparseStack::operator=(SparseStack&& other) noexcept {
  std::swap(type_, other.type_);
  std::swap(num_experts_, other.num_experts_);
  std::swap(rows_, other.rows_);
  std::swap(columns_, other.columns_);
  std::swap(mapping_, other.mapping_);
  std::swap(mapped_, other.mapped_);
  return *this;
}

SparseStack::~SparseStack() {
  if (mapping_ != nullptr) munmap(mapping_, mapped_);
}

ExpertStack SparseStack::view() const {
  return {type_, num_experts_, rows_, columns_, {mapping_ + kInFront, mapped_ - kInFront}};
}

void SparseStack::write(std::size_t expert, std::size_t offset, std::span<const std::byte> bytes) {
  CHECK(expert < num_experts_ && offset + bytes.size() <= view().bytes_per_expert());
  const auto page_size = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  const std::size_t begin = kInFront + expert * view().bytes_per_expert() + offset;
  const std::size_t first_page = begin / page_size * page_size;
  const std::size_t end = begin + bytes.size();
  CHECK(mprotect(mapping_ + first_page, end - first_page, PROT_READ | PROT_WRITE) == 0);
  std::memcpy(mapping_ + begin, bytes.data(), bytes.size());
}

}  // namespace refute
