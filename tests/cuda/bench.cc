// Times the CUDA backend on one model file: what `ci/gpu` and people at a profiler run.
//
//   cuda_bench synth PRESET FILE [LAYERS]   writes a synthetic model
//   cuda_bench time FILE                    upload, decode through the graph, forward, prefill
//   cuda_bench step FILE                    three tokens, kernel by kernel: for a profiler
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "engine/cuda_sequence.h"
#include "engine/cuda_weights.h"
#include "engine/model.h"
#include "engine/synth.h"
#include "engine/synth_presets.h"

namespace refute {
namespace {

constexpr std::size_t kCapacity = 4096;
constexpr std::size_t kDecoded = 128;
constexpr int kSeries = 5;

[[noreturn]] void fail(const Error& error) {
  std::fprintf(stderr, "%s\n", error.message().c_str());
  std::exit(1);
}

template <typename T>
T require(Result<T> result) {
  if (!result) fail(result.error());
  return *std::move(result);
}

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

template <typename Body>
double median_seconds(const Body& body) {
  body();  // Warms up.
  std::vector<double> seconds;
  for (int i = 0; i < kSeries; ++i) {
    const double start = now();
    body();
    seconds.push_back(now() - start);
  }
  std::ranges::sort(seconds);
  return seconds[kSeries / 2];
}

int synth(const std::string& preset, const std::string& path, const char* layers) {
  SynthOptions options = require(
      layers == nullptr ? synth_preset(preset)
                        : synth_preset(preset, static_cast<std::size_t>(std::atol(layers))));
  options.name = preset;
  const double start = now();
  if (auto ok = write_synthetic_model(options, path); !ok) fail(ok.error());
  std::printf("synth            %.1f s\n", now() - start);
  return 0;
}

void time_decode(cuda::Sequence& sequence, const Model& model, double bandwidth,
                 std::size_t context) {
  const double seconds = median_seconds([&] {
    sequence.rollback(context);
    require(sequence.decode_greedy(1, kDecoded));
  });
  const double rate = static_cast<double>(kDecoded) / seconds;
  const double bytes = static_cast<double>(model.bytes_per_token()) +
                       static_cast<double>(context + kDecoded / 2) *
                           static_cast<double>(4 * model.config().num_hidden_layers *
                                               model.config().attention_shape().key_value_size());
  std::printf(
      "decode at %5zu   %.1f tokens/s, %.1f us a token, %.2f GB/s, %.1f %% of the measured "
      "bandwidth\n",
      context, rate, 1e6 / rate, rate * bytes / 1e9, 100.0 * rate * bytes / bandwidth);
}

int time_model(const std::string& path) {
  double start = now();
  const Model model = require(Model::load(path));
  std::printf("load             %.2f s\n", now() - start);
  const cuda::Context context = require(cuda::Context::create());
  std::printf("device           %s\n", context.device().name.c_str());
  start = now();
  const cuda::DeviceModel weights = require(cuda::DeviceModel::upload(context, model));
  std::printf("upload           %.2f s, %.2f GB\n", now() - start,
              static_cast<double>(weights.weights().bytes()) / 1e9);
  const std::size_t capacity = std::min(kCapacity, model.config().max_position_embeddings);
  auto sequence = require(cuda::Sequence::create(context, model, weights, capacity));
  const cuda::DeviceMemory memory = cuda::device_memory();
  std::printf(
      "memory           %.2f of %.2f GB used, %.1f %%\n",
      static_cast<double>(memory.total - memory.free) / 1e9,
      static_cast<double>(memory.total) / 1e9,
      100.0 * static_cast<double>(memory.total - memory.free) / static_cast<double>(memory.total));
  const std::size_t stream = std::min(weights.weights().bytes(), std::size_t{2} << 30);
  const double bandwidth = cuda::measure_read_bandwidth(context, weights.weights().data(), stream);
  std::printf("read bandwidth   %.1f GB/s over %.2f GB\n", bandwidth / 1e9,
              static_cast<double>(stream) / 1e9);
  std::printf("graph            %zu kernels, %s\n", sequence->graph_nodes(),
              sequence->is_fused() ? "fused" : "not all fused");

  std::vector<std::int32_t> prompt(std::min<std::size_t>(2048, capacity - kDecoded));
  for (std::size_t i = 0; i < prompt.size(); ++i) {
    prompt[i] = static_cast<std::int32_t>((i * 7919 + 13) % model.config().vocab_size);
  }
  require(sequence->forward(std::span(prompt).first(std::min<std::size_t>(16, prompt.size())), {}));
  time_decode(*sequence, model, bandwidth, sequence->length());
  {
    const std::size_t held = sequence->length();
    const double seconds = median_seconds([&] {
      sequence->rollback(held);
      for (std::size_t i = 0; i < kDecoded; ++i) require(sequence->forward({&prompt[i], 1}, {}));
    });
    std::printf("forward, 1 token %.1f tokens/s\n", static_cast<double>(kDecoded) / seconds);
    sequence->rollback(held);
    const double plain = median_seconds([&] {
      sequence->rollback(held);
      for (std::size_t i = 0; i < 16; ++i) require(sequence->decode_without_graph(prompt[i]));
    });
    std::printf("without graph    %.1f tokens/s\n", 16.0 / plain);
  }
  for (const std::size_t count : {std::size_t{32}, std::size_t{512}, std::size_t{2048}}) {
    if (count > prompt.size()) continue;
    const double seconds = median_seconds([&] {
      sequence->rollback(0);
      require(sequence->forward(std::span(prompt).first(count), {}));
    });
    std::printf("prefill %5zu    %.1f tokens/s\n", count, static_cast<double>(count) / seconds);
    time_decode(*sequence, model, bandwidth, sequence->length());
  }
  return 0;
}

int step_model(const std::string& path) {
  const Model model = require(Model::load(path));
  const cuda::Context context = require(cuda::Context::create());
  const cuda::DeviceModel weights = require(cuda::DeviceModel::upload(context, model));
  auto sequence = require(cuda::Sequence::create(context, model, weights, 512));
  for (std::int32_t token = 1; token <= 3; ++token) {
    require(sequence->decode_without_graph(token));
  }
  return 0;
}

}  // namespace
}  // namespace refute

int main(int argc, char** argv) {
  const std::string command = argc > 1 ? argv[1] : "";
  if (command == "synth" && argc >= 4) {
    return refute::synth(argv[2], argv[3], argc > 4 ? argv[4] : nullptr);
  }
  if (command == "time" && argc == 3) return refute::time_model(argv[2]);
  if (command == "step" && argc == 3) return refute::step_model(argv[2]);
  std::fprintf(stderr, "cuda_bench synth PRESET FILE [LAYERS] | time FILE | step FILE\n");
  return 2;
}
