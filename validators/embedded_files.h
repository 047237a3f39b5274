// The default subject, which the binary carries: a trained model and its float64 expectations. So
// `refute run` needs no file beside it.
#pragma once

#include <cstddef>
#include <span>
#include <string>

namespace refute {

inline constexpr const char* kEmbeddedSubjectName = "kjv-moe-7m";

std::span<const std::byte> embedded_model();         // kjv-moe-7m.gguf
std::span<const std::byte> embedded_expectations();  // kjv-moe-7m.expected.gguf
// Their sha256, computed once.
const std::string& embedded_model_sha256();
const std::string& embedded_expectations_sha256();

}  // namespace refute
