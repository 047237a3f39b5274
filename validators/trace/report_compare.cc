#include "validators/trace/report_compare.h"

#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "validators/trace/heat_map.h"
#include "validators/trace/report_trace.h"

namespace refute {
namespace {

using Json = nlohmann::ordered_json;

// JSON has no NaN and no Inf.
Json number(double value) {
  if (std::isfinite(value)) return value;
  return std::isnan(value) ? "nan" : value > 0 ? "inf" : "-inf";
}

std::string scope_title(const CompareReport& report, const TraceComparison& comparison) {
  const Yardstick& yardstick = comparison.yardstick;
  const bool local = yardstick.scope == ErrorScope::kLocal;
  const std::string what =
      local ? "Local errors: each stage by " + report.replayed_by + " from the reference's inputs"
            : "Chained errors: the whole run up to each trace point";
  return fmt::format("{}\n  class {}, {}; bounds of {}\n", what,
                     comparison_class_name(yardstick.comparison_class), yardstick.why,
                     yardstick.falsifier);
}

std::string divergence_text(const CompareReport& report, const TraceComparison& comparison,
                            Style style) {
  const bool local = comparison.yardstick.scope == ErrorScope::kLocal;
  const char* scope = local ? "local" : "chained";
  const SiteComparison* first = comparison.first_divergence();
  if (first == nullptr) {
    std::size_t equal = 0;
    for (const SiteComparison& site : comparison.sites) equal += site.state == SiteState::kEqual;
    return paint(style, Paint::kGood, fmt::format("No {} divergence", scope)) +
           fmt::format(": {} of {} trace points equal in every bit, the others within bounds\n",
                       equal, comparison.compared());
  }
  std::string text = paint(style, Paint::kBad, fmt::format("First {} divergence: ", scope)) +
                     paint(style, Paint::kBold, first->site.name()) + ": " + first->detail + "\n";
  if (first->parts() && !local) {
    text += fmt::format(
        "  What follows it is another computation. To see past it, give both runs the same "
        "experts:\n"
        "  refute trace --backend {} --routes {} ...\n",
        report.candidate.origin.backend, report.reference_file);
  }
  return text;
}

std::string scope_text(const CompareReport& report, const TraceComparison& comparison,
                       Style style) {
  std::string text = scope_title(report, comparison) + "\n" + heat_map(comparison, style) + "\n" +
                     divergence_text(report, comparison, style);
  if (!comparison.one_sided.empty()) {
    text += fmt::format("  {} trace points are in one file only, the first {}\n",
                        comparison.one_sided.size(), comparison.one_sided.front().name());
  }
  return text;
}

std::string render_human(const CompareReport& report, Style style) {
  std::string text = fmt::format("reference  {}: {}\ncandidate  {}: {}\n\n", report.reference_file,
                                 origin_text(report.reference), report.candidate_file,
                                 origin_text(report.candidate));
  text += scope_text(report, report.chained, style) + "\n";
  if (report.local) text += scope_text(report, *report.local, style) + "\n";
  for (const TraceFile* trace : {&report.reference, &report.candidate}) {
    if (trace->origin.error.empty()) continue;
    text +=
        fmt::format("The {} ended before its end: {}\n",
                    trace == &report.reference ? "reference" : "candidate", trace->origin.error);
  }
  return text + paint(style, Paint::kFaint, heat_map_legend());
}

Json site_to_json(const SiteComparison& site) {
  Json layer = nullptr;
  if (is_per_layer(site.site.point)) layer = site.site.layer;
  Json json = {{"site", site.site.name()},
               {"point", trace_point_name(site.site.point)},
               {"layer", layer},
               {"state", site_state_name(site.state)},
               {"elements", site.elements},
               {"differing_bits", site.differing}};
  if (site.distances) {
    json["relative_l2"] = number(site.distances->relative_l2);
    json["worst_row_relative_l2"] = number(site.distances->worst_row_relative_l2);
    json["worst_row_cosine"] = number(site.distances->worst_row_cosine);
    json["linf_over_rms"] = number(site.distances->linf_over_rms);
    json["scale_error"] = number(site.distances->scale_error);
  }
  if (site.routes) {
    json["routes"] = {{"tokens", site.routes->tokens},
                      {"other_sets", site.routes->other_sets},
                      {"outside_band", site.routes->outside_band}};
  }
  Json bounds = Json::array();
  for (const MetricReading& reading : site.readings) {
    bounds.push_back({{"metric", reading.metric},
                      {"value", number(reading.worst)},
                      {"bound", number(reading.threshold)},
                      {"passed", reading.passed()}});
  }
  json["bounds"] = bounds;
  if (!site.detail.empty()) json["detail"] = site.detail;
  return json;
}

Json comparison_to_json(const TraceComparison& comparison) {
  Json sites = Json::array();
  for (const SiteComparison& site : comparison.sites) sites.push_back(site_to_json(site));
  Json one_sided = Json::array();
  for (const TraceSite site : comparison.one_sided) one_sided.push_back(site.name());
  const SiteComparison* first = comparison.first_divergence();
  Json divergence = nullptr;
  if (first != nullptr) divergence = {{"site", first->site.name()}, {"detail", first->detail}};
  return {{"class", comparison_class_name(comparison.yardstick.comparison_class)},
          {"why", comparison.yardstick.why},
          {"bounds_of", comparison.yardstick.falsifier},
          {"diverges", comparison.diverges()},
          {"first_divergence", divergence},
          {"compared", comparison.compared()},
          {"one_sided", one_sided},
          {"sites", sites}};
}

Json origin_to_json(const TraceFile& trace, const std::string& file) {
  Json error = nullptr;
  if (!trace.origin.error.empty()) error = trace.origin.error;
  return {{"file", file},
          {"subject", trace.origin.subject},
          {"model_sha256", trace.origin.model_sha256},
          {"backend", trace.origin.backend},
          {"backend_description", trace.origin.description},
          {"tree_sha256", trace.origin.tree_sha256},
          {"routes", trace.origin.routes},
          {"error", error}};
}

std::string render_json(const CompareReport& report) {
  Json local = nullptr;
  if (report.local) {
    local = comparison_to_json(*report.local);
    local["replayed_by"] = report.replayed_by;
  }
  const Json json = {{"command", "compare"},
                     {"reference", origin_to_json(report.reference, report.reference_file)},
                     {"candidate", origin_to_json(report.candidate, report.candidate_file)},
                     {"num_tokens", report.reference.tokens.size()},
                     {"chained", comparison_to_json(report.chained)},
                     {"local", local},
                     {"exit_code", static_cast<int>(report.exit_code())}};
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace

ExitCode CompareReport::exit_code() const {
  const bool ended = !reference.origin.error.empty() || !candidate.origin.error.empty();
  if (ended || chained.diverges() || (local && local->diverges())) {
    return ExitCode::kRefutedOrInvalid;
  }
  if (chained.compared() == 0 || (local && local->compared() == 0)) {
    return ExitCode::kNothingSelected;
  }
  return ExitCode::kHeld;
}

std::string render_compare(const CompareReport& report, Format format, Style style) {
  return format == Format::kJson ? render_json(report) : render_human(report, style);
}

}  // namespace refute
