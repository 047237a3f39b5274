// The ops of prefill on random operands: first their bits against the plain ops, then their times
// at the real shape, block shapes of the products side by side. Needs no model.
//
//   prefill_bench            checks, then times
//   prefill_bench check      checks alone
//   prefill_bench rows       checks of what is no expert's product
//   prefill_bench attention  attention alone: the exact one's bits, both ones' times
//   prefill_bench one NAME   a few runs of one variant of the products: for a profiler
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "kernels/attention.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/ops.h"
#include "kernels/cuda/prefill_ops.h"
#include "kernels/cuda/tiles.h"
#include "kernels/matmul.h"
#include "kernels/median.h"
#include "kernels/quant/half.h"
#include "kernels/rope.h"
#include "tests/cuda/prefill_variants.h"

namespace refute::cuda {
namespace {

constexpr std::size_t kHidden = 2048;
constexpr std::size_t kInner = 768;
constexpr std::size_t kExperts = 128;
constexpr std::size_t kChosen = 8;
constexpr std::size_t kTimedTokens = 512;  // Fewer are there to be checked as well.

template <typename T>
DeviceBuffer<T> allocate(std::size_t size) {
  auto buffer = DeviceBuffer<T>::allocate(size, "bench");
  if (!buffer) {
    std::fprintf(stderr, "%s\n", buffer.error().message().c_str());
    std::exit(1);
  }
  return *std::move(buffer);
}

struct Bench {
  const Context& context;
  std::mt19937_64 random{1};
  int failures = 0;
};

template <typename T>
DeviceBuffer<T> upload(Bench& bench, const std::vector<T>& from) {
  auto buffer = allocate<T>(from.size());
  bench.context.to_device(from.data(), from.size(), buffer.data());
  return buffer;
}

std::vector<float> normal_vector(Bench& bench, std::size_t size, float deviation = 1.0f) {
  // Sums of uniform numbers: fast, and about as wide.
  std::vector<float> values(size);
  for (float& value : values) {
    const std::uint64_t bits = bench.random();
    const float sum =
        static_cast<float>(bits & 0xffff) + static_cast<float>((bits >> 16) & 0xffff) +
        static_cast<float>((bits >> 32) & 0xffff) + static_cast<float>((bits >> 48) & 0xffff);
    value = (sum / 65536.0f - 2.0f) * 1.7f * deviation;
  }
  return values;
}

// Random weights in stored layout.
std::vector<std::byte> random_rows(Bench& bench, TensorType type, std::size_t rows,
                                   std::size_t columns) {
  const TensorTypeInfo& info = tensor_type_info(type);
  const std::size_t block = info.block_bytes;
  const std::size_t blocks = rows * columns / info.block_size;
  std::vector<std::byte> bytes((blocks * block + 7) / 8 * 8);
  for (std::size_t i = 0; i < bytes.size(); i += 8) {
    const std::uint64_t word = bench.random();
    std::memcpy(bytes.data() + i, &word, 8);
  }
  bytes.resize(blocks * block);
  for (std::size_t b = 0; b < blocks; ++b) {
    const auto put = [&](std::size_t at) {
      const auto value =
          half_from_float((static_cast<float>(bench.random() % 2000) - 999.5f) * 1e-5f);
      std::memcpy(bytes.data() + b * block + at, &value, 2);
    };
    if (type == TensorType::kQ6_K) {
      put(208);
    } else {
      put(0);
      put(2);
    }
  }
  return bytes;
}

struct Weights {
  DeviceBuffer<std::uint8_t> memory;
  DeviceMatrix matrix;
  std::vector<std::byte> rows;  // Stored; of the first expert.
};

// The same rows for every expert would stay in the cache: experts differ in where their rows start.
Weights make_weights(Bench& bench, TensorType type, std::size_t rows, std::size_t columns,
                     std::size_t experts) {
  Weights weights;
  weights.rows = random_rows(bench, type, rows, columns);
  const std::size_t stride = weights.rows.size();
  weights.memory = allocate<std::uint8_t>(stride * experts);
  std::vector<std::byte> tiles(stride);
  repack_rows(type, rows, columns, weights.rows.data(), tiles.data());
  const std::size_t group = stride / std::max<std::size_t>(rows / 8, 1);
  for (std::size_t e = 0; e < experts; ++e) {
    if (e > 0 && rows >= 16) {
      std::rotate(tiles.begin(), tiles.begin() + static_cast<std::ptrdiff_t>(group), tiles.end());
    }
    bench.context.to_device(reinterpret_cast<const std::uint8_t*>(tiles.data()), stride,
                            weights.memory.data() + e * stride);
  }
  weights.matrix.type = type;
  weights.matrix.data = weights.memory.data();
  weights.matrix.rows = rows;
  weights.matrix.columns = columns;
  weights.matrix.tiled_rows = rows / 8 * 8;
  weights.matrix.row_bytes = stride / rows;
  weights.matrix.expert_stride = stride;
  return weights;
}

struct Activations {
  DeviceBuffer<float> x;
  DeviceBuffer<std::int8_t> q, tensor_q;
  DeviceBuffer<ActivationMeta> meta;
  DeviceBuffer<BlockScale> scales;
  std::size_t rows, columns;
  DeviceActivations plain;
  TensorActivations tensor;

  Activations(std::size_t num_rows, std::size_t num_columns)
      : rows(num_rows), columns(num_columns) {
    plain.stride = tensor.stride = DeviceActivations::stride_for(columns);
    q = allocate<std::int8_t>(rows * plain.stride);
    tensor_q = allocate<std::int8_t>(rows * plain.stride);
    meta = allocate<ActivationMeta>(rows * plain.stride / 32);
    scales = allocate<BlockScale>(rows * plain.stride / 32);
    plain.q = q.data();
    plain.meta = meta.data();
    tensor.q = tensor_q.data();
    tensor.scales = scales.data();
  }
  void fill(Bench& bench, const std::vector<float>& values) {
    x = upload(bench, values);
    quantize_activations(bench.context, x.data(), rows, columns, plain);
    tensor_quantize(bench.context, x.data(), rows, columns, tensor);
  }
};

struct Slots {
  DeviceBuffer<std::int32_t> ids, slots, tensor_slots, numbers, counts;
  DeviceBuffer<SlotTile> tiles, tensor_tiles;
  DeviceSlots plain;
  TensorSlots tensor;
  std::size_t num_slots, num_experts;

  // Every token `chosen` different experts, some likelier than others.
  Slots(Bench& bench, std::size_t num_tokens, std::size_t chosen, std::size_t experts)
      : num_slots(num_tokens * chosen), num_experts(experts) {
    std::vector<std::int32_t> choice(num_slots);
    for (std::size_t t = 0; t < num_tokens; ++t) {
      for (std::size_t r = 0; r < chosen; ++r) {
        const auto begin = choice.begin() + static_cast<std::ptrdiff_t>(t * chosen);
        std::int32_t id = 0;
        do {
          id = static_cast<std::int32_t>(bench.random() % experts);
        } while (std::find(begin, begin + static_cast<std::ptrdiff_t>(r), id) !=
                 begin + static_cast<std::ptrdiff_t>(r));
        choice[t * chosen + r] = id;
      }
    }
    ids = upload(bench, choice);
    slots = allocate<std::int32_t>(num_slots);
    tensor_slots = allocate<std::int32_t>(num_slots);
    numbers = allocate<std::int32_t>(2);
    counts = allocate<std::int32_t>(experts);
    tiles = allocate<SlotTile>(DeviceSlots::max_tiles(num_slots, experts));
    tensor_tiles = allocate<SlotTile>(TensorSlots::max_tiles(num_slots, experts));
    plain = {slots.data(), tiles.data(), numbers.data(), counts.data()};
    tensor = {tensor_slots.data(), tensor_tiles.data(), numbers.data() + 1};
    group_slots(bench.context, ids.data(), num_slots, experts, plain);
    group_tensor_slots(bench.context, ids.data(), num_slots, experts, tensor);
  }
};

template <typename T>
void expect_same(Bench& bench, const char* what, const T* found, const T* expected,
                 std::size_t size, bool quiet = false) {
  std::vector<T> a(size);
  std::vector<T> b(size);
  bench.context.to_host(found, size, a.data());
  bench.context.to_host(expected, size, b.data());
  std::size_t differing = 0;
  std::size_t first = 0;
  for (std::size_t i = 0; i < size; ++i) {
    if (std::memcmp(&a[i], &b[i], sizeof(T)) == 0) continue;
    if (differing++ == 0) first = i;
  }
  if (differing > 0) {
    ++bench.failures;
    std::printf("CHECK %-44s %zu of %zu differ, first %zu", what, differing, size, first);
    if constexpr (std::is_same_v<T, float>) std::printf(": %a, not %a", a[first], b[first]);
    std::printf("\n");
  } else if (!quiet) {
    std::printf("check %-44s %zu equal\n", what, size);
  }
}

void poison(Bench& bench, void* at, std::size_t bytes) {
  CUDA_CHECK(cudaMemsetAsync(at, 0xff, bytes, bench.context.stream()));
}

void check_products(Bench& bench) {
  const cpu::Context cpu = cpu::Context::create(4).value();
  struct Shape {
    std::size_t tokens, rows, columns;
  };
  for (const TensorType type : {TensorType::kQ4_K, TensorType::kQ6_K}) {
    for (const Shape& s :
         {Shape{1, 8, 256}, Shape{7, 16, 256}, Shape{8, 24, 512}, Shape{9, 64, 768},
          Shape{33, 72, 2048}, Shape{64, 128, 256}, Shape{65, 200, 512}, Shape{200, 136, 768}}) {
      const Weights w = make_weights(bench, type, s.rows, s.columns, 1);
      Activations x(s.tokens, s.columns);
      const std::vector<float> values = normal_vector(bench, s.tokens * s.columns);
      x.fill(bench, values);
      auto plain = allocate<float>(s.tokens * s.rows);
      auto tensor = allocate<float>(s.tokens * s.rows);
      poison(bench, tensor.data(), tensor.bytes());
      matmul_quantized(bench.context, w.matrix, x.plain, s.tokens, plain.data());
      tensor_matmul(bench.context, w.matrix, x.tensor, s.tokens, tensor.data());
      char name[100];
      std::snprintf(name, sizeof(name), "%s %zu x %zu x %zu", tensor_type_info(type).name.data(),
                    s.tokens, s.rows, s.columns);
      expect_same(bench, name, tensor.data(), plain.data(), plain.size());
      Matrix<float> on_cpu(s.tokens, s.rows);
      const Matrix<float> x_cpu(s.tokens, s.columns, std::vector<float>(values));
      cpu::matmul(cpu, {type, s.rows, s.columns, w.rows.data()}, x_cpu.view(), on_cpu.view());
      const auto expected =
          upload(bench, std::vector<float>(on_cpu.flat().begin(), on_cpu.flat().end()));
      expect_same(bench, "  the same on the CPU", tensor.data(), expected.data(), plain.size(),
                  true);
    }
  }
}

template <typename Body>
double median_us(Bench& bench, const Body& body, int series = 7) {
  cudaEvent_t begin, end;
  CUDA_CHECK(cudaEventCreate(&begin));
  CUDA_CHECK(cudaEventCreate(&end));
  std::vector<double> times;
  for (int i = 0; i < series + 1; ++i) {
    CUDA_CHECK(cudaEventRecord(begin, bench.context.stream()));
    body();
    CUDA_CHECK(cudaEventRecord(end, bench.context.stream()));
    CUDA_CHECK(cudaEventSynchronize(end));
    float ms = 0.0f;
    CUDA_CHECK(cudaEventElapsedTime(&ms, begin, end));
    if (i > 0) times.push_back(1e3 * static_cast<double>(ms));
  }
  CUDA_CHECK(cudaEventDestroy(begin));
  CUDA_CHECK(cudaEventDestroy(end));
  return median(std::move(times));
}

void report(const char* what, const char* variant, std::size_t tokens, double us,
            double macs = 0.0) {
  std::printf("%5zu  %-26s %-18s %9.1f us", tokens, what, variant, us);
  if (macs > 0.0) std::printf("  %7.1f TMAC/s", macs / us * 1e-6);
  std::printf("\n");
}

struct Layer {
  Weights qkv, o_proj, gate, up, down4, down6;

  explicit Layer(Bench& bench)
      : qkv(make_weights(bench, TensorType::kQ4_K, 5120, kHidden, 1)),
        o_proj(make_weights(bench, TensorType::kQ4_K, kHidden, 4096, 1)),
        gate(make_weights(bench, TensorType::kQ4_K, kInner, kHidden, kExperts)),
        up(make_weights(bench, TensorType::kQ4_K, kInner, kHidden, kExperts)),
        down4(make_weights(bench, TensorType::kQ4_K, kHidden, kInner, kExperts)),
        down6(make_weights(bench, TensorType::kQ6_K, kHidden, kInner, kExperts)) {}
};

void products(Bench& bench, const Layer& layer, std::size_t num_tokens, const std::string& only,
              bool check) {
  const Slots slots(bench, num_tokens, kChosen, kExperts);
  const std::size_t num_slots = slots.num_slots;
  Activations x(num_tokens, kHidden);
  std::vector<float> x_values = normal_vector(bench, num_tokens * kHidden);
  if (check && num_tokens < kTimedTokens) {
    // Gates, their products and scales beyond what divisions overlap for.
    constexpr int kExponents[] = {0, -70, 0, -31, 0, -40, 36, 58};
    for (std::size_t i = 0; i < x_values.size(); ++i) {
      x_values[i] = std::ldexp(x_values[i], kExponents[i / kHidden % std::size(kExponents)]);
    }
  }
  x.fill(bench, x_values);
  Activations heads(num_tokens, 4096);
  heads.fill(bench, normal_vector(bench, num_tokens * 4096));
  Activations inner(num_slots, kInner);
  auto y = allocate<float>(num_slots * kHidden);
  auto expected = allocate<float>(num_slots * kHidden);
  auto gate = allocate<float>(num_slots * kInner);
  auto up = allocate<float>(num_slots * kInner);
  const double expert_macs = static_cast<double>(num_slots) * kInner * kHidden;

  if (check) {
    expect_same(bench, "slots by expert", slots.tensor.slots, slots.plain.slots, num_slots);
    matmul_slots_quantized(bench.context, layer.gate.matrix, x.plain, kChosen, slots.plain,
                           num_slots, kExperts, gate.data());
    matmul_slots_quantized(bench.context, layer.up.matrix, x.plain, kChosen, slots.plain, num_slots,
                           kExperts, up.data());
    swiglu(bench.context, gate.data(), up.data(), num_slots * kInner, gate.data());
    quantize_activations(bench.context, gate.data(), num_slots, kInner, inner.plain);
  }
  for (const ProductVariantName& v : kProductVariants) {
    if (!only.empty() && only != v.name) continue;
    const auto dense = [&](const char* what, const Weights& w, const Activations& a) {
      const auto run = [&] {
        variant_matmul(v.variant, bench.context, w.matrix, a.tensor, num_tokens, y.data());
      };
      poison(bench, y.data(), y.bytes());
      run();
      if (check) {
        matmul_quantized(bench.context, w.matrix, a.plain, num_tokens, expected.data());
        expect_same(bench, what, y.data(), expected.data(), num_tokens * w.matrix.rows);
      }
      report(what, v.name, num_tokens, median_us(bench, run),
             static_cast<double>(num_tokens * w.matrix.rows * w.matrix.columns));
    };
    dense("qkv", layer.qkv, x);
    dense("o_proj", layer.o_proj, heads);
    {
      const auto run = [&] {
        variant_swiglu_slots(v.variant, bench.context, layer.gate.matrix, layer.up.matrix, x.tensor,
                             kChosen, slots.tensor, num_slots, kExperts, inner.tensor);
      };
      poison(bench, inner.tensor.q, inner.tensor_q.bytes());
      poison(bench, inner.tensor.scales, inner.scales.bytes());
      run();
      report("gate, up, swiglu", v.name, num_tokens, median_us(bench, run), 2 * expert_macs);
    }
    const auto down = [&](const char* what, const Weights& w) {
      const auto run = [&] {
        variant_matmul_slots(v.variant, bench.context, w.matrix, inner.tensor, 1, slots.tensor,
                             num_slots, kExperts, y.data());
      };
      poison(bench, y.data(), y.bytes());
      run();
      if (check) {
        matmul_slots_quantized(bench.context, w.matrix, inner.plain, 1, slots.plain, num_slots,
                               kExperts, expected.data());
        expect_same(bench, what, y.data(), expected.data(), num_slots * kHidden);
      }
      report(what, v.name, num_tokens, median_us(bench, run), expert_macs);
    };
    down("down Q4_K", layer.down4);
    down("down Q6_K", layer.down6);
  }
}

void rows(Bench& bench, std::size_t num_tokens) {
  const AttentionShape shape{32, 4, 128};
  const Slots slots(bench, num_tokens, kChosen, kExperts);
  const auto hidden_values = normal_vector(bench, num_tokens * kHidden);
  auto hidden = upload(bench, hidden_values);
  auto hidden_plain = upload(bench, hidden_values);
  const auto add_values = upload(bench, normal_vector(bench, num_tokens * kHidden));
  const auto outs = upload(bench, normal_vector(bench, num_tokens * kChosen * kHidden));
  const auto out_weights = upload(bench, normal_vector(bench, num_tokens * kChosen));
  std::vector<float> gain_values = normal_vector(bench, kHidden);
  if (num_tokens < kTimedTokens) {
    // Blocks whose scale is from subnormal to large.
    constexpr int kExponents[] = {-140, -125, -64, -53, -50, 57, 61, 100};
    for (std::size_t i = 0; i < 32 * std::size(kExponents); ++i) {
      gain_values[1024 + i] = std::ldexp(gain_values[1024 + i], kExponents[i / 32]);
    }
  }
  const auto gains = upload(bench, gain_values);
  auto norm = allocate<float>(num_tokens * kHidden);
  auto norm_plain = allocate<float>(num_tokens * kHidden);
  auto combined = allocate<float>(num_tokens * kHidden);
  Activations x(num_tokens, kHidden);
  Activations again(num_tokens, kHidden);
  NormInput none;
  NormInput adds;
  adds.add = add_values.data();
  NormInput combines;
  combines.expert_out = outs.data();
  combines.expert_weights = out_weights.data();
  combines.num_experts_per_tok = kChosen;

  const auto check_norm = [&](const char* what, const NormInput& input) {
    bench.context.to_device(hidden_values.data(), hidden_values.size(), hidden.data());
    bench.context.to_device(hidden_values.data(), hidden_values.size(), hidden_plain.data());
    if (input.add != nullptr) {
      add(bench.context, hidden_plain.data(), input.add, num_tokens * kHidden, hidden_plain.data());
    }
    if (input.expert_out != nullptr) {
      combine(bench.context, outs.data(), out_weights.data(), num_tokens, kChosen, kHidden,
              combined.data());
      add(bench.context, hidden_plain.data(), combined.data(), num_tokens * kHidden,
          hidden_plain.data());
    }
    rms_norm(bench.context, hidden_plain.data(), gains.data(), num_tokens, kHidden, 1e-6f,
             norm_plain.data());
    tensor_quantize(bench.context, norm_plain.data(), num_tokens, kHidden, again.tensor);
    prefill_norm(bench.context, hidden.data(), input, gains.data(), num_tokens, kHidden, 1e-6f,
                 norm.data(), x.tensor);
    expect_same(bench, what, norm.data(), norm_plain.data(), norm.size());
    expect_same(bench, what, hidden.data(), hidden_plain.data(), norm.size(), true);
    expect_same(bench, what, x.tensor.q, again.tensor.q, norm.size(), true);
    expect_same(bench, what, x.tensor.scales, again.tensor.scales, norm.size() / 32, true);
  };
  check_norm("norm", none);
  check_norm("add, norm", adds);
  check_norm("combine, add, norm", combines);
  const auto time_norm = [&](const char* what, const NormInput& input, float* y) {
    report(what, "", num_tokens, median_us(bench, [&] {
             prefill_norm(bench.context, hidden.data(), input, gains.data(), num_tokens, kHidden,
                          1e-6f, y, x.tensor);
           }));
  };
  time_norm("norm", none, nullptr);
  time_norm("add, norm", adds, norm.data());
  time_norm("combine, add, norm", combines, nullptr);

  const auto router_values = normal_vector(bench, kExperts * kHidden);
  const auto router = upload(bench, router_values);
  DeviceMatrix router_matrix;
  router_matrix.data = reinterpret_cast<const std::uint8_t*>(router.data());
  router_matrix.rows = kExperts;
  router_matrix.columns = kHidden;
  router_matrix.row_bytes = kHidden * sizeof(float);
  auto logits = allocate<float>(num_tokens * kExperts);
  auto logits_plain = allocate<float>(num_tokens * kExperts);
  poison(bench, logits.data(), logits.bytes());
  matmul_float(bench.context, router_matrix, norm.data(), num_tokens, logits_plain.data());
  prefill_router(bench.context, router_matrix, norm.data(), num_tokens, logits.data());
  expect_same(bench, "router", logits.data(), logits_plain.data(), logits.size());
  report("router", "", num_tokens, median_us(bench, [&] {
           prefill_router(bench.context, router_matrix, norm.data(), num_tokens, logits.data());
         }));
  auto ids = allocate<std::int32_t>(num_tokens * kChosen);
  auto weights = allocate<float>(num_tokens * kChosen);
  auto error = allocate<std::uint64_t>(1);
  report("route", "", num_tokens, median_us(bench, [&] {
           route(bench.context, logits.data(), num_tokens, kExperts, kChosen, true, nullptr, 0,
                 ids.data(), weights.data(), error.data());
         }));
  report("slots by expert", "", num_tokens, median_us(bench, [&] {
           group_tensor_slots(bench.context, slots.ids.data(), slots.num_slots, kExperts,
                              slots.tensor);
         }));
  report("slots by expert", "plain", num_tokens, median_us(bench, [&] {
           group_slots(bench.context, slots.ids.data(), slots.num_slots, kExperts, slots.plain);
         }));

  const RopeTable table(1e6, 128, num_tokens + 8);
  const auto cosines = upload(
      bench, std::vector<float>(table.all_cosines_f32().begin(), table.all_cosines_f32().end()));
  const auto sines =
      upload(bench, std::vector<float>(table.all_sines_f32().begin(), table.all_sines_f32().end()));
  DecodeState start;
  start.position = 5;
  const auto state = upload(bench, std::vector<DecodeState>{start});
  const auto q_values = normal_vector(bench, num_tokens * shape.query_size());
  const auto k_values = normal_vector(bench, num_tokens * shape.key_value_size());
  auto q = upload(bench, q_values);
  auto q_plain = upload(bench, q_values);
  auto k = upload(bench, k_values);
  auto k_plain = upload(bench, k_values);
  const auto v = upload(bench, normal_vector(bench, num_tokens * shape.key_value_size()));
  const std::size_t cache_size = (num_tokens + 8) * shape.key_value_size();
  std::vector<DeviceBuffer<std::uint16_t>> caches;
  for (int i = 0; i < 4; ++i) {
    caches.push_back(allocate<std::uint16_t>(cache_size));
    poison(bench, caches.back().data(), caches.back().bytes());
  }
  rms_norm(bench.context, q_plain.data(), gains.data(), num_tokens * 32, 128, 1e-6f,
           q_plain.data());
  rms_norm(bench.context, k_plain.data(), gains.data() + 128, num_tokens * 4, 128, 1e-6f,
           k_plain.data());
  rope(bench.context, cosines.data(), sines.data(), &state.data()->position, num_tokens, 32, 128,
       q_plain.data());
  rope(bench.context, cosines.data(), sines.data(), &state.data()->position, num_tokens, 4, 128,
       k_plain.data());
  append_to_cache(bench.context, k_plain.data(), state.data(), num_tokens, shape.key_value_size(),
                  caches[0].data());
  append_to_cache(bench.context, v.data(), state.data(), num_tokens, shape.key_value_size(),
                  caches[1].data());
  const CallHeads heads{q.data(),     k.data(),           v.data(),
                        gains.data(), gains.data() + 128, cosines.data(),
                        sines.data(), caches[2].data(),   caches[3].data()};
  prefill_heads(bench.context, shape, heads, num_tokens, 1e-6f, state.data());
  expect_same(bench, "heads: q", q.data(), q_plain.data(), q.size());
  expect_same(bench, "heads: k", caches[2].data(), caches[0].data(), cache_size);
  expect_same(bench, "heads: v", caches[3].data(), caches[1].data(), cache_size);
  report("heads", "", num_tokens, median_us(bench, [&] {
           prefill_heads(bench.context, shape, heads, num_tokens, 1e-6f, state.data());
         }));
  Activations attended(num_tokens, 4096);
  report("quantize heads", "", num_tokens, median_us(bench, [&] {
           tensor_quantize(bench.context, q.data(), num_tokens, 4096, attended.tensor);
         }));
}

void attention(Bench& bench, std::size_t first, std::size_t num_tokens, bool check) {
  const AttentionShape shape{32, 4, 128};
  const std::size_t positions = first + num_tokens;
  const auto q_values = normal_vector(bench, num_tokens * shape.query_size(), 2.0f);
  const auto q = upload(bench, q_values);
  const auto cache = [&] {
    std::vector<std::uint16_t> halves(positions * shape.key_value_size());
    const auto values = normal_vector(bench, halves.size());
    std::ranges::transform(values, halves.begin(), half_from_float);
    return halves;
  };
  const auto k_values = cache();
  const auto v_values = cache();
  // What stands behind the last position must not matter.
  auto k = allocate<std::uint16_t>(k_values.size() + 200 * shape.key_value_size());
  auto v = allocate<std::uint16_t>(k.size());
  poison(bench, k.data(), k.bytes());
  poison(bench, v.data(), v.bytes());
  bench.context.to_device(k_values.data(), k_values.size(), k.data());
  bench.context.to_device(v_values.data(), v_values.size(), v.data());
  DecodeState start;
  start.position = static_cast<std::int32_t>(first);
  const auto state = upload(bench, std::vector<DecodeState>{start});
  auto y = allocate<float>(q_values.size());
  Activations attended(num_tokens, shape.query_size());
  poison(bench, y.data(), y.bytes());
  poison(bench, attended.tensor.q, attended.tensor_q.bytes());
  poison(bench, attended.tensor.scales, attended.scales.bytes());
  prefill_attention(bench.context, shape, q.data(), k.data(), v.data(), &state.data()->position,
                    num_tokens, y.data(), attended.tensor);
  char name[100];
  std::snprintf(name, sizeof(name), "attention %zu + %zu", first, num_tokens);
  if (check) {
    const cpu::Context cpu = cpu::Context::create().value();
    Matrix<float> on_cpu(num_tokens, shape.query_size());
    const Matrix<float> q_cpu(num_tokens, shape.query_size(), std::vector<float>(q_values));
    const Matrix<std::uint16_t> k_cpu(positions, shape.key_value_size(),
                                      std::vector<std::uint16_t>(k_values));
    const Matrix<std::uint16_t> v_cpu(positions, shape.key_value_size(),
                                      std::vector<std::uint16_t>(v_values));
    cpu::attention(cpu, shape, q_cpu.view(), k_cpu.view(), v_cpu.view(), first, on_cpu.view());
    const auto expected =
        upload(bench, std::vector<float>(on_cpu.flat().begin(), on_cpu.flat().end()));
    expect_same(bench, name, y.data(), expected.data(), q_values.size());
    Activations again(num_tokens, shape.query_size());
    tensor_quantize(bench.context, y.data(), num_tokens, shape.query_size(), again.tensor);
    expect_same(bench, name, attended.tensor.q, again.tensor.q, q_values.size(), true);
    expect_same(bench, name, attended.tensor.scales, again.tensor.scales, q_values.size() / 32,
                true);
    return;
  }
  report(name, "exact", num_tokens, median_us(bench, [&] {
           prefill_attention(bench.context, shape, q.data(), k.data(), v.data(),
                             &state.data()->position, num_tokens, y.data(), attended.tensor);
         }));
  // Held to the oracle in attention_test.cc.
  report(name, "mma", num_tokens, median_us(bench, [&] {
           prefill_attention_mma(bench.context, shape, q.data(), k.data(), v.data(),
                                 &state.data()->position, num_tokens, y.data(), attended.tensor);
         }));
  if (!has_wgmma()) return;
  report(name, "wgmma", num_tokens, median_us(bench, [&] {
           prefill_attention_wgmma(bench.context, shape, q.data(), k.data(), v.data(),
                                   &state.data()->position, num_tokens, y.data(), attended.tensor);
         }));
}

int run(const std::string& mode, const std::string& only) {
  auto created = Context::create();
  if (!created) {
    std::fprintf(stderr, "%s\n", created.error().message().c_str());
    return 1;
  }
  const Context context = *std::move(created);
  Bench bench{context};
  std::printf("%s\n", context.device().name.c_str());
  if (mode == "one") {
    const Layer layer(bench);
    products(bench, layer, 2048, only, false);
    return 0;
  }
  const auto check_attention = [&] {
    for (const std::size_t first : {0, 5, 127, 300}) {
      for (const std::size_t tokens : {1, 17, 150}) attention(bench, first, tokens, true);
    }
  };
  const auto time_attention = [&] {
    for (const std::size_t tokens : {128, 512, 1024, 2048, 4096}) {
      attention(bench, 0, tokens, false);
    }
    for (const std::size_t first : {2048, 6144}) attention(bench, first, 2048, false);
  };
  if (mode == "attention") {
    check_attention();
    time_attention();
    return bench.failures == 0 ? 0 : 1;
  }
  check_products(bench);
  for (const std::size_t tokens : {3, 70}) rows(bench, tokens);
  check_attention();
  if (mode == "rows") return bench.failures == 0 ? 0 : 1;
  const Layer layer(bench);
  products(bench, layer, 75, "", true);
  if (mode == "check") return bench.failures == 0 ? 0 : 1;
  rows(bench, 2048);
  time_attention();
  products(bench, layer, 2048, "", true);
  for (const std::size_t tokens : {16, 32, 128, 512, 1024})
    products(bench, layer, tokens, "", false);
  std::printf("%d failures\n", bench.failures);
  return bench.failures == 0 ? 0 : 1;
}

}  // namespace
}  // namespace refute::cuda

int main(int argc, char** argv) {
  return refute::cuda::run(argc > 1 ? argv[1] : "", argc > 2 ? argv[2] : "");
}
