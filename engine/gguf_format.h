// The numbers of the GGUF format (versions 2 and 3, little-endian), shared by reader and writer.
// Source: the public specification, docs/gguf.md of ggml.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "kernels/quant/tensor_type.h"

namespace refute {

static_assert(std::endian::native == std::endian::little, "GGUF is read and written as it lies");

inline constexpr std::array<char, 4> kGgufMagic = {'G', 'G', 'U', 'F'};
inline constexpr std::uint32_t kGgufVersion = 3;  // Written; 2 is laid out the same.
inline constexpr std::size_t kGgufDefaultAlignment = 32;
inline constexpr std::size_t kGgufMaxDimensions = 4;
inline constexpr std::string_view kGgufAlignmentKey = "general.alignment";

enum class GgufValueType : std::uint32_t {
  kU8 = 0,
  kI8 = 1,
  kU16 = 2,
  kI16 = 3,
  kU32 = 4,
  kI32 = 5,
  kF32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kU64 = 10,
  kI64 = 11,
  kF64 = 12,
};

// Element types as the format numbers them.
std::uint32_t ggml_type_id(TensorType type);
// Empty for ids whose type is not implemented.
std::optional<TensorType> tensor_type_of_id(std::uint32_t id);
// For messages: "type id 2 (Q4_0)", "type id 99".
std::string ggml_type_text(std::uint32_t id);
// For messages: "F32, F16, ..., Q6_K", the types that weights may have.
std::string weight_types_text();

// `size` rounded up to a multiple of `alignment`; empty when that passes 2^64.
std::optional<std::size_t> align_up(std::size_t size, std::size_t alignment);

// For messages: a name from a file in quotes, on one line, printable and at most 80 characters
// long.
std::string quoted_name(std::string_view name);

}  // namespace refute
