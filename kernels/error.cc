#include "kernels/error.h"

namespace refute {

std::string_view error_kind_name(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::kInvalidShape:
      return "InvalidShape";
    case ErrorKind::kInvalidToken:
      return "InvalidToken";
    case ErrorKind::kContextFull:
      return "ContextFull";
    case ErrorKind::kNonFinite:
      return "NonFinite";
    case ErrorKind::kUnreadable:
      return "Unreadable";
    case ErrorKind::kMalformed:
      return "Malformed";
    case ErrorKind::kMissingKey:
      return "MissingKey";
    case ErrorKind::kUnsupported:
      return "Unsupported";
    case ErrorKind::kNoDevice:
      return "NoDevice";
    case ErrorKind::kOutOfMemory:
      return "OutOfMemory";
    case ErrorKind::kVacuous:
      return "Vacuous";
  }
  return "Unknown";
}

std::string Error::message() const {
  std::string text(error_kind_name(kind));
  text += ": " + where + ": expected " + expected + ", found " + found;
  return text;
}

}  // namespace refute
