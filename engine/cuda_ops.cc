#include "engine/cuda_ops.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "engine/cuda_buffers.h"
#include "engine/cuda_weights.h"
#include "engine/faulty/device.h"
#include "engine/forward_cuda.h"
#include "kernels/cuda/faulty.h"
#include "kernels/cuda/ops.h"
#include "kernels/faults.h"
#include "kernels/route.h"

namespace refute::cuda {
namespace {

// Operands on the device: host arrays, and room for results.
class Operands {
 public:
  explicit Operands(const Context& context) : context_(context) {}

  // Null after an error, which error() keeps.
  template <typename T>
  T* upload(std::span<const T> from) {
    T* const to = reserve<T>(from.size());
    if (to != nullptr) context_.to_device(from.data(), from.size(), to);
    return to;
  }
  template <typename T>
  T* reserve(std::size_t size) {
    if (!ok_) return nullptr;
    // At least one byte, so that an empty array has an address.
    auto memory = DeviceBuffer<std::uint8_t>::allocate(size * sizeof(T) + 1, "operands");
    if (!memory) {
      ok_ = memory.error();
      return nullptr;
    }
    memory_.push_back(*std::move(memory));
    return reinterpret_cast<T*>(memory_.back().data());
  }
  const Result<void>& ok() const { return ok_; }
  Result<Matrix<float>> download(const float* from, std::size_t rows, std::size_t columns) const {
    Matrix<float> result(rows, columns);
    context_.to_host(from, result.size(), result.data());
    return result;
  }

 private:
  const Context& context_;
  std::vector<DeviceBuffer<std::uint8_t>> memory_;
  Result<void> ok_;
};

}  // namespace

Result<Matrix<float>> embed_host(const Context& context, const WeightView& embed_tokens,
                                 std::span<const std::int32_t> tokens) {
  WeightUpload upload;
  const std::size_t number = upload.add(embed_tokens);
  auto weights = upload.run(context, "embed_tokens");
  if (!weights) return weights.error();
  Operands operands(context);
  const auto* ids = operands.upload(tokens);
  auto* y = operands.reserve<float>(tokens.size() * embed_tokens.columns);
  if (!operands.ok()) return operands.ok().error();
  if constexpr (kFaultSites) {
    if (refute::faulty::embed(context, embed_tokens, ids, tokens.size(), y)) {
      return operands.download(y, tokens.size(), embed_tokens.columns);
    }
  }
  embed(context, weights->matrix(number), ids, tokens.size(), y);
  return operands.download(y, tokens.size(), embed_tokens.columns);
}

Result<Matrix<float>> rms_norm_host(const Context& context, const Matrix<float>& x,
                                    std::span<const float> weight, float epsilon) {
  Operands operands(context);
  auto* rows = operands.upload(x.flat());
  const auto* gains = operands.upload(weight);
  if (!operands.ok()) return operands.ok().error();
  norm_rows(context, rows, gains, x.rows(), x.columns(), epsilon, rows);
  return operands.download(rows, x.rows(), x.columns());
}

Result<Matrix<float>> rope_host(const Context& context, const RopeTable& table,
                                std::size_t num_heads, std::size_t first_position,
                                const Matrix<float>& x) {
  Operands operands(context);
  const auto position = static_cast<std::int32_t>(first_position);
  const auto* cosines = operands.upload(table.all_cosines_f32());
  const auto* sines = operands.upload(table.all_sines_f32());
  const auto* first = operands.upload(std::span(&position, 1));
  auto* rows = operands.upload(x.flat());
  if (!operands.ok()) return operands.ok().error();
  if constexpr (kFaultSites) {
    if (refute::faulty::rope(context, table, first_position, x.rows(), num_heads, rows)) {
      return operands.download(rows, x.rows(), x.columns());
    }
  }
  rope(context, cosines, sines, first, x.rows(), num_heads, table.head_dim(), rows);
  return operands.download(rows, x.rows(), x.columns());
}

Result<Matrix<float>> attention_host(const Context& context, const AttentionShape& shape,
                                     const Matrix<float>& q, const Matrix<std::uint16_t>& k,
                                     const Matrix<std::uint16_t>& v, std::size_t first_position) {
  if (shape.head_dim > kMaxHeadDim) {
    return Error{ErrorKind::kUnsupported, "attention head_dim",
                 "at most " + std::to_string(kMaxHeadDim) + " (cuda)",
                 std::to_string(shape.head_dim)};
  }
  Operands operands(context);
  const auto position = static_cast<std::int32_t>(first_position);
  const auto* queries = operands.upload(q.flat());
  const auto* keys = operands.upload(k.flat());
  const auto* values = operands.upload(v.flat());
  const auto* first = operands.upload(std::span(&position, 1));
  auto* y = operands.reserve<float>(q.size());
  if (!operands.ok()) return operands.ok().error();
  if constexpr (kFaultSites) {
    if (refute::faulty::attention(context, shape, queries, keys, values, first_position, q.rows(),
                                  y)) {
      return operands.download(y, q.rows(), q.columns());
    }
  }
  attention(context, shape, queries, keys, values, first, q.rows(), y);
  return operands.download(y, q.rows(), q.columns());
}

Result<Routing<float>> route_host(const Context& context, const Matrix<float>& logits,
                                  std::size_t num_experts_per_tok, bool norm_topk_prob) {
  const std::size_t k = num_experts_per_tok;
  if constexpr (kFaultSites) {
    if (auto wrong = refute::faulty::route(logits, k, norm_topk_prob)) return *std::move(wrong);
  }
  Routing<float> routing{{logits.rows(), k}, {logits.rows(), k}};
  if (logits.rows() == 0) return routing;
  // The host's function names what is wrong with a shape or a logit.
  const auto on_host = [&](std::size_t t) {
    return refute::route<float>(logits.row(t), norm_topk_prob, routing.ids.row(t),
                                routing.weights.row(t));
  };
  if (k == 0 || k > logits.columns()) return on_host(0).error();
  Operands operands(context);
  const std::uint64_t none = kNoError;
  const auto* rows = operands.upload(logits.flat());
  auto* ids = operands.reserve<std::int32_t>(routing.ids.size());
  auto* weights = operands.reserve<float>(routing.weights.size());
  auto* error = operands.upload(std::span(&none, 1));
  if (!operands.ok()) return operands.ok().error();
  route(context, rows, logits.rows(), logits.columns(), k, norm_topk_prob, nullptr, 0, ids, weights,
        error);
  std::uint64_t found = kNoError;
  context.to_host(error, 1, &found);
  if (found != kNoError) {
    const auto said = on_host(static_cast<std::size_t>((found >> 20) & 0xfffffff));
    CHECK(!said);
    return said.error();
  }
  context.to_host(ids, routing.ids.size(), routing.ids.data());
  context.to_host(weights, routing.weights.size(), routing.weights.data());
  return routing;
}

Result<Matrix<float>> swiglu_host(const Context& context, const Matrix<float>& gate,
                                  const Matrix<float>& up) {
  Operands operands(context);
  auto* y = operands.upload(gate.flat());
  const auto* other = operands.upload(up.flat());
  if (!operands.ok()) return operands.ok().error();
  if constexpr (kFaultSites) {
    if (refute::faulty::swiglu(context, y, other, gate.rows(), gate.columns(), y)) {
      return operands.download(y, gate.rows(), gate.columns());
    }
  }
  swiglu(context, y, other, gate.size(), y);
  return operands.download(y, gate.rows(), gate.columns());
}

Result<Matrix<float>> combine_host(const Context& context, const Matrix<float>& expert_out,
                                   const Matrix<float>& weight) {
  Operands operands(context);
  const auto* outs = operands.upload(expert_out.flat());
  const auto* weights = operands.upload(weight.flat());
  auto* y = operands.reserve<float>(weight.rows() * expert_out.columns());
  if (!operands.ok()) return operands.ok().error();
  if constexpr (kFaultSites) {
    const auto wrong = refute::faulty::combine(expert_out, weight);
    if (wrong) return *wrong;
    if (weight.columns() > 2 && fault_seeded("F82", FaultHost::kCuda)) {
      faulty::combine_with_atomics(context, outs, weights, weight.rows(), weight.columns(),
                                   expert_out.columns(), y);
      return operands.download(y, weight.rows(), expert_out.columns());
    }
  }
  combine(context, outs, weights, weight.rows(), weight.columns(), expert_out.columns(), y);
  return operands.download(y, weight.rows(), expert_out.columns());
}

Result<Matrix<float>> add_host(const Context& context, const Matrix<float>& a,
                               const Matrix<float>& b) {
  Operands operands(context);
  auto* y = operands.upload(a.flat());
  const auto* other = operands.upload(b.flat());
  if (!operands.ok()) return operands.ok().error();
  add(context, y, other, a.size(), y);
  return operands.download(y, a.rows(), a.columns());
}

}  // namespace refute::cuda
