#include "validators/trace/heat_map.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <span>
#include <string_view>
#include <vector>

namespace refute {
namespace {

constexpr std::size_t kNameWidth = 14;
constexpr std::size_t kMostSpaced = 24;  // Layers that still get a space between them.
// Shares of the bound up to which a distance is far below it, or well below.
constexpr double kFarBelow = 0.1;
constexpr double kWellBelow = 0.5;

struct Symbol {
  char letter = ' ';
  Paint paint = Paint::kPlain;
};

Symbol symbol_of(const SiteComparison& site) {
  switch (site.state) {
    case SiteState::kEqual:
      return {'=', Paint::kGood};
    case SiteState::kWithin:
      if (site.parts()) return {'r', Paint::kWarning};
      if (site.excess() <= kFarBelow) return {'.', Paint::kGood};
      if (site.excess() <= kWellBelow) return {':', Paint::kPlain};
      return {'+', Paint::kWarning};
    case SiteState::kBeyond:
      return {'#', Paint::kBad};
    case SiteState::kNonFinite:
      return {'!', Paint::kBad};
    case SiteState::kShape:
      return {'%', Paint::kBad};
    case SiteState::kMissing:
      return {'?', Paint::kBad};
    case SiteState::kNotCompared:
      break;
  }
  return {'-', Paint::kFaint};
}

class Columns {
 public:
  explicit Columns(std::size_t layers)
      : layers_(std::max<std::size_t>(1, layers)), step_(layers_ <= kMostSpaced ? 2 : 1) {}

  std::size_t width() const { return layers_ * step_; }
  std::size_t layers() const { return layers_; }
  std::string cell(const std::string& symbol) const { return symbol + std::string(step_ - 1, ' '); }

  // The numbers of the layers, tens above ones where there are any.
  std::string header(Style style) const {
    std::string text;
    for (std::size_t power : {100U, 10U, 1U}) {
      if (power > 1 && layers_ <= power) continue;
      std::string line = power == 1 ? "layer" : "";
      line.resize(kNameWidth, ' ');
      for (std::size_t layer = 0; layer < layers_; ++layer) {
        const bool blank = power > 1 && (layer < power || (step_ == 1 && layer % 10 != 0));
        line += cell(blank ? " " : std::to_string(layer / power % 10));
      }
      line.erase(line.find_last_not_of(' ') + 1);
      text += "  " + paint(style, Paint::kFaint, line) + "\n";
    }
    return text;
  }

 private:
  std::size_t layers_;
  std::size_t step_;
};

// The worst of one trace point over its layers.
std::string worst_text(std::span<const SiteComparison* const> sites) {
  const SiteComparison* worst = nullptr;
  double cosine = 1.0;
  std::size_t differing = 0;
  std::size_t elements = 0;
  std::size_t other_sets = 0;
  for (const SiteComparison* site : sites) {
    if (site->state == SiteState::kNonFinite) return "NaN or Inf at " + site->site.name();
    if (site->state == SiteState::kShape) return "another shape at " + site->site.name();
    differing += site->differing;
    elements += site->elements;
    if (site->routes) other_sets += site->routes->other_sets;
    if (!site->distances) continue;
    cosine = std::min(cosine, site->distances->worst_row_cosine);
    if (worst == nullptr || !(site->distances->relative_l2 <= worst->distances->relative_l2)) {
      worst = site;
    }
  }
  if (elements == 0) return "";
  const std::string bits =
      differing == 0 ? "equal" : fmt::format("{} of {} differ", differing, elements);
  if (sites.front()->routes) {
    return bits +
           (other_sets == 0 ? "" : fmt::format(", {} tokens with other experts", other_sets));
  }
  if (differing == 0 || worst == nullptr) return bits;
  return fmt::format("{:.2e} at {}, cosine {:.8f}, {}", worst->distances->relative_l2,
                     worst->site.name(), cosine, bits);
}

}  // namespace

std::string heat_map(const TraceComparison& comparison, Style style) {
  std::map<TracePoint, std::vector<const SiteComparison*>> by_point;
  for (const SiteComparison& site : comparison.sites) by_point[site.site.point].push_back(&site);
  const Columns columns(comparison.num_hidden_layers);
  std::string text = columns.header(style);
  for (const auto& [point, sites] : by_point) {
    std::string line = std::string(trace_point_name(point));
    line.resize(kNameWidth, ' ');
    std::vector<std::string> cells(columns.layers(), " ");
    for (const SiteComparison* site : sites) {
      const Symbol symbol = symbol_of(*site);
      cells[site->site.layer] = paint(style, symbol.paint, std::string(1, symbol.letter));
    }
    for (const std::string& cell : cells) line += columns.cell(cell);
    line += "  " + paint(style, Paint::kFaint, worst_text(sites));
    line.erase(line.find_last_not_of(' ') + 1);
    text += "  " + line + "\n";
  }
  return text;
}

std::string heat_map_legend() {
  return fmt::format(
      "  = every bit equal   . up to {} of the bound   : up to {}   + up to the bound   # beyond\n"
      "  ! NaN or Inf   % another shape   ? ended before   r other experts at a near tie   - not "
      "compared\n",
      kFarBelow, kWellBelow);
}

}  // namespace refute
