// How a cost grows: a straight line and a power through measured points.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "validators/bench/measure.h"

namespace refute {

struct Line {
  double intercept = 0.0;
  double slope = 0.0;
  std::optional<double> r_squared = {};  // Of three points or more.
};
// Least squares; empty without two different x.
std::optional<Line> fit_line(std::span<const double> x, std::span<const double> y);
// p of y = a x^p by least squares of the logarithms; empty unless all x and y are positive.
std::optional<double> fit_exponent(std::span<const double> x, std::span<const double> y);

enum class SweepKind { kNone, kLayers, kContext, kPrompt, kThreads };
// "layers", "context", "prompt", "threads".
std::string_view sweep_name(SweepKind kind);
std::optional<SweepKind> parse_sweep(std::string_view name);

// How one cost grows along a sweep.
struct Growth {
  std::string cost = {};      // "decode, seconds a token"
  std::string variable = {};  // "layers", "1 / threads"
  Line line = {};
  std::optional<double> exponent = {};  // Of the cost against the variable.
  std::string sentence = {};            // The same for people.
};
// Points in the order of the sweep. Empty without two different values.
std::vector<Growth> growth_of(SweepKind kind, std::span<const BenchPoint> points);

// Prompts whose prefill takes longer per token than the next shorter one measured that is at most
// half as long; the measured spread of both is allowed for.
std::vector<std::string> slower_prompts(std::span<const BenchPoint> points);

}  // namespace refute
