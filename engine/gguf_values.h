// The metadata values of a GGUF file, between the bytes and GgufValue. For reader and writer only.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "engine/gguf.h"
#include "engine/gguf_cursor.h"
#include "kernels/result.h"

namespace refute {

// Reads a value type and the value. kUnsupported for nested arrays, kMalformed for unknown types.
Result<GgufValue> read_gguf_value(GgufCursor& cursor);

// Appends value type and value, in the widths that GgufWriter::add_value states.
void append_gguf_value(const GgufValue& value, std::string& bytes);
// Appends the string's 64-bit length and its bytes.
void append_gguf_string(std::string_view text, std::string& bytes);
template <typename T>
void append_gguf_number(T value, std::string& bytes) {
  bytes.append(reinterpret_cast<const char*>(&value), sizeof(T));
}

// For messages: "a string", "an array of floats".
std::string gguf_value_kind(const GgufValue& value);

}  // namespace refute
