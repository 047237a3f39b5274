// Claim: with the model loaded and one session open, at most 95 % of the device's memory is used,
// and the weights take at most 1 % more bytes than in the file.
// Why it must hold: past that, allocations of other processes and of longer contexts fail; weights
// that grow are read slower too.
// Catches: weights that were dequantized or padded on upload, workspaces that grow with the
// context. Misses: memory that is freed before the session is open. Source: AC_GPU_MOE_007 of the
// public contract qwen3-moe-forward-gpu-v1.
#include "falsifiers/memory_fits_device.h"

#include <algorithm>
#include <array>
#include <string>

#include "engine/backend.h"
#include "engine/model.h"
#include "falsifiers/judge.h"

namespace refute {
namespace {

constexpr std::size_t kCapacity = 4096;  // Positions; fewer where the model has fewer.

constexpr std::array<MetricInfo, 2> kMetrics = {{
    {"used_over_total", "bytes used over bytes there are", false, 0.95},
    {"weights_growth",
     "bytes of the weights on the device past those in the file and what aligns each tensor, over "
     "those in the file",
     false, 0.01},
}};

constexpr std::array<BackendId, 1> kBackends = {BackendId::kCuda};

// Every tensor may start at the next multiple of this.
constexpr std::size_t kAlignment = 256;

std::size_t num_tensors(const Model& model) {
  constexpr std::size_t kOfALayer = 12;
  constexpr std::size_t kOfTheModel = 3;
  return kOfALayer * model.layers().size() + kOfTheModel;
}

}  // namespace

Verdict falsify_memory_fits_device(const Subject& subject, const Criterion& criterion) {
  Judge judge(kMetrics, criterion);
  const std::size_t capacity = std::min(kCapacity, subject.model->config().max_position_embeddings);
  const auto memory = subject.backend.memory_use(*subject.model, capacity);
  if (!memory || memory->total == 0) {
    return Verdict::not_run(subject.backend.description() + " reports no memory of its own");
  }
  const std::string where =
      std::to_string(memory->used) + " of " + std::to_string(memory->total) + " bytes";
  // Less than the weights cannot be the whole of it: a figure that small is of something else.
  if (memory->used < subject.model->weight_bytes() || memory->weights == 0) {
    judge.refute(where + " used, less than the weights' " +
                 std::to_string(subject.model->weight_bytes()));
  }
  const bool held =
      judge.measure("used_over_total",
                    static_cast<double>(memory->used) / static_cast<double>(memory->total), where);
  const std::size_t in_file = subject.model->weight_bytes();
  const std::size_t allowed = in_file + kAlignment * num_tensors(*subject.model);
  const std::size_t grown = memory->weights - std::min(memory->weights, allowed);
  const bool compact =
      judge.measure("weights_growth", static_cast<double>(grown) / static_cast<double>(in_file),
                    std::to_string(memory->weights) + " bytes of weights");
  judge.count_case(!held || !compact);
  return judge.verdict();
}

const FalsifierInfo& memory_fits_device_info() {
  static constexpr FalsifierInfo kInfo = {
      .id = "memory.fits_device",
      .claim =
          "With the model loaded and one session of 4096 positions open, at most 95 % of the "
          "device's memory is used, and the weights take no more than 1 % over the file's bytes.",
      .why = "Past that, longer contexts and other processes fail.",
      .catches = "Weights that were dequantized or padded on upload.",
      .misses = "Memory that is freed before the session is open.",
      .source = "AC_GPU_MOE_007 of the public contract qwen3-moe-forward-gpu-v1.",
      .metrics = kMetrics,
      .backends = kBackends,
      .needs_model = true,
      .needs_pack = false,
      .falsify = falsify_memory_fits_device,
  };
  return kInfo;
}

}  // namespace refute
