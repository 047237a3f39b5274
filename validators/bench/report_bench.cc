#include "validators/bench/report_bench.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "validators/table.h"

namespace refute {
namespace {

using Json = nlohmann::ordered_json;

constexpr double kMebibyte = 1024.0 * 1024.0;

std::string or_unknown(const std::optional<double>& value, const char* format, double scale = 1.0) {
  return value ? fmt::format(fmt::runtime(format), *value * scale) : "unknown";
}

std::optional<double> as_double(const std::optional<std::size_t>& value) {
  return value ? std::optional(static_cast<double>(*value)) : std::nullopt;
}

std::optional<double> member(const std::optional<ReadBandwidth>& of, double ReadBandwidth::*which) {
  return of ? std::optional((*of).*which) : std::nullopt;
}

bool possible(const BenchPoint& point) {
  const auto share = point.share();
  return !share || *share <= 1.0;
}

std::string render_human(const BenchReport& report, Style style) {
  std::string text =
      fmt::format("{}, {} MiB of weights\n{}\n{}\n", report.subject,
                  static_cast<std::size_t>(static_cast<double>(report.weight_bytes) / kMebibyte),
                  report.backend, report.device);
  const BenchShape& shape = report.points.front().shape;
  text += fmt::format(
      "medians of {} rounds, each {} decoded tokens; spread is (max - min) / median of the "
      "seconds\n",
      shape.repeats, shape.decode);
  if (report.load_average && report.processors > 0) {
    text += fmt::format("load average at the start {:.2f} on {} processors\n", *report.load_average,
                        report.processors);
  }
  Table table({"threads", "layers", "depth", "prompt", "prefill tok/s", "spread", "decode tok/s",
               "spread", "MB/token", "GB/s read", "GB/s memory", "share", "of best", "peak MiB",
               "MHz"});
  for (const BenchPoint& point : report.points) {
    table.add_row({{std::to_string(point.threads)},
                   {std::to_string(point.layers)},
                   {std::to_string(point.shape.depth)},
                   {std::to_string(point.shape.prompt)},
                   {fmt::format("{:.1f}", point.prefill.tokens_per_second()), Paint::kBold},
                   {fmt::format("{:.1f} %", 100.0 * point.prefill.spread()), Paint::kFaint},
                   {fmt::format("{:.1f}", point.decode.tokens_per_second()), Paint::kBold},
                   {fmt::format("{:.1f} %", 100.0 * point.decode.spread()), Paint::kFaint},
                   {fmt::format("{:.3f}", point.bytes_per_token / 1e6)},
                   {fmt::format("{:.2f}", point.bytes_per_second() / 1e9)},
                   {or_unknown(member(point.bandwidth, &ReadBandwidth::median), "{:.2f}", 1e-9)},
                   {or_unknown(point.share(), "{:.1f} %", 100.0),
                    possible(point) ? Paint::kPlain : Paint::kBad},
                   {or_unknown(point.share_of_best(), "{:.1f} %", 100.0), Paint::kFaint},
                   {or_unknown(as_double(point.memory_bytes), "{:.0f}", 1.0 / kMebibyte)},
                   {or_unknown(point.clock_mhz, "{:.0f}")}});
  }
  text += "\n" + table.text(style);
  const auto growths = growth_of(report.sweep, report.points);
  if (!growths.empty()) text += "\n";
  for (const Growth& growth : growths) text += "  " + growth.sentence + "\n";
  if (report.sweep == SweepKind::kPrompt) {
    for (const std::string& line : slower_prompts(report.points)) {
      text += "  " + paint(style, Paint::kWarning, line) + "\n";
    }
  }
  for (const std::string& error : report.errors()) {
    text += "\n" + paint(style, Paint::kBad, "error: ") + error + "\n";
  }
  return text;
}

// Seconds and what follows from them, in the columns of the CSV and the members of the JSON.
Json point_to_json(const BenchPoint& point) {
  const auto rates = [](const Series& series) {
    const auto [least, most] = std::ranges::minmax(series.seconds);
    const auto tokens = static_cast<double>(series.tokens);
    return Json{{"median", series.tokens_per_second()},
                {"min", tokens / most},
                {"max", tokens / least},
                {"spread", series.spread()}};
  };
  const auto or_null = [](const auto& value) { return value ? Json(*value) : Json(nullptr); };
  return {
      {"threads", point.threads},
      {"layers", point.layers},
      {"depth", point.shape.depth},
      {"prompt", point.shape.prompt},
      {"decode", point.shape.decode},
      {"repeats", point.shape.repeats},
      {"prefill_tokens_per_second", rates(point.prefill)},
      {"decode_tokens_per_second", rates(point.decode)},
      {"bytes_per_token", point.bytes_per_token},
      {"bytes_per_second", point.bytes_per_second()},
      {"bandwidth_bytes_per_second", or_null(member(point.bandwidth, &ReadBandwidth::median))},
      {"best_bandwidth_bytes_per_second", or_null(member(point.bandwidth, &ReadBandwidth::best))},
      {"share_of_bandwidth", or_null(point.share())},
      {"share_of_best_bandwidth", or_null(point.share_of_best())},
      {"memory_bytes", or_null(point.memory_bytes)},
      {"memory_total_bytes", or_null(point.memory_total)},
      {"clock_mhz", or_null(point.clock_mhz)}};
}

std::string render_json(const BenchReport& report) {
  Json points = Json::array();
  for (const BenchPoint& point : report.points) {
    Json json = point_to_json(point);
    json["prefill_seconds"] = point.prefill.seconds;
    json["decode_seconds"] = point.decode.seconds;
    points.push_back(json);
  }
  Json growths = Json::array();
  for (const Growth& growth : growth_of(report.sweep, report.points)) {
    const auto& [intercept, slope, r_squared] = growth.line;
    growths.push_back({{"cost", growth.cost},
                       {"variable", growth.variable},
                       {"intercept", intercept},
                       {"slope", slope},
                       {"r_squared", r_squared ? Json(*r_squared) : Json(nullptr)},
                       {"exponent", growth.exponent ? Json(*growth.exponent) : Json(nullptr)},
                       {"sentence", growth.sentence}});
  }
  const bool prompts = report.sweep == SweepKind::kPrompt;
  const Json json = {
      {"command", "bench"},
      {"subject", report.subject},
      {"backend", report.backend},
      {"device", report.device},
      {"tree_sha256", report.tree_sha256},
      {"weight_bytes", report.weight_bytes},
      {"load_average", report.load_average ? Json(*report.load_average) : Json(nullptr)},
      {"processors", report.processors},
      {"sweep", sweep_name(report.sweep)},
      {"points", points},
      {"growth", growths},
      {"slower_prompts", prompts ? Json(slower_prompts(report.points)) : Json(nullptr)},
      {"errors", report.errors()}};
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

// A field of a CSV file, quoted where it must be.
std::string csv_field(const Json& value) {
  if (value.is_null()) return "";
  if (!value.is_string()) return value.dump();
  const std::string text = value.get<std::string>();
  if (text.find_first_of(",\"\n") == std::string::npos) return text;
  std::string quoted = "\"";
  for (const char letter : text) quoted += letter == '"' ? "\"\"" : std::string(1, letter);
  return quoted + "\"";
}

std::string render_csv(const BenchReport& report) {
  std::string header;
  std::string rows;
  for (const BenchPoint& point : report.points) {
    Json flat = {
        {"subject", report.subject}, {"backend", report.backend}, {"device", report.device}};
    const Json json = point_to_json(point);
    for (const auto& [key, value] : json.items()) {
      if (!value.is_object()) {
        flat[key] = value;
        continue;
      }
      for (const auto& [inner, number] : value.items()) flat[key + "_" + inner] = number;
    }
    const bool first = header.empty();
    std::string row;
    for (const auto& [key, value] : flat.items()) {
      if (first) header += (header.empty() ? "" : ",") + key;
      row += (row.empty() ? "" : ",") + csv_field(value);
    }
    rows += row + "\n";
  }
  return header + "\n" + rows;
}

}  // namespace

std::vector<std::string> BenchReport::errors() const {
  std::vector<std::string> errors;
  for (const BenchPoint& point : points) {
    if (possible(point)) continue;
    errors.push_back(fmt::format(
        "{} threads, {} layers: decode would read at {:.1f} % of the memory's bandwidth, which "
        "cannot be; the weights of a token ({:.1f} MB) stay in a cache, or something else ran "
        "while the bandwidth was measured",
        point.threads, point.layers, 100.0 * *point.share(), point.bytes_per_token / 1e6));
  }
  return errors;
}

ExitCode BenchReport::exit_code() const {
  return errors().empty() ? ExitCode::kHeld : ExitCode::kInternal;
}

std::string render_bench(const BenchReport& report, Format format, Style style) {
  if (format == Format::kJson) return render_json(report);
  return format == Format::kCsv ? render_csv(report) : render_human(report, style);
}

}  // namespace refute
