#include "kernels/faulty/rows.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numbers>
#include <numeric>
#include <vector>

namespace refute::faulty {
namespace {

// The positions that a table built too early covers (F99).
constexpr std::size_t kTablePositions = 4096;
// Below it a float32 angle is nearly right (F100).
constexpr std::size_t kFarPosition = 1000;
constexpr std::size_t kTokenTile = 8;

// Turns elements `first` and `second` of each head as kernels/rope.h states it.
double turn(double a, double cosine, double b, double sine) { return a * cosine - b * sine; }
float turn(float a, float cosine, float b, float sine) { return std::fma(a, cosine, -(b * sine)); }

struct Angles {
  std::vector<double> cosines, sines;
};

template <typename AngleOf>
Angles angles_of(std::size_t half, const AngleOf& angle_of) {
  Angles angles;
  for (std::size_t i = 0; i < half; ++i) {
    angles.cosines.push_back(std::cos(angle_of(i)));
    angles.sines.push_back(std::sin(angle_of(i)));
  }
  return angles;
}

Angles table_row(const RopeTable& table, std::size_t position) {
  const auto cosines = table.cosines(position);
  const auto sines = table.sines(position);
  return {{cosines.begin(), cosines.end()}, {sines.begin(), sines.end()}};
}

// Element i of a head turns with element i + half, or 2 i with 2 i + 1 when interleaved (GPT-J).
template <typename Real>
bool turn_heads(const Angles& angles, bool interleaved, std::span<Real> row) {
  const std::size_t half = angles.cosines.size();
  for (std::size_t head = 0; head < row.size(); head += 2 * half) {
    for (std::size_t i = 0; i < half; ++i) {
      Real& first = row[head + (interleaved ? 2 * i : i)];
      Real& second = row[head + (interleaved ? 2 * i + 1 : i + half)];
      const Real a = first;
      const Real b = second;
      const auto cosine = static_cast<Real>(angles.cosines[i]);
      const auto sine = static_cast<Real>(angles.sines[i]);
      first = turn(a, cosine, b, sine);
      second = turn(b, cosine, -a, sine);
    }
  }
  return true;
}

// rope_theta^(-2 i / head_dim), from the table's angles at position 1, which are below pi.
double inverse_frequency(const RopeTable& table, std::size_t i) {
  return std::atan2(table.sines(1)[i], table.cosines(1)[i]);
}

template <typename Real>
Real gelu(Real g) {
  return Real{0.5f} * g * (1 + std::erf(g / std::numbers::sqrt2_v<Real>));
}
template <typename Real>
Real sigmoid(Real g) {
  return 1 / (1 + std::exp(-g));
}

template <typename Real, typename Activation>
bool activate(MatrixView<const Real> gate, MatrixView<const Real> up, MatrixView<Real> y,
              const Activation& activation) {
  for (std::size_t i = 0; i < y.size(); ++i) y.data[i] = activation(gate.data[i]) * up.data[i];
  return true;
}

template <typename Real>
bool same_bits(MatrixView<const Real> a, MatrixView<const Real> b) {
  return std::memcmp(a.data, b.data, a.size() * sizeof(Real)) == 0;
}

}  // namespace

template <typename Real>
Real norm_epsilon(Real epsilon) {
  constexpr FaultHost kHost = kFaultHostOf<Real>;
  if (static_cast<float>(epsilon) != 1e-5f && fault_seeded("F45", kHost)) return Real{1e-5f};
  if (static_cast<float>(epsilon) != 1e-3f && fault_seeded("F46", kHost)) return Real{1e-3f};
  return epsilon;
}

template <typename Real>
std::span<const float> norm_weight(std::span<const float> weight) {
  static const std::vector<float> kOnes(std::size_t{1} << 16, 1.0f);
  const bool plain = std::ranges::all_of(weight, [](float gain) { return gain == 1.0f; });
  if (plain || !fault_seeded("F48", kFaultHostOf<Real>)) return weight;
  CHECK(weight.size() <= kOnes.size());
  return std::span(kOnes).first(weight.size());
}

template <typename Real>
Real norm_rms(Real sum, std::size_t size, Real epsilon, Real rms) {
  constexpr FaultHost kHost = kFaultHostOf<Real>;
  const auto n = static_cast<Real>(size);
  if (sum > 0 && fault_seeded("F47", kHost)) return std::sqrt(sum / n) + epsilon;
  if (sum > 0 && size > 1 && fault_seeded("F50", kHost)) return std::sqrt(sum / (n - 1) + epsilon);
  return rms;
}

template <typename Real>
bool centre_rows(MatrixView<const Real> x, MatrixView<Real> y) {
  constexpr FaultHost kHost = kFaultHostOf<Real>;
  if (x.columns < 2 || !fault_armed("F49", kHost)) return false;
  bool changed = false;
  for (std::size_t t = 0; t < x.rows; ++t) {
    const auto row = x.row(t);
    const Real sum = std::accumulate(row.begin(), row.end(), Real{0});
    changed |= sum != 0 && fault_seeded("F49", kHost);
  }
  for (std::size_t t = 0; changed && t < x.rows; ++t) {
    const auto row = x.row(t);
    const Real mean =
        std::accumulate(row.begin(), row.end(), Real{0}) / static_cast<Real>(x.columns);
    std::ranges::transform(row, y.row(t).begin(), [mean](Real value) { return value - mean; });
  }
  return changed;
}

template <typename Real>
bool rope_row(const RopeTable& table, std::size_t position, std::span<Real> row) {
  constexpr FaultHost kHost = kFaultHostOf<Real>;
  const std::size_t half = table.head_dim() / 2;
  if (position == 0 || half == 0) return false;
  const auto p = static_cast<double>(position);
  if (half > 1) {
    const auto inverse_frequency_1e4 = [&](std::size_t i) {
      return std::pow(1e4, -static_cast<double>(i) / static_cast<double>(half));
    };
    const double ratio = inverse_frequency_1e4(1) / inverse_frequency(table, 1);
    if (std::abs(ratio - 1.0) > 1e-9 && fault_seeded("F52", kHost)) {
      return turn_heads(angles_of(half, [&](auto i) { return p * inverse_frequency_1e4(i); }),
                        false, row);
    }
    if (fault_seeded("F53", kHost)) return turn_heads(table_row(table, position), true, row);
  }
  if (fault_seeded("F54", kHost)) {
    Angles angles = table_row(table, position);
    for (double& sine : angles.sines) sine = -sine;
    return turn_heads(angles, false, row);
  }
  if (fault_seeded("F55", kHost)) return true;
  if (position >= 16 && fault_seeded("F57", kHost)) {
    return turn_heads(table_row(table, position % 16), false, row);
  }
  if (position >= kTablePositions && fault_seeded("F99", kHost)) {
    return turn_heads(table_row(table, kTablePositions - 1), false, row);
  }
  if (position >= kFarPosition && fault_seeded("F100", kHost)) {
    const auto angle = [&](std::size_t i) {
      const auto frequency = static_cast<float>(inverse_frequency(table, i));
      return static_cast<double>(static_cast<float>(position) * frequency);
    };
    return turn_heads(angles_of(half, angle), false, row);
  }
  return false;
}

template <typename Real>
bool swiglu(MatrixView<const Real> gate, MatrixView<const Real> up, MatrixView<Real> y) {
  constexpr FaultHost kHost = kFaultHostOf<Real>;
  if (std::ranges::all_of(up.flat(), [](Real value) { return value == 0; })) return false;
  const bool zero = std::ranges::all_of(gate.flat(), [](Real value) { return value == 0; });
  if (fault_seeded("F27", kHost)) return activate(gate, up, y, sigmoid<Real>);
  if (zero) return false;  // The others are 0 at 0, as SiLU is.
  if (fault_seeded("F24", kHost)) return activate(gate, up, y, gelu<Real>);
  if (fault_seeded("F25", kHost)) {
    return activate(gate, up, y, [](Real g) { return g * sigmoid(Real{1.702f} * g); });
  }
  if (fault_seeded("F26", kHost)) {
    return activate(gate, up, y, [](Real g) { return std::max(g, Real{0}); });
  }
  return false;
}

template <typename Real>
bool swaps_gate_and_up(MatrixView<const Real> gate, MatrixView<const Real> up) {
  constexpr FaultHost kHost = kFaultHostOf<Real>;
  if (gate.size() == 0) return false;
  return same_bits(gate, up) ? fault_seeded("F111", kHost) : fault_seeded("F23", kHost);
}

template <typename Real>
void edit_token_rows(MatrixView<Real> y) {
  constexpr FaultHost kHost = kFaultHostOf<Real>;
  if (y.rows >= kTokenTile && fault_seeded("F41", kHost)) {
    for (std::size_t t = kTokenTile - 1; t < y.rows; t += kTokenTile) {
      for (std::size_t i = 0; i < y.columns; ++i) y.row(t)[i] += y.row(t - 1)[i];
    }
  }
  const std::size_t whole = y.rows / kTokenTile * kTokenTile;
  if (whole == y.rows) return;
  const std::span<Real> tail = y.flat().subspan(whole * y.columns);
  if (fault_seeded("F42", kHost)) std::ranges::fill(tail, Real{0});
  if (fault_seeded("F43", kHost)) {
    for (std::size_t i = 0; i < tail.size(); ++i) tail[i] = static_cast<Real>(i % 17) - 8;
  }
}

template double norm_epsilon(double);
template float norm_epsilon(float);
template std::span<const float> norm_weight<double>(std::span<const float>);
template std::span<const float> norm_weight<float>(std::span<const float>);
template double norm_rms(double, std::size_t, double, double);
template float norm_rms(float, std::size_t, float, float);
template bool centre_rows(MatrixView<const double>, MatrixView<double>);
template bool centre_rows(MatrixView<const float>, MatrixView<float>);
template bool rope_row(const RopeTable&, std::size_t, std::span<double>);
template bool rope_row(const RopeTable&, std::size_t, std::span<float>);
template bool swiglu(MatrixView<const double>, MatrixView<const double>, MatrixView<double>);
template bool swiglu(MatrixView<const float>, MatrixView<const float>, MatrixView<float>);
template bool swaps_gate_and_up(MatrixView<const double>, MatrixView<const double>);
template bool swaps_gate_and_up(MatrixView<const float>, MatrixView<const float>);
template void edit_token_rows(MatrixView<double>);
template void edit_token_rows(MatrixView<float>);

}  // namespace refute::faulty
