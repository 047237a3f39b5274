// Runs one CPU kernel once, for callgrind to count its instructions: `measured` is what counts.
//
//   kernel_instructions KERNEL ISA
#include <cstdio>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/cpu/products.h"
#include "kernels/cpu/tiles.h"
#include "kernels/matmul.h"
#include "kernels/rms_norm.h"
#include "kernels/swiglu.h"
#include "tests/kernels/cpu_support.h"

namespace {

using namespace std::string_view_literals;
using namespace refute;

constexpr std::size_t kRows = 64;
constexpr std::size_t kColumns = 1024;

const std::function<void()>* body = nullptr;

}  // namespace

extern "C" [[gnu::noinline]] void measured();
extern "C" void measured() { (*body)(); }

namespace {

void count(const std::function<void()>& function) {
  function();  // Memory that is allocated once.
  body = &function;
  measured();
}

void count_product(TensorType type, std::size_t tokens, const cpu::Context& context) {
  const auto weights = cpu_test::random_weights(type, kRows, kColumns, cpu_test::Blocks::kPlain, 1);
  const Matrix<float> x = cpu_test::random_matrix(tokens, kColumns, 2);
  Matrix<float> y(tokens, kRows);
  cpu::ProductInput input(x.view());
  const cpu::Product product{{weights.view}, 0, tokens, y.view()};
  count([&] { cpu::multiply(context, input, {&product, 1}); });
}

int run(std::string_view kernel, const cpu::Context& context) {
  struct Typed {
    std::string_view name;
    TensorType type;
  };
  for (const auto& [name, type] :
       {Typed{"q8_0", TensorType::kQ8_0}, Typed{"q4_k", TensorType::kQ4_K},
        Typed{"q5_k", TensorType::kQ5_K}, Typed{"q6_k", TensorType::kQ6_K},
        Typed{"f32", TensorType::kF32}, Typed{"f16", TensorType::kF16}}) {
    for (const std::size_t tokens : {1, 4}) {
      if (kernel != std::string("rows/").append(name) + "/" + std::to_string(tokens)) continue;
      count_product(type, tokens, context);
      return 0;
    }
    if (kernel == std::string("pack/").append(name) && cpu::has_tiles(type, kColumns)) {
      const auto weights =
          cpu_test::random_weights(type, kRows, kColumns, cpu_test::Blocks::kPlain, 1);
      std::vector<std::byte> tiles(kRows / cpu::kTileRows * cpu::group_bytes(type, kColumns));
      count([&] {
        cpu::pack_tiles(type, kRows / cpu::kTileRows, kColumns, weights.bytes.data(), tiles.data());
      });
      return 0;
    }
  }
  const Matrix<float> x = cpu_test::random_matrix(8, kColumns, 2);
  Matrix<float> y(8, kColumns);
  const std::vector<float> weight(kColumns, 1.0f);
  QuantizedActivations activations;
  if (kernel == "quantize_activations"sv) {
    count([&] { cpu::quantize_activations(context, x.view(), &activations); });
  } else if (kernel == "rms_norm"sv) {
    count([&] { cpu::rms_norm(context, x.view(), weight, 1e-6f, y.view()); });
  } else if (kernel == "swiglu"sv) {
    count([&] { cpu::swiglu(context, x.view(), x.view(), y.view()); });
  } else {
    return 2;
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const auto isa = argc == 3 ? refute::cpu::parse_isa(argv[2]) : std::nullopt;
  if (!isa) {
    std::fputs("usage: kernel_instructions KERNEL ISA\n", stderr);
    return 2;
  }
  const auto context = refute::cpu::Context::create(1, *isa);
  if (!context) {
    std::fprintf(stderr, "%s\n", context.error().message().c_str());
    return 3;
  }
  return run(argv[1], *context);
}
