// Trace points: the named intermediate results of a forward pass, the same on every backend and in
// the same order. Tracing is a sink that may be absent; there is one forward body, traced or not.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/matrix.h"

namespace refute {

// In the order in which a forward pass records them (per layer from kAttnNorm to kFfnResidual).
// Shapes are [num_tokens, ...] unless said otherwise; expert rows stand in order of (token, rank).
enum class TracePoint {
  kEmbedding,     // [hidden_size]
  kAttnNorm,      // [hidden_size]
  kQ,             // [num_attention_heads * head_dim]
  kK,             // [num_key_value_heads * head_dim]
  kV,             // [num_key_value_heads * head_dim]
  kQNorm,         // as kQ
  kKNorm,         // as kK
  kQRope,         // as kQ
  kKRope,         // as kK, before it is rounded into the cache
  kAttnHeads,     // as kQ
  kAttnOut,       // [hidden_size], after o_proj
  kAttnResidual,  // [hidden_size]
  kFfnNorm,       // [hidden_size]
  kRouterLogits,  // [num_experts]
  kRouterIndex,   // [num_experts_per_tok], int32
  kRouterWeight,  // [num_experts_per_tok]
  kExpertGate,    // [num_tokens * num_experts_per_tok, moe_intermediate_size]
  kExpertUp,      // the same
  kExpertSwiglu,  // the same
  kExpertOut,     // [num_tokens * num_experts_per_tok, hidden_size]
  kMoeOut,        // [hidden_size]
  kFfnResidual,   // [hidden_size]
  kOutputNorm,    // [hidden_size], of the tokens whose logits were asked for
  kLogits,        // [vocab_size], of the same tokens
};

std::span<const TracePoint> all_trace_points();
std::string_view trace_point_name(TracePoint point);  // "attn_norm"
std::optional<TracePoint> parse_trace_point(std::string_view name);
bool is_per_layer(TracePoint point);

// Where a captured tensor comes from.
struct TraceSite {
  TracePoint point = TracePoint::kEmbedding;
  std::size_t layer = 0;  // 0 for points outside of layers.

  auto operator<=>(const TraceSite&) const = default;
  std::string name() const;  // "blk.3.moe_out", "logits"
};

class TraceSink {
 public:
  virtual ~TraceSink() = default;
  // first_position: of the rows' first token. The view is valid during the call only.
  virtual void record(TraceSite site, std::size_t first_position,
                      MatrixView<const double> rows) = 0;
  virtual void record(TraceSite site, std::size_t first_position, MatrixView<const float> rows) = 0;
  virtual void record(TraceSite site, std::size_t first_position,
                      MatrixView<const std::int32_t> rows) = 0;
};

// The recording side of one call of a forward pass: does nothing without a sink.
//
//   const TraceCall record{options.trace, position};
//   record(TracePoint::kAttnNorm, layer, attn_norm);
struct TraceCall {
  TraceSink* sink;
  std::size_t first_position;

  template <typename T>
  void operator()(TracePoint point, std::size_t layer, MatrixView<const T> rows) const {
    if (sink != nullptr) sink->record({point, layer}, first_position, rows);
  }
  template <typename T>
  void operator()(TracePoint point, std::size_t layer, const Matrix<T>& rows) const {
    (*this)(point, layer, rows.view());
  }
};

enum class TraceElement { kFloat64, kFloat32, kInt32 };

// A captured tensor. Every element type is held exactly in float64.
struct TraceTensor {
  TraceElement element = TraceElement::kFloat64;
  std::size_t first_position = 0;
  Matrix<double> values;
};

// Keeps everything that is recorded. A site recorded again (a later chunk of the same sequence)
// gets the new rows appended.
class TraceRecorder : public TraceSink {
 public:
  void record(TraceSite site, std::size_t first_position, MatrixView<const double> rows) override;
  void record(TraceSite site, std::size_t first_position, MatrixView<const float> rows) override;
  void record(TraceSite site, std::size_t first_position,
              MatrixView<const std::int32_t> rows) override;

  // In the order of recording.
  const std::vector<TraceSite>& order() const { return order_; }
  const std::map<TraceSite, TraceTensor>& tensors() const { return tensors_; }
  // Null when the site was not recorded.
  const TraceTensor* find(TraceSite site) const;
  void clear();

 private:
  template <typename T>
  void append(TraceSite site, std::size_t first_position, TraceElement element,
              MatrixView<const T> rows);

  std::vector<TraceSite> order_;
  std::map<TraceSite, TraceTensor> tensors_;
};

}  // namespace refute
