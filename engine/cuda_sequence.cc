#include "engine/cuda_sequence.h"

#include <algorithm>
#include <string>
#include <utility>

#include "engine/arguments.h"
#include "engine/faulty/device.h"
#include "engine/faulty/layer.h"
#include "engine/prefill_cuda.h"
#include "kernels/faults.h"

namespace refute::cuda {
namespace {

constexpr FaultHost kHost = FaultHost::kCuda;
// Taken where there is no token, by F124.
constexpr std::int32_t kTokenZero[] = {0};

// Tokens that a call of the plain path works on at a time. Results don't depend on it.
constexpr std::size_t kMaxCallTokens = 2048;
// Tokens of a call that are decoded one by one where one kernel runs all layers: as many as cost no
// more than prefill does, whose kernels read the experts of 8 tokens no faster than those of 64.
constexpr std::size_t kMaxDecodedTokens = 7;
// Rows of logits that are in device memory at a time.
constexpr std::size_t kMaxLogitRows = 64;
// Tokens of one kernel: what lies between two kernels no longer counts, and whoever shares the
// device waits for a tenth of a second or little more.
constexpr std::size_t kMostTokens = 64;

// The buffers of a call with room for as many rows of logits as are worked on at a time.
struct CallMemory {
  CallBuffers call;
  float* logits = nullptr;

  static CallMemory take(Arena& arena, const Config& config, std::size_t num_tokens) {
    CallMemory memory;
    memory.call = CallBuffers::take(arena, config, num_tokens);
    memory.logits = arena.take<float>(std::min(num_tokens, kMaxLogitRows) * config.vocab_size);
    return memory;
  }
};

}  // namespace

std::size_t Sequence::bytes_for(const Config& config, std::size_t capacity) {
  Arena count;
  SequenceBuffers::take(count, config, capacity);
  return count.used();
}

Sequence::Sequence(const Context& context, const Model& model, const DeviceModel& weights,
                   std::size_t capacity, const CudaOptions& options)
    : context_(context),
      model_(model),
      weights_(weights),
      capacity_(capacity),
      options_(options),
      shape_(decode_shape(model.config(), capacity)) {}

Sequence::~Sequence() {
  if (graph_ != nullptr) CUDA_CHECK(cudaGraphExecDestroy(graph_));
}

Result<std::unique_ptr<Sequence>> Sequence::create(const Context& context, const Model& model,
                                                   const DeviceModel& weights, std::size_t capacity,
                                                   const CudaOptions& options) {
  const std::size_t head_dim = model.config().head_dim;
  if (head_dim > kMaxHeadDim) {
    return Error{ErrorKind::kUnsupported, "open_session head_dim",
                 "at most " + std::to_string(kMaxHeadDim) + " (cuda)", std::to_string(head_dim)};
  }
  if (options.prefill_attention == PrefillAttention::kTensor &&
      !can_prefill(context, model.config(), weights.layers())) {
    return Error{ErrorKind::kUnsupported, "open_session attention on tensor cores",
                 "what prefill's kernels cover (head_dim 128, 8 query heads a key-value head, "
                 "weights of Q4_K and Q6_K, a router of F32)",
                 "head_dim " + std::to_string(head_dim) + ", " +
                     std::to_string(model.config().num_attention_heads) + " and " +
                     std::to_string(model.config().num_key_value_heads) + " heads"};
  }
  std::unique_ptr<Sequence> sequence(new Sequence(context, model, weights, capacity, options));
  if (auto ok = sequence->allocate(); !ok) return ok.error();
  return sequence;
}

Result<void> Sequence::allocate() {
  const Config& config = model_.config();
  auto memory = DeviceBuffer<std::uint8_t>::allocate(bytes_for(config, capacity_), "a sequence");
  if (!memory) return memory.error();
  memory_ = *std::move(memory);
  // After the device's memory, which is where too many positions are refused.
  rope_table_ = RopeTable(config.rope_theta, config.head_dim, capacity_);
  Arena arena(memory_.data());
  buffers_ = SequenceBuffers::take(arena, config, capacity_);
  decode_ = decode_buffers(buffers_);
  auto state = PinnedBuffer<DecodeState>::allocate(1, "a sequence");
  if (!state) return state.error();
  host_state_ = *std::move(state);
  auto logits = PinnedBuffer<float>::allocate(config.vocab_size, "logits");
  if (!logits) return logits.error();
  host_logits_ = *std::move(logits);

  const auto cosines = rope_table_.all_cosines_f32();
  const auto sines = rope_table_.all_sines_f32();
  context_.to_device(cosines.data(), cosines.size(), buffers_.cosines);
  context_.to_device(sines.data(), sines.size(), buffers_.sines);
  return {};
}

void Sequence::rollback(std::size_t length) {
  CHECK(length <= length_);
  length_ = length;
}

void Sequence::poison_unused() {
  const auto poison = [&](void* at, std::size_t bytes) {
    CUDA_CHECK(cudaMemsetAsync(at, 0xFF, bytes, context_.stream()));
  };
  const std::size_t columns = shape_.heads.key_value_size();
  for (std::size_t layer = 0; layer < weights_.layers().size(); ++layer) {
    const LayerCache cache = buffers_.layer_cache(layer);
    for (std::uint16_t* tensor : {cache.k, cache.v}) {
      poison(tensor + length_ * columns, (capacity_ - length_) * columns * sizeof(std::uint16_t));
    }
  }
  // Everything behind the tables is written anew by every call.
  auto* const workspace = reinterpret_cast<std::uint8_t*>(buffers_.state);
  poison(workspace, static_cast<std::size_t>(memory_.data() + memory_.size() - workspace));
  if (buffers_.scratch != nullptr) {
    poison(buffers_.scratch, attention_scratch(shape_.heads, capacity_) * sizeof(float));
  }
  if (call_memory_.size() > 0) poison(call_memory_.data(), call_memory_.size());
  context_.synchronize();
}

Result<void> Sequence::reserve_call(std::size_t num_tokens) {
  if (num_tokens <= call_tokens_) return {};
  Arena count;
  CallMemory::take(count, model_.config(), num_tokens);
  call_memory_ = {};
  call_tokens_ = 0;
  auto memory = DeviceBuffer<std::uint8_t>::allocate(
      count.used(), "buffers of a call of " + std::to_string(num_tokens) + " tokens");
  if (!memory) return memory.error();
  call_memory_ = *std::move(memory);
  Arena arena(call_memory_.data());
  const CallMemory laid_out = CallMemory::take(arena, model_.config(), num_tokens);
  call_ = laid_out.call;
  call_logits_ = laid_out.logits;
  call_tokens_ = num_tokens;
  if constexpr (kFaultSites) {
    // The sequence moves too, and the graph keeps pointing at where it was.
    if (graph_ != nullptr && fault_seeded("F85", kHost)) {
      faulty::move_memory(context_, memory_);
      Arena moved(memory_.data());
      buffers_ = SequenceBuffers::take(moved, model_.config(), capacity_);
      decode_ = decode_buffers(buffers_);
    }
  }
  return {};
}

void Sequence::write_state(std::int32_t token, std::size_t position) {
  DecodeState& state = *host_state_.data();
  state = {};
  state.token = token;
  state.position = static_cast<std::int32_t>(position);
  CUDA_CHECK(cudaMemcpyAsync(buffers_.state, &state, sizeof(state), cudaMemcpyHostToDevice,
                             context_.stream()));
}

PlainCache Sequence::plain_cache(std::size_t layer) const {
  return {buffers_.layer_cache(layer), &rope_table_, buffers_.cosines, buffers_.sines};
}

bool Sequence::is_fused() const {
  return std::ranges::all_of(weights_.layers(),
                             [&](const DeviceLayer& layer) { return can_fuse(shape_, layer); }) &&
         can_fuse_lm_head(shape_, weights_.lm_head());
}

void Sequence::embed_tokens(const std::int32_t* tokens, std::size_t num_tokens, float* hidden) {
  if constexpr (kFaultSites) {
    if (faulty::embed(context_, model_.embed_tokens(), tokens, num_tokens, hidden)) return;
  }
  embed(context_, weights_.embed_tokens(), tokens, num_tokens, hidden);
}

bool Sequence::is_persistent() const { return can_persist(context_, shape_, weights_.layers()); }

DecodeEnds Sequence::ends() const {
  return {weights_.embed_tokens(), weights_.norm(), weights_.lm_head(), buffers_.chosen};
}

// All layers of a token. Those that the fused kernels don't cover run the plain ones.
void Sequence::launch_layers(DecodePath path) {
  const CallBuffers& call = buffers_.call;
  const std::span<const DeviceLayer> layers = weights_.layers();
  const bool leaves_out = path == DecodePath::kReplay && fault_seeded("F130", kHost);
  if (path == DecodePath::kReplay && persistent_layers_.size() > 0 && !leaves_out) {
    decode_layers(context_, shape_, layers, persistent_layers_.data(), exchange_.data(), decode_);
    return;
  }
  const PlainCall plain{context_, model_.config(), 1,       length_,
                        call,     buffers_.state,  nullptr, DeviceTrace(context_, nullptr, 0),
                        false};
  for (std::size_t i = 0; i < layers.size(); ++i) {
    const bool is_last = i + 1 == layers.size();
    if (can_fuse(shape_, layers[i])) {
      decode_layer(context_, shape_, layers[i], buffers_.layer_cache(i), i, decode_,
                   is_last && leaves_out ? kAllParts & ~kPartDown : kAllParts);
    } else if (!(is_last && leaves_out)) {
      const Result<void> ok =
          run_plain_layer(plain, model_.layers()[i], layers[i], i, plain_cache(i));
      CHECK(ok);
    }
  }
}

// One token, from state->token to the next one.
void Sequence::launch_decode(DecodePath path) {
  const CallBuffers& call = buffers_.call;
  if (path == DecodePath::kReplay && most_tokens_ > 0 && !fault_seeded("F130", kHost)) {
    launch_tokens(1);
    return;
  }
  embed_tokens(&buffers_.state->token, 1, call.hidden);
  launch_layers(path);
  const DeviceMatrix& lm_head = weights_.lm_head();
  if (can_fuse_lm_head(shape_, lm_head)) {
    decode_lm_head(context_, shape_, weights_.norm(), lm_head, decode_);
  } else {
    norm_rows(context_, call.hidden, weights_.norm(), 1, shape_.hidden_size, shape_.rms_norm_eps,
              call.norm);
    matmul(context_, model_.lm_head(), lm_head, call.norm, 1, call.norm_activations,
           buffers_.logits);
  }
  argmax_step(context_, buffers_.logits, model_.config().vocab_size, buffers_.partial,
              buffers_.state, buffers_.chosen);
}

// The same for up to most_tokens_ tokens, without anything of the host between them.
void Sequence::launch_tokens(std::size_t num_tokens) {
  embed_tokens(&buffers_.state->token, 1, buffers_.call.hidden);
  decode_tokens(context_, shape_, weights_.layers(), persistent_layers_.data(), exchange_.data(),
                decode_, ends(), num_tokens);
}

Result<void> Sequence::upload_persistent_layers() {
  std::vector<PersistentLayer> layers;
  for (std::size_t i = 0; i < weights_.layers().size(); ++i) {
    layers.push_back(persistent_layer(weights_.layers()[i], buffers_.layer_cache(i)));
  }
  auto on_device = DeviceBuffer<PersistentLayer>::allocate(layers.size(), "a graph of one token");
  if (!on_device) return on_device.error();
  const std::size_t words = exchange_words(shape_);
  auto exchange = DeviceBuffer<std::uint64_t>::allocate(words, "a graph of one token");
  if (!exchange) return exchange.error();
  context_.to_device(layers.data(), layers.size(), on_device->data());
  CUDA_CHECK(
      cudaMemsetAsync(exchange->data(), 0, words * sizeof(std::uint64_t), context_.stream()));
  persistent_layers_ = *std::move(on_device);
  exchange_ = *std::move(exchange);
  most_tokens_ = most_persistent_tokens(context_, shape_, weights_.layers(), ends());
  most_tokens_ = std::min(most_tokens_, kMostTokens);
  // A seeded fault changes what the host launches for every token.
  if constexpr (kFaultSites) most_tokens_ = std::min(most_tokens_, std::size_t{1});
  return {};
}

Result<void> Sequence::build_graph() {
  if (graph_ != nullptr) return {};
  if (is_persistent()) {
    if (auto ok = upload_persistent_layers(); !ok) return ok.error();
  }
  const std::uint64_t before = context_.launches();
  cudaGraph_t graph = nullptr;
  CUDA_CHECK(cudaStreamBeginCapture(context_.stream(), cudaStreamCaptureModeThreadLocal));
  launch_decode(DecodePath::kReplay);
  CUDA_CHECK(cudaStreamEndCapture(context_.stream(), &graph));
  // Captured, not launched.
  context_.count_launches(before - context_.launches());
  CUDA_CHECK(cudaGraphGetNodes(graph, nullptr, &graph_nodes_));
  const cudaError_t error = cudaGraphInstantiate(&graph_, graph, 0);
  CUDA_CHECK(cudaGraphDestroy(graph));
  if (error == cudaErrorMemoryAllocation) {
    (void)cudaGetLastError();
    graph_ = nullptr;
    return out_of_memory("a graph of one token", 0);
  }
  CUDA_CHECK(error);
  return {};
}

Result<Matrix<float>> Sequence::decode(std::int32_t token, bool use_graph) {
  if (use_graph) {
    if (auto ok = build_graph(); !ok) return ok.error();
  }
  write_state(token, length_);
  if (use_graph) {
    CUDA_CHECK(cudaGraphLaunch(graph_, context_.stream()));
    context_.count_launches(graph_nodes_);
  } else {
    launch_decode(DecodePath::kFused);
  }
  const std::size_t vocab_size = model_.config().vocab_size;
  CUDA_CHECK(cudaMemcpyAsync(host_logits_.data(), buffers_.logits, vocab_size * sizeof(float),
                             cudaMemcpyDeviceToHost, context_.stream()));
  CUDA_CHECK(cudaMemcpyAsync(host_state_.data(), buffers_.state, sizeof(DecodeState),
                             cudaMemcpyDeviceToHost, context_.stream()));
  context_.synchronize();
  // What was not finite, and where, is found by the plain path.
  if (host_state_.data()->failed != 0 || host_state_.data()->cache_failed != 0)
    return run_plain({&token, 1}, {}, true);
  length_ += 1;
  return Matrix<float>(1, vocab_size, {host_logits_.data(), host_logits_.data() + vocab_size});
}

Result<std::vector<std::int32_t>> Sequence::decode_greedy(std::int32_t token, std::size_t count) {
  const std::vector<std::int32_t> placeholders(count, token);
  std::vector<std::int32_t> likeliest(count);
  if (count == 0) return likeliest;
  if (auto ok = check_forward(model_, rope_table_, placeholders, length_, capacity_, {}); !ok) {
    return ok.error();
  }
  if (auto ok = build_graph(); !ok) return ok.error();
  write_state(token, length_);
  // All at once: those behind a launch that fails still run a token each.
  if (most_tokens_ > 1) {
    for (std::size_t i = 0; i < count; i += most_tokens_) {
      launch_tokens(std::min(most_tokens_, count - i));
    }
  } else {
    for (std::size_t i = 0; i < count; ++i) CUDA_CHECK(cudaGraphLaunch(graph_, context_.stream()));
    context_.count_launches(count * graph_nodes_);
  }
  DecodeState state;
  context_.to_host(buffers_.state, 1, &state);
  if (state.failed == 0) {
    likeliest.back() = state.token;
    if (count > 1) context_.to_host(buffers_.chosen, count - 1, likeliest.data());
    length_ += count;
    return likeliest;
  }
  // The token that failed, once more by the plain path, for its error; the length stays.
  const std::size_t held = length_;
  length_ += static_cast<std::size_t>(state.step);
  const auto again = run_plain({&state.token, 1}, {}, true);
  length_ = held;
  CHECK(!again);
  return again.error();
}

Result<Matrix<float>> Sequence::forward(std::span<const std::int32_t> tokens,
                                        const ForwardOptions& options) {
  const bool wraps = tokens.size() > capacity_ - length_ && tokens.size() <= capacity_;
  if (wraps && fault_seeded("F107", kHost)) rollback(0);
  if (tokens.empty() && fault_seeded("F124", kHost)) tokens = kTokenZero;
  if (auto ok = check_forward(model_, rope_table_, tokens, length_, capacity_, options); !ok) {
    return ok.error();
  }
  if (options.executed != nullptr) options.executed->clear();
  bool plain = tokens.size() > 1 || options.trace != nullptr || options.forced_routes != nullptr;
  if constexpr (kFaultSites) {
    if (!plain && faulty::asks_both_paths()) {
      const std::size_t held = length_;
      (void)run_plain(tokens, options, false);
      length_ = held;
    }
    plain = plain || faulty::needs_plain_path();
  }
  auto logits = !plain || decodes(tokens.size(), options)
                    ? decode_all(tokens, options)
                    : run_plain(tokens, options, options.trace != nullptr);
  if (logits && options.executed != nullptr) {
    options.executed->assign(weights_.layers().size(), BackendId::kCuda);
    if (fault_seeded("F87", kHost)) options.executed->front() = BackendId::kOracle;
  }
  return logits;
}

bool Sequence::decodes(std::size_t num_tokens, const ForwardOptions& options) const {
  if constexpr (kFaultSites) return false;
  // Not those that another attention than decoding's is asked for.
  const bool is_exact =
      options_.prefill_attention == PrefillAttention::kExact || num_tokens < kMinPrefillTokens;
  return is_exact && num_tokens <= kMaxDecodedTokens && options.logit_rows == LogitRows::kLast &&
         options.trace == nullptr && options.forced_routes == nullptr && is_persistent();
}

// The logits of the last token. Where one fails, the error is that of the call as a whole.
Result<Matrix<float>> Sequence::decode_all(std::span<const std::int32_t> tokens,
                                           const ForwardOptions& options) {
  const std::size_t held = length_;
  const auto one_by_one = [&]() -> Result<Matrix<float>> {
    for (const std::int32_t token : tokens.first(tokens.size() - 1)) {
      // Its logits stay where they are.
      if (auto ok = decode_greedy(token, 1); !ok) return ok.error();
    }
    return decode(tokens.back(), true);
  };
  auto logits = one_by_one();
  if (logits || tokens.size() == 1) return logits;
  length_ = held;
  return run_plain(tokens, options, true);
}

Result<Matrix<float>> Sequence::run_plain(std::span<const std::int32_t> tokens,
                                          const ForwardOptions& options, bool check_layers) {
  const Config& config = model_.config();
  // Calls as even as may be: none is left with a few tokens.
  const std::size_t most =
      takes_prefill(tokens.size(), options, check_layers) ? kMaxPrefillTokens : kMaxCallTokens;
  const std::size_t calls = (tokens.size() + most - 1) / most;
  const std::size_t call_tokens = (tokens.size() + calls - 1) / calls;
  if (auto ok = reserve_call(call_tokens); !ok) return ok.error();
  std::vector<float> logits;
  std::size_t num_rows = 0;
  std::size_t columns = config.vocab_size;
  const auto append = [&](std::size_t row, std::size_t rows, std::size_t position) {
    const Matrix<float> part =
        compute_logits(call_.hidden + row * config.hidden_size, rows, position + row, options);
    logits.insert(logits.end(), part.flat().begin(), part.flat().end());
    num_rows += rows;
    columns = part.columns();
  };
  for (std::size_t first = 0; first < tokens.size(); first += call_tokens) {
    const auto chunk = tokens.subspan(first, std::min(call_tokens, tokens.size() - first));
    const std::size_t position = length_ + first;
    if (auto ok = run_chunk(chunk, position, options, check_layers); !ok) return ok.error();
    if (!check_layers) {
      DecodeState state;
      context_.to_host(buffers_.state, 1, &state);
      // Again from the start of the call, asking every layer, for the error of the first one.
      if (state.router_error != kNoError || state.cache_failed != 0) {
        return run_plain(tokens, options, true);
      }
    }
    const bool is_last = first + chunk.size() == tokens.size();
    if (options.logit_rows == LogitRows::kAll) {
      for (std::size_t row = 0; row < chunk.size(); row += kMaxLogitRows) {
        append(row, std::min(kMaxLogitRows, chunk.size() - row), position);
      }
    } else if (is_last) {
      append(chunk.size() - 1, 1, position);
    }
  }
  const Matrix<float> result(num_rows, columns, std::move(logits));
  if (auto ok = check_finite("logits", result.view()); !ok) return ok.error();
  length_ += tokens.size();
  return result;
}

// Whether nothing asks for what only the plain path has: trace points, forced routes, the first
// layer that is wrong, fault sites.
bool Sequence::takes_prefill(std::size_t num_tokens, const ForwardOptions& options,
                             bool check_layers) const {
  if (num_tokens < kMinPrefillTokens || check_layers || options.trace != nullptr ||
      options.forced_routes != nullptr) {
    return false;
  }
  if constexpr (kFaultSites) {
    if (faulty::needs_plain_path() || faulty::asks_both_paths()) return false;
  }
  return can_prefill(context_, model_.config(), weights_.layers());
}

Result<void> Sequence::run_chunk(std::span<const std::int32_t> tokens, std::size_t position,
                                 const ForwardOptions& options, bool check_layers) {
  const Config& config = model_.config();
  const DeviceTrace trace(context_, options.trace, position);
  write_state(tokens.front(), position);
  context_.to_device(tokens.data(), tokens.size(), call_.tokens);
  embed_tokens(call_.tokens, tokens.size(), call_.hidden);
  trace(TracePoint::kEmbedding, 0, call_.hidden, tokens.size(), config.hidden_size);

  if (takes_prefill(tokens.size(), options, check_layers)) {
    run_prefill_layers(
        {context_, config, tokens.size(), call_, buffers_, options_.prefill_attention},
        weights_.layers());
    return {};
  }
  const PlainCall call{context_,    config,         tokens.size(),         position,
                       call_,       buffers_.state, options.forced_routes, trace,
                       check_layers};
  const MatrixShape rows{tokens.size(), config.hidden_size};
  for (std::size_t layer = 0; layer < weights_.layers().size(); ++layer) {
    auto ok = check_moe_ffn_forward_layer(config, model_.layers()[layer], layer, position, rows,
                                          rows, options);
    if (!ok) return in_layer(layer, ok.error());
    ok = run_plain_layer(call, model_.layers()[layer], weights_.layers()[layer], layer,
                         plain_cache(layer));
    if (!ok) return ok;
  }
  return {};
}

// Logits of num_rows rows of hidden, the first of them at `position`.
Matrix<float> Sequence::compute_logits(const float* hidden, std::size_t num_rows,
                                       std::size_t position, const ForwardOptions& options) {
  const Config& config = model_.config();
  const DeviceTrace trace(context_, options.trace, position);
  const float* output_norm = hidden;
  if (!fault_seeded("F51", kHost)) {
    norm_rows(context_, hidden, weights_.norm(), num_rows, config.hidden_size, config.rms_norm_eps,
              call_.norm);
    output_norm = call_.norm;
  }
  trace(TracePoint::kOutputNorm, 0, output_norm, num_rows, config.hidden_size);
  const bool takes_embedding = !config.tie_word_embeddings && fault_seeded("F106", kHost);
  const WeightView& on_host = takes_embedding ? model_.embed_tokens() : model_.lm_head();
  const DeviceMatrix& lm_head = takes_embedding ? weights_.embed_tokens() : weights_.lm_head();
  matmul(context_, on_host, lm_head, output_norm, num_rows, call_.norm_activations, call_logits_);
  Matrix<float> logits(num_rows, config.vocab_size);
  context_.to_host(call_logits_, logits.size(), logits.data());
  if constexpr (kFaultSites) {
    faulty::in_place_of_cpu([&] { faulty::edit_logits(logits); });
  }
  trace(TracePoint::kLogits, 0, logits);
  return logits;
}

std::size_t Sequence::graph_nodes() {
  const Result<void> ok = build_graph();
  CHECK(ok);
  return graph_nodes_;
}

std::uint64_t Sequence::launches_without_graph() {
  const std::uint64_t before = context_.launches();
  write_state(0, length_);
  // What a replay launches, where that is another path than the one that checks it.
  launch_decode(persistent_layers_.size() > 0 ? DecodePath::kReplay : DecodePath::kFused);
  context_.synchronize();
  return context_.launches() - before;
}

Result<Matrix<float>> Sequence::decode_without_graph(std::int32_t token) {
  if (auto ok = check_forward(model_, rope_table_, {&token, 1}, length_, capacity_, {}); !ok) {
    return ok.error();
  }
  if constexpr (kFaultSites) {
    if (faulty::needs_plain_path()) return run_plain({&token, 1}, {}, false);
  }
  return decode(token, false);
}

}  // namespace refute::cuda
