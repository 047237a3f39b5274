// Micro-benchmarks of the CPU kernels, one instruction set each, on one thread. Weights either stay
// in the second-level cache ("cached") or are far larger than every cache ("streamed").
//
//   build/tests/kernels_bench --benchmark_filter=tiles/q6_k
//
// bytes_per_second counts stored bytes of weights once a pass; items are products of one weight and
// one activation.
#include <benchmark/benchmark.h>
#include <sys/mman.h>

#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "kernels/attention.h"
#include "kernels/cpu/products.h"
#include "kernels/cpu/read_bandwidth.h"
#include "kernels/cpu/simd.h"
#include "kernels/cpu/tiles.h"
#include "kernels/matmul.h"
#include "kernels/rms_norm.h"
#include "kernels/swiglu.h"
#include "tests/kernels/cpu_support.h"

namespace refute {
namespace {

constexpr std::size_t kColumns = 2048;
constexpr std::size_t kCachedRows = 768;
constexpr std::size_t kStreamedBytes = std::size_t{768} << 20;
constexpr std::size_t kHugePage = std::size_t{2} << 20;

// Rows of random weights, repeated until there are enough, in huge pages.
class Weights {
 public:
  Weights(TensorType type, bool streamed, bool tiles)
      : block_(cpu_test::random_weights(type, kCachedRows, kColumns, cpu_test::Blocks::kPlain, 1)) {
    if (tiles) {
      std::vector<std::byte> packed(block_.bytes.size());
      cpu::pack_tiles(type, kCachedRows / cpu::kTileRows, kColumns, block_.bytes.data(),
                      packed.data());
      block_.bytes = std::move(packed);
    }
    const std::size_t size = block_.bytes.size();
    const std::size_t copies = streamed ? kStreamedBytes / size : 1;
    bytes_ = copies * size;
    memory_ = static_cast<std::byte*>(
        std::aligned_alloc(kHugePage, (bytes_ + kHugePage - 1) / kHugePage * kHugePage));
    madvise(memory_, bytes_, MADV_HUGEPAGE);
    for (std::size_t i = 0; i < copies; ++i) {
      std::memcpy(memory_ + i * size, block_.bytes.data(), size);
    }
    view_ = {type, copies * kCachedRows, kColumns, memory_};
  }
  ~Weights() { std::free(memory_); }
  Weights(const Weights&) = delete;
  Weights& operator=(const Weights&) = delete;

  const WeightView& view() const { return view_; }

 private:
  cpu_test::StoredWeights block_;
  std::byte* memory_ = nullptr;
  std::size_t bytes_ = 0;
  WeightView view_;
};

void count(benchmark::State& state, const WeightView& weight, std::size_t tokens) {
  const auto passes = static_cast<double>(state.iterations());
  state.SetBytesProcessed(static_cast<std::int64_t>(passes * static_cast<double>(weight.bytes())));
  state.SetItemsProcessed(static_cast<std::int64_t>(
      passes * static_cast<double>(weight.rows * weight.columns * tokens)));
}

void bench_product(benchmark::State& state, cpu::Isa isa, TensorType type, std::size_t tokens,
                   bool streamed, bool tiles) {
  const cpu::Context context = cpu::Context::create(1, isa).value();
  const Weights weights(type, streamed, tiles);
  const Matrix<float> x = cpu_test::random_matrix(tokens, kColumns, 2);
  Matrix<float> y(tokens, weights.view().rows);
  cpu::ProductInput input(x.view());
  const cpu::Product product{
      {weights.view(), tiles ? weights.view().data : nullptr}, 0, tokens, y.view()};
  for (auto _ : state) {
    cpu::multiply(context, input, {&product, 1});
    benchmark::DoNotOptimize(y.data());
  }
  count(state, weights.view(), tokens);
}

void bench_pack(benchmark::State& state, TensorType type) {
  const Weights weights(type, false, false);
  std::vector<std::byte> packed(weights.view().bytes());
  for (auto _ : state) {
    cpu::pack_tiles(type, kCachedRows / cpu::kTileRows, kColumns, weights.view().data,
                    packed.data());
    benchmark::DoNotOptimize(packed.data());
  }
  count(state, weights.view(), 1);
}

void bench_quantize(benchmark::State& state, cpu::Isa isa) {
  const cpu::Context context = cpu::Context::create(1, isa).value();
  const Matrix<float> x = cpu_test::random_matrix(1, kColumns, 2);
  QuantizedActivations activations;
  for (auto _ : state) {
    cpu::quantize_activations(context, x.view(), &activations);
    benchmark::DoNotOptimize(activations.q.data());
  }
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(kColumns));
}

void bench_rms_norm(benchmark::State& state, cpu::Isa isa) {
  const cpu::Context context = cpu::Context::create(1, isa).value();
  const Matrix<float> x = cpu_test::random_matrix(1, kColumns, 2);
  const std::vector<float> weight(kColumns, 1.0f);
  Matrix<float> y(1, kColumns);
  for (auto _ : state) {
    cpu::rms_norm(context, x.view(), weight, 1e-6f, y.view());
    benchmark::DoNotOptimize(y.data());
  }
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(kColumns));
}

void bench_swiglu(benchmark::State& state, cpu::Isa isa) {
  const cpu::Context context = cpu::Context::create(1, isa).value();
  const Matrix<float> gate = cpu_test::random_matrix(8, 768, 2);
  const Matrix<float> up = cpu_test::random_matrix(8, 768, 3);
  Matrix<float> y(8, 768);
  for (auto _ : state) {
    cpu::swiglu(context, gate.view(), up.view(), y.view());
    benchmark::DoNotOptimize(y.data());
  }
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(y.size()));
}

// One token of 32 heads at a depth.
void bench_attention(benchmark::State& state, cpu::Isa isa, std::size_t depth) {
  const cpu::Context context = cpu::Context::create(1, isa).value();
  const AttentionShape shape{32, 4, 128};
  const Matrix<float> q = cpu_test::random_matrix(1, shape.query_size(), 2);
  Matrix<std::uint16_t> keys(depth + 1, shape.key_value_size());
  const Matrix<float> values = cpu_test::random_matrix(keys.rows(), keys.columns(), 3);
  for (std::size_t i = 0; i < keys.size(); ++i) {
    keys.data()[i] = half_from_float(values.data()[i]);
  }
  Matrix<float> y(1, shape.query_size());
  for (auto _ : state) {
    cpu::attention(context, shape, q.view(), std::as_const(keys).view(), std::as_const(keys).view(),
                   depth, y.view());
    benchmark::DoNotOptimize(y.data());
  }
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(2 * 2 * keys.size()));
}

void bench_read(benchmark::State& state, cpu::Isa isa) {
  const cpu::Context context = cpu::Context::create(1, isa).value();
  double best = 0.0;
  for (auto _ : state) {
    best = std::max(best, cpu::measure_read_bandwidth(context).value_or(ReadBandwidth{}).best);
  }
  state.counters["bytes_per_second"] = best;
}

void add(const std::string& name, const auto& body) {
  benchmark::RegisterBenchmark(name.c_str(), body)->MinTime(0.3);
}

void add_products(cpu::Isa isa, const std::string& suffix) {
  using Case = std::pair<const char*, TensorType>;
  for (const auto& [name, type] :
       {Case{"q8_0", TensorType::kQ8_0}, Case{"q4_k", TensorType::kQ4_K},
        Case{"q5_k", TensorType::kQ5_K}, Case{"q6_k", TensorType::kQ6_K}}) {
    const bool has_tiles = cpu::uses_tiles(cpu::Context::create(1, isa).value());
    for (const bool tiles : {false, true}) {
      if (tiles && !has_tiles) continue;
      for (const std::size_t tokens : {1, 4, 8, 128}) {
        for (const bool streamed : {false, true}) {
          if (streamed && tokens > 1) continue;
          add(std::string(tiles ? "tiles/" : "rows/") + name + "/" + std::to_string(tokens) +
                  (streamed ? "/streamed" : "/cached") + suffix,
              [=, type = type](benchmark::State& state) {
                bench_product(state, isa, type, tokens, streamed, tiles);
              });
        }
      }
    }
    if (isa == cpu::Isa::kPortable) {
      add(std::string("pack/") + name,
          [type = type](benchmark::State& state) { bench_pack(state, type); });
    }
  }
  add("rows/f32/1/streamed" + suffix, [=](benchmark::State& state) {
    bench_product(state, isa, TensorType::kF32, 1, true, false);
  });
}

void add_all() {
  for (const cpu::Isa isa : cpu::supported_isas()) {
    const std::string suffix = "/" + std::string(cpu::isa_name(isa));
    add_products(isa, suffix);
    add("quantize_activations" + suffix, [=](auto& state) { bench_quantize(state, isa); });
    add("rms_norm" + suffix, [=](auto& state) { bench_rms_norm(state, isa); });
    add("swiglu" + suffix, [=](auto& state) { bench_swiglu(state, isa); });
    for (const std::size_t depth : {127, 4095}) {
      add("attention/" + std::to_string(depth + 1) + suffix,
          [=](auto& state) { bench_attention(state, isa, depth); });
    }
    add("read_bandwidth" + suffix, [=](auto& state) { bench_read(state, isa); });
  }
}

}  // namespace
}  // namespace refute

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  refute::add_all();
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
