#include "engine/trace.h"

#include <array>

namespace refute {
namespace {

struct PointInfo {
  TracePoint point;
  std::string_view name;
  bool per_layer;
};

constexpr std::array<PointInfo, 24> kPoints = {{
    {TracePoint::kEmbedding, "embedding", false},
    {TracePoint::kAttnNorm, "attn_norm", true},
    {TracePoint::kQ, "q", true},
    {TracePoint::kK, "k", true},
    {TracePoint::kV, "v", true},
    {TracePoint::kQNorm, "q_norm", true},
    {TracePoint::kKNorm, "k_norm", true},
    {TracePoint::kQRope, "q_rope", true},
    {TracePoint::kKRope, "k_rope", true},
    {TracePoint::kAttnHeads, "attn_heads", true},
    {TracePoint::kAttnOut, "attn_out", true},
    {TracePoint::kAttnResidual, "attn_residual", true},
    {TracePoint::kFfnNorm, "ffn_norm", true},
    {TracePoint::kRouterLogits, "router_logits", true},
    {TracePoint::kRouterIndex, "router_index", true},
    {TracePoint::kRouterWeight, "router_weight", true},
    {TracePoint::kExpertGate, "expert_gate", true},
    {TracePoint::kExpertUp, "expert_up", true},
    {TracePoint::kExpertSwiglu, "expert_swiglu", true},
    {TracePoint::kExpertOut, "expert_out", true},
    {TracePoint::kMoeOut, "moe_out", true},
    {TracePoint::kFfnResidual, "ffn_residual", true},
    {TracePoint::kOutputNorm, "output_norm", false},
    {TracePoint::kLogits, "logits", false},
}};

constexpr auto kPointOrder = [] {
  std::array<TracePoint, kPoints.size()> order{};
  for (std::size_t i = 0; i < kPoints.size(); ++i) order[i] = kPoints[i].point;
  return order;
}();

const PointInfo& info(TracePoint point) {
  const auto index = static_cast<std::size_t>(point);
  CHECK(index < kPoints.size());
  CHECK(kPoints[index].point == point);
  return kPoints[index];
}

}  // namespace

std::span<const TracePoint> all_trace_points() { return kPointOrder; }
std::string_view trace_point_name(TracePoint point) { return info(point).name; }
bool is_per_layer(TracePoint point) { return info(point).per_layer; }

std::optional<TracePoint> parse_trace_point(std::string_view name) {
  for (const PointInfo& candidate : kPoints) {
    if (candidate.name == name) return candidate.point;
  }
  return std::nullopt;
}

std::string TraceSite::name() const {
  const std::string text(trace_point_name(point));
  return is_per_layer(point) ? "blk." + std::to_string(layer) + "." + text : text;
}

template <typename T>
void TraceRecorder::append(TraceSite site, std::size_t first_position, TraceElement element,
                           MatrixView<const T> rows) {
  const auto [entry, inserted] = tensors_.try_emplace(site);
  TraceTensor& tensor = entry->second;
  if (inserted) {
    order_.push_back(site);
    tensor.element = element;
    tensor.first_position = first_position;
  }
  CHECK(tensor.element == element);
  CHECK(inserted || tensor.values.columns() == rows.columns);
  std::vector<double> values;
  values.reserve(tensor.values.size() + rows.size());
  values.insert(values.end(), tensor.values.flat().begin(), tensor.values.flat().end());
  values.insert(values.end(), rows.flat().begin(), rows.flat().end());
  const std::size_t total_rows = tensor.values.rows() + rows.rows;
  tensor.values = Matrix<double>(total_rows, rows.columns, std::move(values));
}

void TraceRecorder::record(TraceSite site, std::size_t first_position,
                           MatrixView<const double> rows) {
  append(site, first_position, TraceElement::kFloat64, rows);
}

void TraceRecorder::record(TraceSite site, std::size_t first_position,
                           MatrixView<const float> rows) {
  append(site, first_position, TraceElement::kFloat32, rows);
}

void TraceRecorder::record(TraceSite site, std::size_t first_position,
                           MatrixView<const std::int32_t> rows) {
  append(site, first_position, TraceElement::kInt32, rows);
}

const TraceTensor* TraceRecorder::find(TraceSite site) const {
  const auto entry = tensors_.find(site);
  return entry == tensors_.end() ? nullptr : &entry->second;
}

void TraceRecorder::clear() {
  order_.clear();
  tensors_.clear();
}

}  // namespace refute
