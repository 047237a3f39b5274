// Everything that decides a sample is built from IEEE 754 double additions, multiplications,
// divisions and exact scalings: library exp and std:: distributions differ between platforms.
#include "engine/sampler.h"

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <vector>

namespace refute {
namespace {

struct Candidate {
  std::int32_t id;
  float logit;
  double weight;  // Probability relative to that of the highest logit, in [0, 1].
};

bool ranks_before(const Candidate& left, const Candidate& right) {
  return left.logit > right.logit || (left.logit == right.logit && left.id < right.id);
}

// sum * 2^n for sum in (1/2, 2) and n <= 0, rounded where it is subnormal.
double scale_by_power(double sum, double n) {
  if (n < -1021.0) return std::ldexp(sum, static_cast<int>(n));
  return sum * std::bit_cast<double>((std::uint64_t{1023} << 52) -
                                     (static_cast<std::uint64_t>(-n) << 52));
}

// exp(x) for kTogether values x <= 0 in place, relative error of a few 1e-16: exp(x) = 2^n exp(r),
// |r| <= ln(2) / 2, and Taylor's series for exp(r) up to r^13 / 13!, whose remainder is below
// 5e-18. Several at once, because one value's divisions wait for each other.
constexpr std::size_t kTogether = 16;
void exp_nonpositive(std::array<double, kTogether>& x) {
  constexpr double kLeast = -745.0;  // exp is below half of the smallest positive double.
  constexpr double kInverseLn2 = 1.4426950408889634;
  constexpr double kLn2High = 6.93147180369123816490e-01;  // 32 bits, so that n * high is exact.
  constexpr double kLn2Low = 1.90821492927058770002e-10;
  // Adding it rounds to an integer, the even one of two.
  constexpr double kRound = 0x1.8p52;
  std::array<double, kTogether> n, r, sum;
  for (std::size_t i = 0; i < kTogether; ++i) {
    const double at = x[i] > kLeast ? x[i] : kLeast;
    n[i] = (at * kInverseLn2 + kRound) - kRound;
    r[i] = (at - n[i] * kLn2High) - n[i] * kLn2Low;
    sum[i] = 1.0;
  }
  for (int term = 13; term >= 1; --term) {
    for (std::size_t i = 0; i < kTogether; ++i) {
      sum[i] = 1.0 + sum[i] * r[i] / static_cast<double>(term);
    }
  }
  for (std::size_t i = 0; i < kTogether; ++i) {
    x[i] = x[i] > kLeast ? scale_by_power(sum[i], n[i]) : 0.0;
  }
}

void weigh(double highest, double temperature, std::vector<Candidate>& candidates) {
  for (std::size_t first = 0; first < candidates.size(); first += kTogether) {
    const std::size_t count = std::min(kTogether, candidates.size() - first);
    std::array<double, kTogether> x{};
    for (std::size_t i = 0; i < count; ++i) {
      x[i] = (static_cast<double>(candidates[first + i].logit) - highest) / temperature;  // <= 0
    }
    exp_nonpositive(x);
    for (std::size_t i = 0; i < count; ++i) candidates[first + i].weight = x[i];
  }
}

double total_weight(const std::vector<Candidate>& candidates) {
  double total = 0;
  for (const Candidate& candidate : candidates) total += candidate.weight;
  return total;
}

void keep_top_k(std::size_t top_k, std::vector<Candidate>& candidates) {
  if (top_k == 0 || top_k >= candidates.size()) return;
  const auto end = candidates.begin() + static_cast<std::ptrdiff_t>(top_k);
  std::partial_sort(candidates.begin(), end, candidates.end(), ranks_before);
  candidates.erase(end, candidates.end());
}

void keep_top_p(double top_p, std::vector<Candidate>& candidates) {
  if (top_p >= 1) return;
  const double wanted = top_p * total_weight(candidates);
  // A heap yields only as many ranks as are kept, of vocabularies of 10^5.
  const auto ranks_after = [](const Candidate& left, const Candidate& right) {
    return ranks_before(right, left);
  };
  std::make_heap(candidates.begin(), candidates.end(), ranks_after);
  std::vector<Candidate> kept;
  double mass = 0;
  do {
    std::pop_heap(candidates.begin(), candidates.end(), ranks_after);
    kept.push_back(candidates.back());
    candidates.pop_back();
    mass += kept.back().weight;
  } while (mass < wanted && !candidates.empty());
  candidates = std::move(kept);
}

void keep_min_p(double min_p, std::vector<Candidate>& candidates) {
  // The highest rank is never filtered out, and its weight is exactly 1.
  std::erase_if(candidates,
                [min_p](const Candidate& candidate) { return candidate.weight < min_p; });
}

// The candidate at `uniform`, in [0, 1), of the way through their mass.
std::int32_t choose(double uniform, const std::vector<Candidate>& candidates) {
  const double wanted = uniform * total_weight(candidates);
  double mass = 0;
  std::int32_t chosen = candidates.front().id;
  for (const Candidate& candidate : candidates) {
    if (candidate.weight == 0) continue;
    chosen = candidate.id;  // Stays at the last one if rounding leaves mass == wanted.
    mass += candidate.weight;
    if (mass > wanted) break;
  }
  return chosen;
}

// The index of the highest logit, the lowest index where they are equal.
Result<std::size_t> find_highest(std::span<const float> logits) {
  if (logits.empty() || logits.size() > std::numeric_limits<std::int32_t>::max()) {
    return Error{ErrorKind::kInvalidShape, "sample logits", "between 1 and 2^31 - 1 logits",
                 std::to_string(logits.size())};
  }
  std::size_t highest = 0;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    if (std::isnan(logits[i]) || logits[i] == std::numeric_limits<float>::infinity()) {
      return Error{ErrorKind::kNonFinite, "sample logits[" + std::to_string(i) + "]",
                   "a finite number or -Inf", std::isnan(logits[i]) ? "NaN" : "+Inf"};
    }
    if (logits[i] > logits[highest]) highest = i;
  }
  if (std::isinf(logits[highest])) {
    return Error{ErrorKind::kNonFinite, "sample logits", "at least one finite number",
                 "-Inf everywhere"};
  }
  return highest;
}

std::string number_text(double value) {
  std::array<char, 32> text;
  const auto result = std::to_chars(text.data(), text.data() + text.size(), value);
  return std::string(text.data(), result.ptr);
}

Result<void> check_fraction(const char* name, double value) {
  if (value >= 0 && value <= 1) return {};
  return Error{ErrorKind::kUnsupported, std::string("sampling option ") + name,
               "a number in [0, 1]", number_text(value)};
}

}  // namespace

Result<Sampler> Sampler::create(const SamplingOptions& options) {
  if (!(options.temperature >= 0) || std::isinf(options.temperature)) {
    return Error{ErrorKind::kUnsupported, "sampling option temperature",
                 "a finite number that is not negative", number_text(options.temperature)};
  }
  if (Result<void> checked = check_fraction("top_p", options.top_p); !checked) {
    return checked.error();
  }
  if (Result<void> checked = check_fraction("min_p", options.min_p); !checked) {
    return checked.error();
  }
  return Sampler(options);
}

Result<std::int32_t> Sampler::sample(std::span<const float> logits) {
  const Result<std::size_t> highest = find_highest(logits);
  if (!highest) return highest.error();
  if (options_.temperature == 0) return static_cast<std::int32_t>(*highest);

  std::vector<Candidate> candidates(logits.size());
  for (std::size_t i = 0; i < logits.size(); ++i) {
    candidates[i] = {static_cast<std::int32_t>(i), logits[i], 0.0};
  }
  keep_top_k(options_.top_k, candidates);
  weigh(static_cast<double>(logits[*highest]), options_.temperature, candidates);
  keep_top_p(options_.top_p, candidates);
  keep_min_p(options_.min_p, candidates);
  return choose(next_uniform(), candidates);
}

// The top 53 bits of SplitMix64 (Steele, Lea and Flood, 2014), in [0, 1).
double Sampler::next_uniform() {
  state_ += 0x9E3779B97F4A7C15;
  std::uint64_t bits = state_;
  bits = (bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9;
  bits = (bits ^ (bits >> 27)) * 0x94D049BB133111EB;
  bits ^= bits >> 31;
  return std::ldexp(static_cast<double>(bits >> 11), -53);
}

}  // namespace refute
