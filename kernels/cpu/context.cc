#include "kernels/cpu/context.h"

#include <algorithm>
#include <array>
#include <string>
#include <thread>
#include <utility>

#include "kernels/cpu/simd.h"

namespace refute::cpu {
namespace {

constexpr std::array kIsas = {Isa::kPortable, Isa::kAvx2, Isa::kAvx512Vnni};

#ifdef REFUTE_CPU_X86
bool is_supported(Isa isa) {
  // These also ask whether the operating system saves the registers.
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                    __builtin_cpu_supports("f16c");
  switch (isa) {
    case Isa::kPortable:
      return true;
    case Isa::kAvx2:
      return avx2;
    case Isa::kAvx512Vnni:
      return avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
             __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
             __builtin_cpu_supports("avx512vnni");
  }
  return false;
}

const SimdKernels& kernels_for(Isa isa) {
  switch (isa) {
    case Isa::kPortable:
      return kPortableKernels;
    case Isa::kAvx2:
      return kAvx2Kernels;
    case Isa::kAvx512Vnni:
      return kAvx512Kernels;
  }
  CHECK(false);
  return kPortableKernels;
}
#else
bool is_supported(Isa isa) { return isa == Isa::kPortable; }
const SimdKernels& kernels_for(Isa) { return kPortableKernels; }
#endif

}  // namespace

std::string_view isa_name(Isa isa) {
  switch (isa) {
    case Isa::kPortable:
      return "portable";
    case Isa::kAvx2:
      return "avx2";
    case Isa::kAvx512Vnni:
      return "avx512-vnni";
  }
  return "unknown";
}

std::optional<Isa> parse_isa(std::string_view name) {
  for (const Isa isa : kIsas) {
    if (isa_name(isa) == name) return isa;
  }
  return std::nullopt;
}

// Each instruction set includes the ones before it, so the supported ones are a prefix.
std::span<const Isa> supported_isas() {
  std::size_t count = 1;
  while (count < kIsas.size() && is_supported(kIsas[count])) ++count;
  return std::span(kIsas).first(count);
}

Isa best_isa() { return supported_isas().back(); }

Context::Context(Isa isa, const SimdKernels* simd, std::unique_ptr<ThreadPool> threads)
    : isa_(isa), simd_(simd), threads_(std::move(threads)) {}

Result<Context> Context::create(std::size_t num_threads, std::optional<Isa> isa) {
  const Isa chosen = isa.value_or(best_isa());
  if (!is_supported(chosen)) {
    std::string names;
    for (const Isa supported : supported_isas()) {
      if (!names.empty()) names += ", ";
      names += isa_name(supported);
    }
    return Error{ErrorKind::kUnsupported, "cpu instruction set", "one of " + names,
                 std::string(isa_name(chosen))};
  }
  if (num_threads == 0) num_threads = std::max(1u, std::thread::hardware_concurrency());
  return Context(chosen, &kernels_for(chosen), std::make_unique<ThreadPool>(num_threads));
}

}  // namespace refute::cpu
