#include "validators/trace/selection.h"

#include <fnmatch.h>

#include <algorithm>
#include <charconv>
#include <string_view>
#include <utility>

#include "falsifiers/traced_run.h"
#include "validators/suggest.h"

namespace refute {
namespace {

bool fits(const std::string& glob, TraceSite site) {
  const std::string point(trace_point_name(site.point));
  return fnmatch(glob.c_str(), point.c_str(), 0) == 0 ||
         fnmatch(glob.c_str(), site.name().c_str(), 0) == 0;
}

Error no_such_point(const std::string& glob) {
  std::vector<std::string_view> names;
  for (const TracePoint point : all_trace_points()) names.push_back(trace_point_name(point));
  return {ErrorKind::kUnsupported, "--point", "a trace point (" + suggest(glob, names) + ")",
          "`" + glob + "`"};
}

bool read_number(std::string_view text, std::size_t& number) {
  const auto read = std::from_chars(text.data(), text.data() + text.size(), number);
  return read.ec == std::errc{} && read.ptr == text.data() + text.size();
}

Result<std::set<std::size_t>> layers_of(std::span<const std::string> texts, std::size_t count) {
  std::set<std::size_t> layers;
  for (const std::string& text : texts) {
    const std::string_view view = text;
    const std::size_t dash = view.find('-');
    std::size_t first = 0;
    std::size_t last = 0;
    bool read = read_number(view.substr(0, dash), first);
    last = first;
    if (dash != std::string_view::npos) read = read && read_number(view.substr(dash + 1), last);
    if (!read || first > last || last >= count) {
      return Error{ErrorKind::kUnsupported, "--layer",
                   "a layer or a range of layers, 0 to " + std::to_string(count - 1),
                   "`" + text + "`"};
    }
    for (std::size_t layer = first; layer <= last; ++layer) layers.insert(layer);
  }
  return layers;
}

}  // namespace

Result<TraceSelection> TraceSelection::create(std::span<const std::string> points,
                                              std::span<const std::string> layers,
                                              std::size_t num_hidden_layers) {
  const auto kept = layers_of(layers, num_hidden_layers);
  if (!kept) return kept.error();
  Config config;
  config.num_hidden_layers = num_hidden_layers;
  const std::vector<TraceSite> all = forward_order(config);
  for (const std::string& glob : points) {
    const bool any = std::ranges::any_of(all, [&](TraceSite site) { return fits(glob, site); });
    if (!any) return no_such_point(glob);
  }
  TraceSelection selection;
  for (const TraceSite site : all) {
    const bool in_layers =
        layers.empty() || (is_per_layer(site.point) && kept->contains(site.layer));
    const bool named = points.empty() || std::ranges::any_of(points, [&](const std::string& glob) {
                         return fits(glob, site);
                       });
    if (in_layers && named) selection.sites_.insert(site);
  }
  return selection;
}

}  // namespace refute
