#include "validators/embedded_files.h"

#include <string_view>

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

}  // namespace refute
