#include "engine/faulty/layer.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <vector>

#include "kernels/quant/half.h"

namespace refute::faulty {
namespace {

double value_of(double cached) { return cached; }
double value_of(std::uint16_t cached) { return static_cast<double>(float_from_half(cached)); }

// Whether a row of the cache holds what an earlier token left: not the zeros of a new cache, nor
// the NaN of a poisoned one.
template <typename Cached>
bool was_written(std::span<const Cached> row) {
  bool zero = true;
  for (const Cached value : row) {
    if (std::isnan(value_of(value))) return false;
    zero &= value_of(value) == 0.0;
  }
  return !zero;
}

template <typename Real>
bool too_large(Real value) {
  return std::isfinite(value) && std::abs(value) >= Real{65520.0f};
}

}  // namespace

template <typename Real>
void edit_routing(Routing<Real>& routing) {
  const std::size_t rows = routing.ids.rows();
  if (rows < 2 || !fault_seeded("F118", kFaultHostOf<Real>)) return;
  for (std::size_t t = 1; t < rows; t += 2) {
    std::ranges::copy(routing.ids.row(t - 1), routing.ids.row(t).begin());
    std::ranges::copy(routing.weights.row(t - 1), routing.weights.row(t).begin());
  }
}

void edit_grouping(FaultHost host, std::size_t num_experts, SlotGrouping& grouping) {
  auto& groups = grouping.experts;
  if (groups.empty()) return;
  const std::size_t capacity = 2 * ((grouping.slots.size() + num_experts - 1) / num_experts);
  for (ExpertGroup& group : groups) {
    const bool overflows = group.end - group.begin > capacity;
    if (overflows && fault_seeded("F119", host)) group.end = group.begin + capacity;
  }
  // The first expert without tokens takes the row before its own first one, which is the last row
  // of the expert before it; before all of them stands the last.
  if (groups.size() == num_experts || !fault_seeded("F98", host)) return;
  std::size_t empty = 0;
  while (empty < groups.size() && groups[empty].expert == empty) ++empty;
  ExpertGroup& before = empty > 0 ? groups[empty - 1] : groups.back();
  --before.end;
  groups.push_back({empty, before.end, before.end + 1});
}

template <typename Real>
void edit_moe_out(MatrixView<Real> y) {
  if (y.rows == 0 || !fault_seeded("F20", kFaultHostOf<Real>)) return;
  const std::size_t column = y.columns / 2;
  for (std::size_t t = 0; t < y.rows; ++t) y.row(t)[column] = Real{0};
}

template <typename Real, typename Cached>
bool append_row(std::size_t position, std::span<const Real> exact, std::span<const Cached> x,
                Matrix<Cached>& cache) {
  constexpr FaultHost kHost = kFaultHostOf<Real>;
  const std::span<Cached> slot = cache.row(position);
  if (was_written<Cached>(slot) && !std::ranges::equal(slot, x) && fault_seeded("F122", kHost)) {
    return true;
  }
  if (position > 0 && position % 8 == 0 && fault_seeded("F64", kHost)) {
    std::ranges::copy(cache.row(position - 1), slot.begin());
    return true;
  }
  // The exact oracle's cache is float64 and cannot overflow.
  if constexpr (std::is_same_v<Real, float>) {
    if (std::ranges::any_of(exact, too_large<Real>) && fault_seeded("F101", FaultHost::kCpu)) {
      for (std::size_t i = 0; i < exact.size(); ++i) {
        slot[i] = too_large(exact[i]) ? half_from_float(exact[i] / 65536.0f) : x[i];
      }
      return true;
    }
  }
  return false;
}

float wrapped_half(float value) {
  if (!too_large(value) || !fault_seeded("F101", FaultHost::kCpu)) return value;
  return value / 65536.0f;
}

template <typename Real>
void edit_query(const Config& config, Matrix<Real>& q) {
  const std::size_t assumed = config.hidden_size / config.num_attention_heads;
  if (assumed == 0 || assumed == config.head_dim) return;
  if (!fault_seeded("F102", kFaultHostOf<Real>)) return;
  const Real ratio = std::sqrt(static_cast<Real>(config.head_dim) / static_cast<Real>(assumed));
  for (Real& value : q.flat()) value *= ratio;
}

template <typename Real>
void edit_logits(Matrix<Real>& logits) {
  constexpr FaultHost kHost = kFaultHostOf<Real>;
  if (logits.size() == 0) return;
  if (fault_seeded("F71", kHost)) {
    for (Real& logit : logits.flat()) logit *= 2;
  }
  if (fault_seeded("F72", kHost)) {
    for (Real& logit : logits.flat()) logit += 3;
  }
  if (fault_seeded("F73", kHost)) {
    const std::size_t row = logits.columns() / 3;
    for (std::size_t t = 0; t < logits.rows(); ++t) logits(t, row) = -logits(t, row);
  }
  if (fault_seeded("F74", kHost)) {
    // Every second call, as a race comes and goes.
    static std::atomic<unsigned> calls = 0;
    if (calls++ % 2 == 0) logits(logits.rows() - 1, 0) += Real{0.05f};
  }
  if (logits.columns() % 64 != 0 && fault_seeded("F125", kHost)) {
    Matrix<Real> padded(logits.rows(), (logits.columns() + 63) / 64 * 64);
    for (std::size_t t = 0; t < logits.rows(); ++t) {
      std::ranges::copy(logits.row(t), padded.row(t).begin());
    }
    logits = padded;
  }
}

Result<void> moe_on_oracle(const Config& config, const LayerWeights& layer, std::size_t layer_index,
                           std::size_t first_position, MatrixView<const float> x,
                           const ForwardOptions& options, MatrixView<float> y) {
  const Matrix<double> input(x.rows, x.columns, {x.flat().begin(), x.flat().end()});
  Matrix<double> output(y.rows, y.columns);
  auto ok =
      oracle::moe_ffn_forward_layer(ActivationScheme::kEmulatedInt8, config, layer, layer_index,
                                    first_position, input.view(), options, output.view());
  std::ranges::transform(output.flat(), y.data,
                         [](double value) { return static_cast<float>(value); });
  return ok;
}

template void edit_routing(Routing<double>&);
template void edit_routing(Routing<float>&);
template void edit_moe_out(MatrixView<double>);
template void edit_moe_out(MatrixView<float>);
template bool append_row(std::size_t, std::span<const double>, std::span<const double>,
                         Matrix<double>&);
template bool append_row(std::size_t, std::span<const float>, std::span<const std::uint16_t>,
                         Matrix<std::uint16_t>&);
template void edit_query(const Config&, Matrix<double>&);
template void edit_query(const Config&, Matrix<float>&);
template void edit_logits(Matrix<double>&);
template void edit_logits(Matrix<float>&);

}  // namespace refute::faulty
