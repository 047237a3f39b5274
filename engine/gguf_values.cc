#include "engine/gguf_values.h"

#include <algorithm>
#include <array>
#include <concepts>
#include <cstring>
#include <limits>
#include <optional>
#include <type_traits>
#include <variant>
#include <vector>

#include "engine/gguf_format.h"

namespace refute {
namespace {

// Elements of an array, or of one that stands alone.
using Count = std::optional<std::uint64_t>;

template <typename Kept>
GgufValue as_value(std::vector<Kept> elements, Count count) {
  if (count) return GgufValue(std::move(elements));
  return GgufValue(Kept(elements.front()));
}

template <typename Stored, typename Kept>
Result<GgufValue> read_numbers(GgufCursor& cursor, Count count) {
  const auto bytes = cursor.take(count.value_or(1), sizeof(Stored));
  if (!bytes) return bytes.error();
  std::vector<Kept> elements(bytes->size() / sizeof(Stored));
  for (std::size_t i = 0; i < elements.size(); ++i) {
    Stored stored;
    std::memcpy(&stored, bytes->data() + i * sizeof(Stored), sizeof(Stored));
    elements[i] = static_cast<Kept>(stored);
  }
  return as_value(std::move(elements), count);
}

Result<GgufValue> read_bools(GgufCursor& cursor, Count count) {
  const auto bytes = cursor.take(count.value_or(1), 1);
  if (!bytes) return bytes.error();
  std::vector<bool> elements;
  for (const std::byte byte : *bytes) {
    if (byte > std::byte{1}) {
      return cursor.error(ErrorKind::kMalformed, "a bool of 0 or 1",
                          std::to_string(std::to_integer<int>(byte)));
    }
    elements.push_back(byte == std::byte{1});
  }
  return as_value(std::move(elements), count);
}

Result<GgufValue> read_strings(GgufCursor& cursor, Count count) {
  // A string takes 8 bytes at least, so that a count past the file's end reserves nothing.
  constexpr std::size_t kMinStringBytes = 8;
  std::vector<std::string> elements;
  elements.reserve(
      std::min<std::uint64_t>(count.value_or(1), cursor.remaining() / kMinStringBytes));
  for (std::uint64_t i = 0; i < count.value_or(1); ++i) {
    Result<std::string> element = cursor.string();
    if (!element) return element.error();
    elements.push_back(std::move(*element));
  }
  return as_value(std::move(elements), count);
}

Result<GgufValue> read_elements(GgufCursor& cursor, std::uint32_t type, Count count) {
  switch (static_cast<GgufValueType>(type)) {
    case GgufValueType::kU8:
      return read_numbers<std::uint8_t, std::uint64_t>(cursor, count);
    case GgufValueType::kI8:
      return read_numbers<std::int8_t, std::int64_t>(cursor, count);
    case GgufValueType::kU16:
      return read_numbers<std::uint16_t, std::uint64_t>(cursor, count);
    case GgufValueType::kI16:
      return read_numbers<std::int16_t, std::int64_t>(cursor, count);
    case GgufValueType::kU32:
      return read_numbers<std::uint32_t, std::uint64_t>(cursor, count);
    case GgufValueType::kI32:
      return read_numbers<std::int32_t, std::int64_t>(cursor, count);
    case GgufValueType::kF32:
      return read_numbers<float, double>(cursor, count);
    case GgufValueType::kBool:
      return read_bools(cursor, count);
    case GgufValueType::kString:
      return read_strings(cursor, count);
    case GgufValueType::kU64:
      return read_numbers<std::uint64_t, std::uint64_t>(cursor, count);
    case GgufValueType::kI64:
      return read_numbers<std::int64_t, std::int64_t>(cursor, count);
    case GgufValueType::kF64:
      return read_numbers<double, double>(cursor, count);
    case GgufValueType::kArray:
      break;
  }
  return cursor.error(ErrorKind::kMalformed, "a value type of 0 to 12", std::to_string(type));
}

template <typename T>
void append_type(GgufValueType type, T value, std::string& bytes) {
  append_gguf_number(type, bytes);
  append_gguf_number(value, bytes);
}

template <typename Stored, typename T>
void append_array(GgufValueType type, const std::vector<T>& elements, std::string& bytes) {
  append_type(GgufValueType::kArray, type, bytes);
  append_gguf_number(std::uint64_t{elements.size()}, bytes);
  for (const T element : elements) append_gguf_number(static_cast<Stored>(element), bytes);
}

template <typename T>
bool all_fit_i32(const std::vector<T>& elements) {
  return std::ranges::all_of(elements,
                             [](T element) { return std::in_range<std::int32_t>(element); });
}

struct ValueAppender {
  std::string& bytes;

  void operator()(std::uint64_t value) const {
    if (std::in_range<std::uint32_t>(value)) {
      append_type(GgufValueType::kU32, static_cast<std::uint32_t>(value), bytes);
    } else {
      append_type(GgufValueType::kU64, value, bytes);
    }
  }
  void operator()(std::int64_t value) const {
    if (std::in_range<std::int32_t>(value)) {
      append_type(GgufValueType::kI32, static_cast<std::int32_t>(value), bytes);
    } else {
      append_type(GgufValueType::kI64, value, bytes);
    }
  }
  void operator()(double value) const {
    append_type(GgufValueType::kF32, static_cast<float>(value), bytes);
  }
  void operator()(bool value) const {
    append_type(GgufValueType::kBool, static_cast<std::uint8_t>(value), bytes);
  }
  void operator()(const std::string& value) const {
    append_gguf_number(GgufValueType::kString, bytes);
    append_gguf_string(value, bytes);
  }
  void operator()(const std::vector<std::uint64_t>& elements) const {
    if (all_fit_i32(elements)) {
      append_array<std::int32_t>(GgufValueType::kI32, elements, bytes);
    } else {
      append_array<std::uint64_t>(GgufValueType::kU64, elements, bytes);
    }
  }
  void operator()(const std::vector<std::int64_t>& elements) const {
    if (all_fit_i32(elements)) {
      append_array<std::int32_t>(GgufValueType::kI32, elements, bytes);
    } else {
      append_array<std::int64_t>(GgufValueType::kI64, elements, bytes);
    }
  }
  void operator()(const std::vector<double>& elements) const {
    append_array<float>(GgufValueType::kF32, elements, bytes);
  }
  void operator()(const std::vector<bool>& elements) const {
    append_array<std::uint8_t>(GgufValueType::kBool, elements, bytes);
  }
  void operator()(const std::vector<std::string>& elements) const {
    append_type(GgufValueType::kArray, GgufValueType::kString, bytes);
    append_gguf_number(std::uint64_t{elements.size()}, bytes);
    for (const std::string& element : elements) append_gguf_string(element, bytes);
  }
};

}  // namespace

Result<GgufValue> read_gguf_value(GgufCursor& cursor) {
  const auto type = cursor.number<std::uint32_t>();
  if (!type) return type.error();
  if (static_cast<GgufValueType>(*type) != GgufValueType::kArray) {
    return read_elements(cursor, *type, std::nullopt);
  }
  const auto element_type = cursor.number<std::uint32_t>();
  if (!element_type) return element_type.error();
  if (static_cast<GgufValueType>(*element_type) == GgufValueType::kArray) {
    return cursor.error(ErrorKind::kUnsupported, "an array of scalars", "an array of arrays");
  }
  const auto count = cursor.number<std::uint64_t>();
  if (!count) return count.error();
  return read_elements(cursor, *element_type, *count);
}

void append_gguf_value(const GgufValue& value, std::string& bytes) {
  std::visit(ValueAppender{bytes}, value);
}

void append_gguf_string(std::string_view text, std::string& bytes) {
  append_gguf_number(std::uint64_t{text.size()}, bytes);
  bytes += text;
}

std::string gguf_value_kind(const GgufValue& value) {
  // In the order of GgufValue's alternatives.
  constexpr std::array<std::string_view, 5> kScalars = {"an unsigned integer", "a signed integer",
                                                        "a float", "a bool", "a string"};
  constexpr std::array<std::string_view, 5> kElements = {"unsigned integers", "signed integers",
                                                         "floats", "bools", "strings"};
  static_assert(std::variant_size_v<GgufValue> == kScalars.size() + kElements.size());
  if (value.index() < kScalars.size()) return std::string(kScalars[value.index()]);
  return "an array of " + std::string(kElements[value.index() - kScalars.size()]);
}

}  // namespace refute
