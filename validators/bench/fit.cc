#include "validators/bench/fit.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <utility>

#include "kernels/check.h"

namespace refute {
namespace {

constexpr std::array<std::pair<SweepKind, std::string_view>, 4> kSweeps = {{
    {SweepKind::kLayers, "layers"},
    {SweepKind::kContext, "context"},
    {SweepKind::kPrompt, "prompt"},
    {SweepKind::kThreads, "threads"},
}};

double mean(std::span<const double> values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

double variable_of(SweepKind kind, const BenchPoint& point) {
  switch (kind) {
    case SweepKind::kLayers:
      return static_cast<double>(point.layers);
    case SweepKind::kContext:
      return static_cast<double>(point.shape.depth);
    case SweepKind::kPrompt:
      return static_cast<double>(point.shape.prompt);
    case SweepKind::kThreads:
      return 1.0 / static_cast<double>(point.threads);
    case SweepKind::kNone:
      break;
  }
  return 0.0;
}

std::string duration(double seconds) {
  const double size = std::abs(seconds);
  if (size >= 1.0) return fmt::format("{:.3f} s", seconds);
  if (size >= 1e-3) return fmt::format("{:.3f} ms", seconds * 1e3);
  return fmt::format("{:.3f} us", seconds * 1e6);
}

std::string sentence_of(SweepKind kind, const Growth& growth) {
  const Line& line = growth.line;
  const char* per = "";
  double step = 1.0;
  switch (kind) {
    case SweepKind::kLayers:
      per = "a layer";
      break;
    case SweepKind::kContext:
      per = "per 1000 positions held";
      step = 1000.0;
      break;
    case SweepKind::kPrompt:
      per = "a token of the prompt";
      break;
    case SweepKind::kThreads:
      per = "/ threads";
      break;
    case SweepKind::kNone:
      break;
  }
  std::string text =
      fmt::format("{}: {} {} {} {}", growth.cost, duration(line.intercept),
                  line.slope < 0.0 ? '-' : '+', duration(std::abs(line.slope) * step), per);
  if (line.r_squared) text += fmt::format(", R2 {:.4f}", *line.r_squared);
  if (growth.exponent && kind != SweepKind::kThreads) {
    text += fmt::format("; grows with the power {:.2f}", *growth.exponent);
  }
  return text;
}

}  // namespace

std::optional<Line> fit_line(std::span<const double> x, std::span<const double> y) {
  CHECK(x.size() == y.size());
  if (x.size() < 2) return std::nullopt;
  const double mean_x = mean(x);
  const double mean_y = mean(y);
  double xx = 0.0;
  double xy = 0.0;
  double yy = 0.0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    xx += (x[i] - mean_x) * (x[i] - mean_x);
    xy += (x[i] - mean_x) * (y[i] - mean_y);
    yy += (y[i] - mean_y) * (y[i] - mean_y);
  }
  if (!(xx > 0.0)) return std::nullopt;
  Line line{.intercept = mean_y - xy / xx * mean_x, .slope = xy / xx};
  if (x.size() >= 3 && yy > 0.0) line.r_squared = xy * xy / (xx * yy);
  return line;
}

std::optional<double> fit_exponent(std::span<const double> x, std::span<const double> y) {
  std::vector<double> log_x;
  std::vector<double> log_y;
  for (std::size_t i = 0; i < x.size(); ++i) {
    if (!(x[i] > 0.0) || !(y[i] > 0.0)) return std::nullopt;
    log_x.push_back(std::log(x[i]));
    log_y.push_back(std::log(y[i]));
  }
  const auto line = fit_line(log_x, log_y);
  return line ? std::optional(line->slope) : std::nullopt;
}

std::string_view sweep_name(SweepKind kind) {
  for (const auto& [candidate, name] : kSweeps) {
    if (candidate == kind) return name;
  }
  return "none";
}

std::optional<SweepKind> parse_sweep(std::string_view name) {
  for (const auto& [kind, candidate] : kSweeps) {
    if (candidate == name) return kind;
  }
  return std::nullopt;
}

std::vector<Growth> growth_of(SweepKind kind, std::span<const BenchPoint> points) {
  std::vector<double> x;
  std::vector<double> prefill;
  std::vector<double> decode;
  const bool whole_prompt = kind == SweepKind::kPrompt;
  for (const BenchPoint& point : points) {
    x.push_back(variable_of(kind, point));
    const auto tokens = static_cast<double>(point.prefill.tokens);
    prefill.push_back(whole_prompt ? point.prefill.median() : point.prefill.median() / tokens);
    decode.push_back(point.decode.median() / static_cast<double>(point.decode.tokens));
  }
  std::vector<Growth> growths;
  const auto add = [&](const char* cost, std::span<const double> y) {
    const auto line = fit_line(x, y);
    if (!line) return;
    Growth growth{
        .cost = cost,
        .variable = kind == SweepKind::kThreads ? "1 / threads" : std::string(sweep_name(kind)),
        .line = *line,
        .exponent = fit_exponent(x, y),
        .sentence = ""};
    growth.sentence = sentence_of(kind, growth);
    growths.push_back(std::move(growth));
  };
  if (kind == SweepKind::kNone) return growths;
  add(whole_prompt ? "prefill, seconds" : "prefill, seconds a token", prefill);
  // Decode after prompts of several lengths is what a sweep over contexts shows.
  if (!whole_prompt) add("decode, seconds a token", decode);
  return growths;
}

std::vector<std::string> slower_prompts(std::span<const BenchPoint> points) {
  std::vector<std::string> found;
  for (const BenchPoint& longer : points) {
    const BenchPoint* half = nullptr;
    for (const BenchPoint& point : points) {
      const bool fits = 2 * point.prefill.tokens <= longer.prefill.tokens;
      if (fits && (half == nullptr || point.prefill.tokens > half->prefill.tokens)) half = &point;
    }
    if (half == nullptr) continue;
    const double slack = 1.0 + 0.5 * (longer.prefill.spread() + half->prefill.spread());
    if (longer.prefill.tokens_per_second() * slack >= half->prefill.tokens_per_second()) continue;
    found.push_back(fmt::format("a prompt of {} tokens takes longer per token than one of {}",
                                longer.prefill.tokens, half->prefill.tokens));
  }
  return found;
}

}  // namespace refute
