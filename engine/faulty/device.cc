#include "engine/faulty/device.h"

#include <algorithm>
#include <functional>
#include <span>
#include <utility>
#include <vector>

#include "engine/faulty/layer.h"
#include "engine/trace.h"
#include "kernels/attention.h"
#include "kernels/combine.h"
#include "kernels/cuda/faulty.h"
#include "kernels/embed.h"
#include "kernels/matmul.h"
#include "kernels/quant/half.h"
#include "kernels/rms_norm.h"
#include "kernels/route.h"
#include "kernels/swiglu.h"

namespace refute::faulty {
namespace {

constexpr FaultHost kHost = FaultHost::kCuda;

// Faults of the graph, or of what it reads.
constexpr FaultId kGraphFaults[] = {"F84", "F85", "F130"};

// Faults that each op of the CPU has sites for: it is not asked for others, which costs time. A
// fault that is missing here is one that tests/faults does not see on CUDA.
constexpr FaultId kNorm[] = {"F45", "F46", "F47", "F48", "F49", "F50"};
constexpr FaultId kProduct[] = {"F1",  "F2",  "F3",  "F4",  "F5",  "F6",  "F7",  "F8",
                                "F9",  "F10", "F11", "F12", "F75", "F76", "F83", "F90",
                                "F91", "F92", "F93", "F94", "F95", "F96"};
constexpr FaultId kRope[] = {"F52", "F53", "F54", "F55", "F57", "F99", "F100"};
constexpr FaultId kAttention[] = {"F56", "F61", "F62", "F63", "F65",
                                  "F66", "F67", "F68", "F70", "F105"};
constexpr FaultId kCache[] = {"F64", "F101", "F122"};
constexpr FaultId kSwiglu[] = {"F23", "F24", "F25", "F26", "F27", "F111"};
constexpr FaultId kCombine[] = {"F41", "F42", "F43"};
constexpr FaultId kRoute[] = {"F22",  "F28",  "F29",  "F30",  "F31",  "F32", "F33",
                              "F34",  "F35",  "F36",  "F37",  "F38",  "F97", "F104",
                              "F109", "F114", "F115", "F116", "F120", "F123"};
constexpr FaultId kQuery[] = {"F102"};
// Of the block itself, beside those of its ops.
constexpr FaultId kBlock[] = {"F13", "F14", "F15", "F16", "F17",   "F18",  "F19",  "F20",  "F21",
                              "F40", "F79", "F81", "F98", "F107a", "F112", "F113", "F118", "F119"};

bool any_armed(std::span<const FaultId> faults) {
  return std::ranges::any_of(faults, [](FaultId id) { return fault_armed(id, kHost); });
}
bool any_armed_of_block() {
  return any_armed(kProduct) || any_armed(kSwiglu) || any_armed(kCombine) || any_armed(kRoute) ||
         any_armed(kBlock);
}

constexpr unsigned kLateMicroseconds = 50'000;

const cpu::Context& cpu_context() {
  static const Result<cpu::Context> context = cpu::Context::create(1);
  CHECK(context.has_value());
  return *context;
}

// Hands a block's trace points to the sink of the call.
void replay(const TraceRecorder& recorded, std::size_t first_position, TraceSink& sink) {
  for (const TraceSite& site : recorded.order()) {
    const TraceTensor& tensor = *recorded.find(site);
    const auto record = [&]<typename T>(T) {
      Matrix<T> rows(tensor.values.rows(), tensor.values.columns());
      std::ranges::transform(tensor.values.flat(), rows.data(),
                             [](double value) { return static_cast<T>(value); });
      sink.record(site, first_position, std::as_const(rows).view());
    };
    if (tensor.element == TraceElement::kInt32) {
      record(std::int32_t{});
    } else {
      record(float{});
    }
  }
}

Matrix<float> download(const cuda::Context& context, const float* from, std::size_t rows,
                       std::size_t columns) {
  Matrix<float> copy(rows, columns);
  context.to_host(from, copy.size(), copy.data());
  return copy;
}

// What `op` gives with the fault; empty where no site of it is reached.
using CpuOp = std::function<void(const cpu::Context& cpu, MatrixView<float> y)>;
std::optional<Matrix<float>> stand_in(std::size_t rows, std::size_t columns, const CpuOp& op) {
  const CpuStandsInForCuda scope;
  Matrix<float> y(rows, columns);
  op(cpu_context(), y.view());
  if (scope.hits() == 0) return std::nullopt;
  return y;
}

// The same for a result in device memory; whether it has been put there.
bool stand_in(const cuda::Context& context, std::size_t rows, std::size_t columns, const CpuOp& op,
              float* y) {
  const auto result = stand_in(rows, columns, op);
  if (!result) return false;
  context.to_device(result->data(), result->size(), y);
  return true;
}

Matrix<std::uint16_t> download_rows(const cuda::Context& context, const std::uint16_t* from,
                                    std::size_t rows, std::size_t columns) {
  Matrix<std::uint16_t> copy(rows, columns);
  context.to_host(from, copy.size(), copy.data());
  return copy;
}

// Not while kernels are recorded into a graph: nothing can be read from the device then.
bool asks(const cuda::Context& context) {
  if (!any_fault_armed(kHost)) return false;
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  CUDA_CHECK(cudaStreamIsCapturing(context.stream(), &status));
  return status == cudaStreamCaptureStatusNone;
}

}  // namespace

bool needs_plain_path() { return any_fault_armed(kHost) && !any_armed(kGraphFaults); }

bool asks_both_paths() { return fault_armed("F85", kHost) && fault_armed("F130", kHost); }

void edit_query_on_device(const cuda::Context& context, const Config& config,
                          std::size_t num_tokens, float* q) {
  if (!asks(context) || !any_armed(kQuery)) return;
  Matrix<float> copy = download(context, q, num_tokens, config.attention_shape().query_size());
  const CpuStandsInForCuda scope;
  edit_query(config, copy);
  if (scope.hits() > 0) context.to_device(copy.data(), copy.size(), q);
}

std::optional<Matrix<float>> combine(const Matrix<float>& expert_out, const Matrix<float>& weight) {
  if (!any_armed(kCombine)) return std::nullopt;
  return stand_in(weight.rows(), expert_out.columns(),
                  [&](const cpu::Context& cpu, MatrixView<float> result) {
                    cpu::combine(cpu, expert_out.view(), weight.view(), result);
                  });
}

void in_place_of_cpu(const std::function<void()>& edit) {
  const CpuStandsInForCuda scope;
  edit();
}

void move_memory(const cuda::Context& context, cuda::DeviceBuffer<std::uint8_t>& buffer) {
  static std::vector<cuda::DeviceBuffer<std::uint8_t>> left_behind;
  auto moved = cuda::DeviceBuffer<std::uint8_t>::allocate(buffer.size(), "a moved sequence");
  CHECK(moved.has_value());
  CUDA_CHECK(cudaMemcpyAsync(moved->data(), buffer.data(), buffer.size(), cudaMemcpyDeviceToDevice,
                             context.stream()));
  context.synchronize();
  left_behind.push_back(std::move(buffer));
  buffer = *std::move(moved);
}

void arrive_late(const cuda::Context& context, const cuda::DeviceBuffer<std::uint8_t>& buffer) {
  // Page-locked, so that the copy is asynchronous; kept, because nobody waits for it.
  static std::vector<cuda::PinnedBuffer<std::uint8_t>> on_their_way;
  auto staged = cuda::PinnedBuffer<std::uint8_t>::allocate(buffer.size(), "late weights");
  CHECK(staged.has_value());
  context.to_host(buffer.data(), buffer.size(), staged->data());
  CUDA_CHECK(cudaMemsetAsync(buffer.data(), 0, buffer.size(), context.stream()));
  context.synchronize();
  cuda::Stream other;
  CUDA_CHECK(cudaStreamCreateWithFlags(&other.handle, cudaStreamNonBlocking));
  cuda::faulty::delay(other, kLateMicroseconds);
  CUDA_CHECK(cudaMemcpyAsync(buffer.data(), staged->data(), buffer.size(), cudaMemcpyHostToDevice,
                             other.handle));
  on_their_way.push_back(*std::move(staged));
}

bool rms_norm(const cuda::Context& context, const float* x, const float* weight,
              std::size_t num_rows, std::size_t size, float epsilon, float* y) {
  if (!asks(context) || num_rows == 0) return false;
  if (size > 32 && fault_seeded("F77", kHost)) {
    cuda::faulty::rms_norm_without_barrier(context, x, weight, num_rows, size, epsilon, y);
    return true;
  }
  if (size > 32 && size % 32 != 0 && fault_seeded("F78", kHost)) {
    cuda::faulty::rms_norm_with_divergent_tail(context, x, weight, num_rows, size, epsilon, y);
    return true;
  }
  if (!any_armed(kNorm)) return false;
  const Matrix<float> input = download(context, x, num_rows, size);
  const Matrix<float> gains = download(context, weight, 1, size);
  return stand_in(
      context, num_rows, size,
      [&](const cpu::Context& cpu, MatrixView<float> result) {
        cpu::rms_norm(cpu, input.view(), gains.flat(), epsilon, result);
      },
      y);
}

bool matmul(const cuda::Context& context, const WeightView& weight, const float* x,
            std::size_t num_tokens, float* y) {
  if (!asks(context) || !any_armed(kProduct)) return false;
  const Matrix<float> input = download(context, x, num_tokens, weight.columns);
  return stand_in(
      context, num_tokens, weight.rows,
      [&](const cpu::Context& cpu, MatrixView<float> result) {
        cpu::matmul(cpu, weight, input.view(), result);
      },
      y);
}

bool embed(const cuda::Context& context, const WeightView& embed_tokens, const std::int32_t* tokens,
           std::size_t num_tokens, float* y) {
  if (!asks(context) || !any_armed(kProduct)) return false;
  std::vector<std::int32_t> ids(num_tokens);
  context.to_host(tokens, num_tokens, ids.data());
  return stand_in(
      context, num_tokens, embed_tokens.columns,
      [&](const cpu::Context&, MatrixView<float> result) {
        refute::embed<float>(embed_tokens, ids, result);
      },
      y);
}

bool rope(const cuda::Context& context, const RopeTable& table, std::size_t first_position,
          std::size_t num_tokens, std::size_t num_heads, float* x) {
  if (!asks(context) || !any_armed(kRope)) return false;
  const std::size_t columns = num_heads * table.head_dim();
  const Matrix<float> input = download(context, x, num_tokens, columns);
  return stand_in(
      context, num_tokens, columns,
      [&](const cpu::Context& cpu, MatrixView<float> rows) {
        std::ranges::copy(input.flat(), rows.data);
        cpu::rope(cpu, table, num_heads, first_position, rows);
      },
      x);
}

bool attention(const cuda::Context& context, const AttentionShape& shape, const float* q,
               const std::uint16_t* k, const std::uint16_t* v, std::size_t first_position,
               std::size_t num_tokens, float* y) {
  if (!asks(context) || num_tokens == 0) return false;
  if (fault_seeded("F86", kHost)) {
    cuda::faulty::launch_with_too_much_shared(context, y);
    return true;
  }
  if (!any_armed(kAttention)) return false;
  const std::size_t kv_len = first_position + num_tokens;
  const Matrix<float> queries = download(context, q, num_tokens, shape.query_size());
  const auto keys = download_rows(context, k, kv_len, shape.key_value_size());
  const auto values = download_rows(context, v, kv_len, shape.key_value_size());
  return stand_in(
      context, num_tokens, shape.query_size(),
      [&](const cpu::Context& cpu, MatrixView<float> result) {
        cpu::attention(cpu, shape, queries.view(), keys.view(), values.view(), first_position,
                       result);
      },
      y);
}

bool append_to_cache(const cuda::Context& context, const float* x, std::size_t first_position,
                     std::size_t num_tokens, std::size_t columns, std::uint16_t* cache) {
  if (!asks(context) || !any_armed(kCache)) return false;
  const Matrix<float> input = download(context, x, num_tokens, columns);
  Matrix<std::uint16_t> rows = download_rows(context, cache, first_position + num_tokens, columns);
  const CpuStandsInForCuda scope;
  for (std::size_t t = 0; t < num_tokens; ++t) {
    std::vector<std::uint16_t> row(columns);
    std::ranges::transform(input.row(t), row.begin(), half_from_float);
    if (append_row<float, std::uint16_t>(first_position + t, input.row(t), row, rows)) continue;
    std::ranges::copy(row, rows.row(first_position + t).begin());
  }
  if (scope.hits() == 0) return false;
  context.to_device(rows.row(first_position).data(), num_tokens * columns,
                    cache + first_position * columns);
  return true;
}

std::optional<Result<Routing<float>>> route(const Matrix<float>& logits,
                                            std::size_t num_experts_per_tok, bool norm_topk_prob) {
  if (!any_armed(kRoute)) return std::nullopt;
  const std::size_t rows = logits.rows();
  Routing<float> routing{{rows, num_experts_per_tok}, {rows, num_experts_per_tok}};
  const CpuStandsInForCuda scope;
  Result<void> ok;
  for (std::size_t t = 0; ok && t < rows; ++t) {
    ok = refute::route<float>(logits.row(t), norm_topk_prob, routing.ids.row(t),
                              routing.weights.row(t));
  }
  if (scope.hits() == 0) return std::nullopt;
  if (!ok) return Result<Routing<float>>(ok.error());
  return Result<Routing<float>>(std::move(routing));
}

bool swiglu(const cuda::Context& context, const float* gate, const float* up, std::size_t rows,
            std::size_t columns, float* y) {
  if (!asks(context) || !any_armed(kSwiglu)) return false;
  const Matrix<float> gates = download(context, gate, rows, columns);
  const Matrix<float> ups = download(context, up, rows, columns);
  return stand_in(
      context, rows, columns,
      [&](const cpu::Context& cpu, MatrixView<float> result) {
        cpu::swiglu(cpu, gates.view(), ups.view(), result);
      },
      y);
}

Result<bool> moe(const cuda::Context& context, const Config& config, const LayerWeights& layer,
                 std::size_t layer_index, std::size_t first_position, std::size_t num_tokens,
                 const float* x, const ForwardOptions& options, float* y) {
  if (!asks(context)) return false;
  if (!any_armed_of_block() && !fault_armed("F87", kHost)) return false;
  const Matrix<float> input = download(context, x, num_tokens, config.hidden_size);
  if (layer_index == 0 && fault_seeded("F87", kHost)) {
    Matrix<float> by_oracle(num_tokens, config.hidden_size);
    const auto done = moe_on_oracle(config, layer, layer_index, first_position, input.view(),
                                    options, by_oracle.view());
    if (!done) return done.error();
    context.to_device(by_oracle.data(), by_oracle.size(), y);
    return true;
  }
  if (!any_armed_of_block()) return false;
  Matrix<float> output(num_tokens, config.hidden_size);
  TraceRecorder recorder;
  ForwardOptions with_recorder = options;
  with_recorder.trace = options.trace == nullptr ? nullptr : &recorder;
  const CpuStandsInForCuda scope;
  const auto ok =
      cpu::moe_ffn_forward_layer(cpu_context(), config, layer, layer_index, first_position,
                                 input.view(), with_recorder, output.view());
  if (scope.hits() == 0) return false;
  if (!ok) return ok.error();
  if (options.trace != nullptr) replay(recorder, first_position, *options.trace);
  context.to_device(output.data(), output.size(), y);
  return true;
}

}  // namespace refute::faulty
