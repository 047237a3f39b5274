// The one error table. Every backend reports the same bad input as the same kind, because the
// checks of the public functions are shared (engine/arguments.h), not written per backend.
#pragma once

#include <string>
#include <string_view>

namespace refute {

enum class ErrorKind {
  kInvalidShape,  // A length, dimension or index does not fit the operation.
  kInvalidToken,  // A token id outside [0, vocab_size).
  kContextFull,   // A position at or past the capacity of the KV cache or context_length.
  kNonFinite,     // NaN or Inf in weights' scales, hidden states, router or logits.
  kUnreadable,    // A file that is missing, unreadable or shorter than it says.
  kMalformed,     // Bytes that do not follow the format.
  kMissingKey,    // A metadata key that the architecture needs.
  kUnsupported,   // A type, architecture or option that is not implemented.
  kNoDevice,      // No usable device or driver for a backend.
  kOutOfMemory,   // Memory that could not be had.
  kVacuous,       // A comparison that could not have failed.
};

// The name printed to people and stored in records, such as "InvalidShape".
std::string_view error_kind_name(ErrorKind kind);

struct Error {
  ErrorKind kind;
  std::string where;     // Function, argument, file or tensor.
  std::string expected;  // What would have been right.
  std::string found;     // What was there.

  // One line: "InvalidShape: matvec x: expected 256 elements, found 255".
  std::string message() const;
};

}  // namespace refute
