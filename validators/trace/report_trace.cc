#include "validators/trace/report_trace.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <string_view>

#include "validators/table.h"

namespace refute {
namespace {

using Json = nlohmann::ordered_json;

std::string_view element_name(TraceElement element) {
  switch (element) {
    case TraceElement::kFloat64:
      return "float64";
    case TraceElement::kFloat32:
      return "float32";
    case TraceElement::kInt32:
      return "int32";
  }
  return "";
}

std::string render_human(const TraceFile& trace, std::span<const SiteSummary> sites,
                         const std::string& file, Style style) {
  Table table({"trace point", "shape", "type", "rms", "min", "max", "non-finite"});
  for (const SiteSummary& site : sites) {
    const bool finite = site.non_finite == 0;
    table.add_row({{site.site.name()},
                   {fmt::format("[{}, {}]", site.rows, site.columns)},
                   {std::string(element_name(site.element)), Paint::kFaint},
                   {fmt::format("{:.5g}", site.rms)},
                   {fmt::format("{:.5g}", site.min)},
                   {fmt::format("{:.5g}", site.max)},
                   {std::to_string(site.non_finite), finite ? Paint::kPlain : Paint::kBad}});
  }
  std::string text = origin_text(trace) + "\n\n" + table.text(style);
  if (!trace.origin.error.empty()) {
    text += "\n" + paint(style, Paint::kBad, "The forward pass ended before its end: ") +
            trace.origin.error + "\n";
  }
  return text + fmt::format("\n{}: {} trace points\n", file, sites.size());
}

std::string render_json(const TraceFile& trace, std::span<const SiteSummary> sites,
                        const std::string& file) {
  const TraceOrigin& origin = trace.origin;
  Json list = Json::array();
  for (const SiteSummary& site : sites) {
    const CaptureInfo& info = trace.captures.at(site.site);
    Json layer = nullptr;
    if (is_per_layer(site.site.point)) layer = site.site.layer;
    list.push_back({{"site", site.site.name()},
                    {"point", trace_point_name(site.site.point)},
                    {"layer", layer},
                    {"shape", {site.rows, site.columns}},
                    {"type", element_name(site.element)},
                    {"first_position", info.first_position},
                    {"num_tokens", info.num_tokens},
                    {"rms", site.rms},
                    {"min", site.min},
                    {"max", site.max},
                    {"non_finite", site.non_finite}});
  }
  Json error = nullptr;
  if (!origin.error.empty()) error = origin.error;
  const Json json = {{"command", "trace"},
                     {"file", file},
                     {"subject", origin.subject},
                     {"model_sha256", origin.model_sha256},
                     {"backend", origin.backend},
                     {"backend_description", origin.description},
                     {"routes", origin.routes},
                     {"tokens_per_call", origin.chunk},
                     {"tokens", trace.tokens},
                     {"error", error},
                     {"sites", list}};
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace

std::string origin_text(const TraceFile& trace) {
  const TraceOrigin& origin = trace.origin;
  std::string text = fmt::format("{}, {}, {} tokens, routes {}", origin.subject, origin.description,
                                 trace.tokens.size(), origin.routes);
  if (origin.chunk != 0) text += fmt::format(", {} tokens a call", origin.chunk);
  if (!origin.error.empty()) text += ", ended by an error";
  return text;
}

std::string render_trace(const TraceFile& trace, std::span<const SiteSummary> sites,
                         const std::string& file, Format format, Style style) {
  return format == Format::kJson ? render_json(trace, sites, file)
                                 : render_human(trace, sites, file, style);
}

}  // namespace refute
