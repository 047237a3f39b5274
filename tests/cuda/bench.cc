// Times the CUDA backend on one model file: what `ci/gpu` and people at a profiler run.
//
//   cuda_bench synth PRESET FILE [LAYERS]   writes a synthetic model
//   cuda_bench time FILE                    upload, decode through the graph, forward, prefill
//   cuda_bench prefill FILE                 calls of 1 to 8192 tokens, both attentions
//   cuda_bench step FILE [CONTEXT]          three tokens, kernel by kernel: for a profiler
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "engine/cuda_sequence.h"
#include "engine/cuda_weights.h"
#include "engine/model.h"
#include "engine/synth.h"
#include "engine/synth_presets.h"
#include "kernels/median.h"

namespace refute {
namespace {

constexpr std::size_t kCapacity = 8192;
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
  return median(std::move(seconds));
}

std::vector<std::int32_t> make_prompt(const Model& model, std::size_t count) {
  std::vector<std::int32_t> prompt(count);
  for (std::size_t i = 0; i < count; ++i) {
    prompt[i] = static_cast<std::int32_t>((i * 7919 + 13) % model.config().vocab_size);
  }
  return prompt;
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

double prefill_seconds(cuda::Sequence& sequence, std::span<const std::int32_t> prompt) {
  return median_seconds([&] {
    sequence.rollback(0);
    require(sequence.forward(prompt, {}));
  });
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

// Microseconds a layer of some of its kernels, all layers one after the other in a graph.
double time_part(const cuda::Context& context, const cuda::DeviceModel& weights,
                 const cuda::DecodeShape& shape, const cuda::SequenceBuffers& buffers,
                 unsigned parts) {
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t replay = nullptr;
  CUDA_CHECK(cudaStreamBeginCapture(context.stream(), cudaStreamCaptureModeThreadLocal));
  for (std::size_t i = 0; i < weights.layers().size(); ++i) {
    cuda::decode_layer(context, shape, weights.layers()[i], buffers.layer_cache(i), i,
                       cuda::decode_buffers(buffers), parts);
  }
  CUDA_CHECK(cudaStreamEndCapture(context.stream(), &graph));
  CUDA_CHECK(cudaGraphInstantiate(&replay, graph, 0));
  const double seconds = median_seconds([&] {
    for (int i = 0; i < 10; ++i) CUDA_CHECK(cudaGraphLaunch(replay, context.stream()));
    context.synchronize();
  });
  CUDA_CHECK(cudaGraphExecDestroy(replay));
  CUDA_CHECK(cudaGraphDestroy(graph));
  return 1e6 * seconds / (10.0 * static_cast<double>(weights.layers().size()));
}

// Bytes of device memory that each kernel of a layer must read, the mean over the layers: weights,
// of the experts those chosen, and the cache up to `position`.
struct LayerBytes {
  double qkv = 0.0, attention = 0.0, o_proj = 0.0, router = 0.0, gate_up = 0.0, down = 0.0;

  double of(unsigned parts) const {
    double sum = 0.0;
    if (parts & cuda::kPartQkv) sum += qkv;
    if (parts & cuda::kPartAttention) sum += attention;
    if (parts & cuda::kPartOut) sum += o_proj;
    if (parts & cuda::kPartRouter) sum += router;
    if (parts & cuda::kPartGateUp) sum += gate_up;
    if (parts & cuda::kPartDown) sum += down;
    return sum;
  }
};

LayerBytes layer_bytes(const Model& model, std::size_t position) {
  const Config& config = model.config();
  const double layers = static_cast<double>(model.layers().size());
  const double chosen = static_cast<double>(config.num_experts_per_tok);
  const auto mean = [&](std::size_t bytes) { return static_cast<double>(bytes) / layers; };
  LayerBytes bytes;
  for (const LayerWeights& layer : model.layers()) {
    bytes.qkv += mean(layer.q_proj.bytes() + layer.k_proj.bytes() + layer.v_proj.bytes());
    bytes.o_proj += mean(layer.o_proj.bytes());
    bytes.router += mean(layer.router.bytes());
    bytes.gate_up +=
        chosen * mean(layer.gate_proj.bytes_per_expert() + layer.up_proj.bytes_per_expert());
    bytes.down += chosen * mean(layer.down_proj.bytes_per_expert());
  }
  bytes.attention = static_cast<double>(position * 2 * sizeof(std::uint16_t) *
                                        config.attention_shape().key_value_size());
  return bytes;
}

void time_lm_head(const cuda::Context& context, const Model& model,
                  const cuda::DeviceModel& weights, const cuda::DecodeShape& shape,
                  const cuda::SequenceBuffers& buffers, double bandwidth) {
  constexpr int kTimes = 20;
  const double seconds = median_seconds([&] {
                           for (int i = 0; i < kTimes; ++i) {
                             cuda::decode_lm_head(context, shape, weights.norm(), weights.lm_head(),
                                                  cuda::decode_buffers(buffers));
                           }
                           context.synchronize();
                         }) /
                         kTimes;
  const double bytes = static_cast<double>(model.lm_head().bytes());
  std::printf("part %-16s %7.2f us a token, %6.1f MB, %5.1f %% of the measured bandwidth\n",
              "lm_head", 1e6 * seconds, bytes / 1e6, 100.0 * bytes / seconds / bandwidth);
}

void time_parts(const cuda::Context& context, const Model& model, const cuda::DeviceModel& weights,
                double bandwidth) {
  constexpr std::size_t kPositions = 512;
  constexpr std::size_t kPosition = 128;
  const Config& config = model.config();
  const auto memory = require(cuda::DeviceBuffer<std::uint8_t>::allocate(
      cuda::Sequence::bytes_for(config, kPositions), "a sequence"));
  CUDA_CHECK(cudaMemsetAsync(memory.data(), 0x3c, memory.size(), context.stream()));
  cuda::Arena arena(memory.data());
  const auto buffers = cuda::SequenceBuffers::take(arena, config, kPositions);
  const cuda::DecodeShape shape = cuda::decode_shape(config, kPositions);
  cuda::DecodeState state;
  state.token = 1;
  state.position = kPosition;
  context.to_device(&state, 1, buffers.state);
  cuda::embed(context, weights.embed_tokens(), &buffers.state->token, 1, buffers.call.hidden);
  // Real values in all buffers, real choices of experts.
  time_part(context, weights, shape, buffers, cuda::kAllParts);
  struct Part {
    const char* name;
    unsigned mask;
  };
  constexpr Part kParts[] = {
      {"qkv", 1},          {"attention", 2},     {"o_proj", 4},          {"router", 8},
      {"gate_up", 16},     {"down", 32},         {"gate_up + down", 48}, {"up to attention", 3},
      {"up to o_proj", 7}, {"up to router", 15}, {"up to gate_up", 31},  {"all", 63}};
  const LayerBytes bytes = layer_bytes(model, kPosition);
  for (const Part& part : kParts) {
    const double microseconds = time_part(context, weights, shape, buffers, part.mask);
    std::printf("part %-16s %7.2f us a layer, %6.3f MB, %5.1f %% of the measured bandwidth\n",
                part.name, microseconds, bytes.of(part.mask) / 1e6,
                100.0 * bytes.of(part.mask) / (1e-6 * microseconds) / bandwidth);
  }
  time_lm_head(context, model, weights, shape, buffers, bandwidth);
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
  constexpr std::size_t kStream = std::size_t{2} << 30;
  const double bandwidth = [&] {
    const auto data = require(cuda::DeviceBuffer<std::uint8_t>::allocate(kStream, "a stream"));
    CUDA_CHECK(cudaMemsetAsync(data.data(), 0x5a, kStream, context.stream()));
    return cuda::measure_read_bandwidth(context, data.data(), kStream).best;
  }();
  std::printf("read bandwidth   %.1f GB/s over %.2f GB\n", bandwidth / 1e9,
              static_cast<double>(kStream) / 1e9);
  std::printf("graph            %zu kernels, %s\n", sequence->graph_nodes(),
              sequence->is_fused() ? "fused" : "not all fused");

  if (sequence->is_fused()) time_parts(context, model, weights, bandwidth);

  const auto prompt = make_prompt(model, std::min<std::size_t>(2048, capacity - kDecoded));
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
    const double seconds = prefill_seconds(*sequence, std::span(prompt).first(count));
    std::printf("prefill %5zu    %.1f tokens/s\n", count, static_cast<double>(count) / seconds);
  }
  for (const std::size_t depth : {std::size_t{512}, std::size_t{2048}, std::size_t{4096}}) {
    if (depth + kDecoded > capacity) continue;
    if (sequence->length() < depth) {
      require(sequence->decode_greedy(1, depth - sequence->length()));
    }
    time_decode(*sequence, model, bandwidth, depth);
  }
  return 0;
}

int prefill_model(const std::string& path) {
  const Model model = require(Model::load(path));
  const cuda::Context context = require(cuda::Context::create());
  const cuda::DeviceModel weights = require(cuda::DeviceModel::upload(context, model));
  const std::size_t capacity = std::min(kCapacity, model.config().max_position_embeddings);
  const auto prompt = make_prompt(model, capacity);
  std::vector<std::unique_ptr<cuda::Sequence>> sequences;
  for (const PrefillAttention attention : kAllPrefillAttentions) {
    sequences.push_back(
        require(cuda::Sequence::create(context, model, weights, capacity, {attention})));
    require(sequences.back()->forward(prompt, {}));  // The longest call allocates for all.
  }
  for (std::size_t count = 1; count <= capacity; count *= 2) {
    std::printf("prefill %5zu   ", count);
    for (std::size_t i = 0; i < sequences.size(); ++i) {
      const double seconds = prefill_seconds(*sequences[i], std::span(prompt).first(count));
      std::printf(" %s attention %8.1f tokens/s, %9.1f us%s",
                  std::string(prefill_attention_name(kAllPrefillAttentions[i])).c_str(),
                  static_cast<double>(count) / seconds, 1e6 * seconds,
                  i + 1 < sequences.size() ? ";" : "\n");
    }
  }
  return 0;
}

int step_model(const std::string& path, std::size_t context_length) {
  const Model model = require(Model::load(path));
  const cuda::Context context = require(cuda::Context::create());
  const cuda::DeviceModel weights = require(cuda::DeviceModel::upload(context, model));
  auto sequence = require(cuda::Sequence::create(context, model, weights, context_length + 8));
  if (context_length > 0) {
    require(sequence->forward(std::vector<std::int32_t>(context_length, 7), {}));
  }
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
  if (command == "prefill" && argc == 3) return refute::prefill_model(argv[2]);
  if (command == "step" && argc >= 3) {
    return refute::step_model(argv[2], argc > 3 ? std::strtoul(argv[3], nullptr, 10) : 0);
  }
  std::fprintf(stderr,
               "cuda_bench synth PRESET FILE [LAYERS] | time FILE | prefill FILE |\n"
               "           step FILE [CONTEXT]\n");
  return 2;
}
