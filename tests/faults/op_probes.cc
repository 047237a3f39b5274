// Probes of single ops.
#include <sys/mman.h>

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "engine/moe_slots.h"
#include "falsifiers/owned_weights.h"
#include "falsifiers/seeded_random.h"
#include "kernels/check.h"
#include "kernels/faults.h"
#include "tests/faults/probes.h"

namespace refute {
namespace {

// float32 values held in float64.
Matrix<double> normal_matrix(std::size_t rows, std::size_t columns, double scale,
                             std::uint64_t seed) {
  SeededRandom random(seed);
  Matrix<double> x(rows, columns);
  for (double& value : x.flat()) value = static_cast<float>(scale * random.normal());
  return x;
}

Probe matmul(TensorType type, std::size_t rows, std::size_t columns, std::size_t tokens,
             double scale = 1.0) {
  return [=](const Backend& backend) {
    const OwnedWeight weight = make_weight(type, rows, columns, WeightKind::kPlain, 1);
    Outcome outcome;
    outcome.add(backend.matmul(weight.view(), normal_matrix(tokens, columns, scale, 2).view()));
    return outcome;
  };
}

Probe embed(TensorType type) {
  return [=](const Backend& backend) {
    const OwnedWeight weight = make_weight(type, 6, 512, WeightKind::kPlain, 14);
    const std::vector<std::int32_t> tokens = {5, 0, 3};
    Outcome outcome;
    outcome.add(backend.embed(weight.view(), tokens));
    return outcome;
  };
}

// One row of activations made by value_of(column).
template <typename ValueOf>
Probe matmul_of(std::size_t columns, const ValueOf& value_of) {
  return [=](const Backend& backend) {
    const OwnedWeight weight = make_weight(TensorType::kQ4_K, 5, columns, WeightKind::kPlain, 1);
    Matrix<double> x(1, columns);
    for (std::size_t c = 0; c < columns; ++c) x(0, c) = value_of(c);
    Outcome outcome;
    outcome.add(backend.matmul(weight.view(), x.view()));
    return outcome;
  };
}

Outcome routed(const Backend& backend, MatrixView<const double> logits, std::size_t k, bool norm) {
  Outcome outcome;
  const auto routing = backend.route(logits, k, norm);
  if (!routing) {
    outcome.errors = routing.error().message();
    return outcome;
  }
  for (const std::int32_t id : routing->ids.flat()) outcome.add(id);
  outcome.add(routing->weights.view());
  return outcome;
}

Probe route(std::size_t k = 4, bool norm = true) {
  return [=](const Backend& backend) {
    return routed(backend, normal_matrix(6, 16, 1.5, 3).view(), k, norm);
  };
}

Probe route_of(std::vector<double> logits, std::size_t k) {
  return [=](const Backend& backend) {
    return routed(backend, {logits.data(), 1, logits.size()}, k, true);
  };
}

Probe swiglu(bool equal = false) {
  return [=](const Backend& backend) {
    const Matrix<double> gate = normal_matrix(3, 70, 1.0, 4);
    const Matrix<double> up = normal_matrix(3, 70, 1.0, equal ? 4 : 5);
    Outcome outcome;
    outcome.add(backend.swiglu(gate.view(), up.view()));
    return outcome;
  };
}

Probe combine(std::size_t tokens) {
  return [=](const Backend& backend) {
    Outcome outcome;
    outcome.add(backend.combine(normal_matrix(2 * tokens, 33, 1.0, 6).view(),
                                normal_matrix(tokens, 2, 1.0, 7).view()));
    return outcome;
  };
}

Probe rms_norm() {
  return [](const Backend& backend) {
    std::vector<float> gains(96);
    SeededRandom random(8);
    for (float& gain : gains) gain = static_cast<float>(random.uniform(0.5, 1.5));
    // A mean square near epsilon.
    Outcome outcome;
    outcome.add(backend.rms_norm(normal_matrix(4, 96, 1e-3, 9).view(), gains, 1e-6f));
    return outcome;
  };
}

Probe rope(std::size_t first_position) {
  return [=](const Backend& backend) {
    const RopeTable table(1e6, 32, first_position + 3);
    Outcome outcome;
    outcome.add(backend.rope(table, 2, first_position, normal_matrix(3, 64, 1.0, 10).view()));
    return outcome;
  };
}

// `rows` tokens from first_position on: four heads on two.
Probe attention(std::size_t rows, std::size_t first_position, double key_scale = 1.0) {
  return [=](const Backend& backend) {
    const AttentionShape shape{4, 2, 32};
    const std::size_t positions = first_position + rows;
    Outcome outcome;
    outcome.add(backend.attention(shape, normal_matrix(rows, 128, 1.0, 11).view(),
                                  normal_matrix(positions, 64, key_scale, 12).view(),
                                  normal_matrix(positions, 64, 1.0, 13).view(), first_position));
    return outcome;
  };
}

// Where each expert of a stack is found. The bytes are never read.
Outcome expert_places(const Backend& backend, const ExpertStack& stack) {
  Outcome outcome;
  for (std::size_t expert = 0; expert < stack.num_experts; ++expert) {
    const auto slice = backend.expert_byte_slice(stack, expert);
    if (!slice) {
      outcome.errors += slice.error().message();
      continue;
    }
    outcome.add(static_cast<double>(slice->data() - stack.data.data()));
  }
  return outcome;
}

Outcome many_experts(const Backend& backend) {
  const std::vector<std::byte> bytes(200 * 16);
  return expert_places(backend, {TensorType::kF32, 200, 1, 4, bytes});
}

// Three experts of 1 GiB and a block in memory that is reserved and nowhere touched but for a byte
// of each expert: what a falsifier can do that wants to see an offset past 2 GiB.
Outcome experts_past_2_gib(const Backend& backend) {
  constexpr std::size_t kColumns = 256;
  constexpr std::size_t kRows = (std::size_t{1} << 30) / (4 * kColumns) + 1;
  constexpr std::size_t kBytes = 3 * kRows * 4 * kColumns;
  void* const memory = ::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  CHECK(memory != MAP_FAILED);
  const std::span<std::byte> bytes(static_cast<std::byte*>(memory), kBytes);
  const ExpertStack stack{TensorType::kF32, 3, kRows, kColumns, bytes};
  for (std::size_t expert = 0; expert < 3; ++expert) {
    bytes[expert * stack.bytes_per_expert()] = static_cast<std::byte>(expert + 1);
  }
  Outcome outcome = expert_places(backend, stack);
  for (std::size_t expert = 0; expert < 3; ++expert) {
    const auto slice = backend.expert_byte_slice(stack, expert);
    CHECK(slice);
    outcome.add(static_cast<double>((*slice)[0]));
  }
  CHECK(::munmap(memory, kBytes) == 0);
  return outcome;
}

// Row 350000 of a scratch of 6144 columns, which nobody has to allocate.
Outcome scratch_past_2_31(const Backend& backend) {
  Outcome outcome;
  std::optional<CpuStandsInForCuda> stands_in;
  if (backend.id() == BackendId::kCuda) stands_in.emplace();
  const bool wide = backend.id() == BackendId::kOracle;
  const std::size_t offset =
      wide ? scratch_offset<double>(350000, 6144) : scratch_offset<float>(350000, 6144);
  outcome.add(static_cast<double>(offset));
  return outcome;
}

double every_half(std::size_t column) {
  // Scale 1: the first column of each block of 32 is 127, the others end in .5.
  return column % 32 == 0 ? 127.0 : static_cast<double>(column % 32) + 0.5;
}

// Three experts and more a token, so that the order of their sum matters.
Outcome combine_many(const Backend& backend) {
  Outcome outcome;
  const Matrix<double> outs = normal_matrix(16 * 8, 300, 1.0, 31);
  const Matrix<double> weights = normal_matrix(16, 8, 0.3, 32);
  outcome.add(backend.combine(outs.view(), weights.view()));
  return outcome;
}

// Rows whose tail fills no warp.
Outcome rms_norm_of_300(const Backend& backend) {
  Outcome outcome;
  const std::vector<float> gains(300, 1.5f);
  outcome.add(backend.rms_norm(normal_matrix(16, 300, 1.0, 33).view(), gains, 1e-6f));
  return outcome;
}

}  // namespace

std::vector<FaultProbe> op_probes() {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const Probe q4_k = matmul(TensorType::kQ4_K, 20, 512, 3);
  const Probe q6_k = matmul(TensorType::kQ6_K, 20, 512, 3);
  std::vector<FaultProbe> probes = {
      {"F1", q4_k},
      {"F1", matmul(TensorType::kBF16, 20, 300, 3)},
      {"F75", matmul(TensorType::kQ4_K, 20, 512, 3, 1e6)},
      {"F76", matmul(TensorType::kQ6_K, 40, 256, 3)},
      {"F76", matmul(TensorType::kF32, 40, 100, 3)},
      {"F83", matmul(TensorType::kQ4_K, 40, 1024, 5)},
      {"F83", matmul(TensorType::kF16, 40, 300, 5)},
      {"F91", q4_k},
      {"F93", q4_k},
      {"F94", matmul_of(256, [](std::size_t c) { return c % 32 == 3 ? -2.0 : 0.25; })},
      {"F95", matmul_of(256, [](std::size_t c) { return c < 32 ? 0.0 : 1.0; })},
      {"F96", matmul_of(256, every_half)},
      {"F104", route(4, false)},
      {"F97", route_of({0.5, nan, 1.5, -1.0, 0.25}, 2)},
      {"F115", route_of({0.5, nan, 1.5, -1.0, 0.25}, 2)},
      {"F116", route_of({0.5, 1.5, -1.0}, 4)},
      {"F114", route_of({0.5, 1.5, 0.45, -1.0}, 2)},
      {"F109", route(), 1e-15, 1e-6},
      {"F111", swiglu(true), 0.0, 0.0},
      {"F41", combine(11)},
      {"F42", combine(11)},
      {"F43", combine(11)},
      {"F99", rope(5000)},
      {"F100", rope(5000)},
      {"F56", attention(5, 2), 1e-14, 1e-6},
      {"F110", attention(5, 2), 1e-14},
      {"F101", attention(5, 2, 3e5)},
      {"F105", attention(1, 4)},
      {"F79", experts_past_2_gib},
      {"F80", scratch_past_2_31},
      {"F77", rms_norm_of_300},
      {"F78", rms_norm_of_300},
      {"F82", combine_many},
      {"F40", many_experts},
      {"F81", many_experts},
  };
  for (const char* id : {"F2", "F3", "F4", "F5", "F6", "F7", "F8"}) probes.push_back({id, q4_k});
  for (const char* id : {"F9", "F10", "F11", "F12", "F90", "F92"}) probes.push_back({id, q6_k});
  for (const char* id : {"F2", "F3", "F4", "F5", "F6", "F7", "F8"}) {
    probes.push_back({id, embed(TensorType::kQ4_K)});
  }
  for (const char* id : {"F9", "F10", "F11", "F12", "F90", "F92"}) {
    probes.push_back({id, embed(TensorType::kQ6_K)});
  }
  for (const char* id : {"F22", "F28", "F29", "F30", "F31", "F32", "F33", "F34", "F35", "F36",
                         "F37", "F38", "F120", "F123"}) {
    probes.push_back({id, route()});
  }
  for (const char* id : {"F23", "F24", "F25", "F26", "F27"}) probes.push_back({id, swiglu()});
  for (const char* id : {"F45", "F46", "F47", "F48", "F49", "F50"}) {
    probes.push_back({id, rms_norm()});
  }
  for (const char* id : {"F52", "F53", "F54", "F55", "F57"}) probes.push_back({id, rope(30)});
  for (const char* id : {"F61", "F62", "F63", "F65", "F66", "F67", "F68", "F70"}) {
    probes.push_back({id, attention(5, 2)});
  }
  return probes;
}

}  // namespace refute
