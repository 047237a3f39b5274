// What the binary carries: the default subject, a trained model and its float64 expectations, so
// that `refute run` needs no file beside it, and the committed kill matrix.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

namespace refute {

inline constexpr const char* kEmbeddedSubjectName = "kjv-moe-7m";

std::span<const std::byte> embedded_model();         // kjv-moe-7m.gguf
std::span<const std::byte> embedded_expectations();  // kjv-moe-7m.expected.gguf
// contracts/kill-matrix.json (kill_matrix.h).
std::string_view embedded_kill_matrix();
// The sha256 of the first two, computed once.
const std::string& embedded_model_sha256();
const std::string& embedded_expectations_sha256();

}  // namespace refute
