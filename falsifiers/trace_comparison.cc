#include "falsifiers/trace_comparison.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "falsifiers/parity.h"
#include "falsifiers/slot_pairing.h"
#include "falsifiers/stage_replay.h"
#include "falsifiers/traced_run.h"
#include "kernels/check.h"

namespace refute {
namespace {

// Half a unit in the last place of float32, by which a rounded router logit may be off.
constexpr double kFloat32Rounding = 0x1p-24;

bool is_expert_point(TracePoint point) {
  return point == TracePoint::kExpertGate || point == TracePoint::kExpertUp ||
         point == TracePoint::kExpertSwiglu || point == TracePoint::kExpertOut;
}

std::string shape_text(const Matrix<double>& values) {
  return "[" + std::to_string(values.rows()) + ", " + std::to_string(values.columns()) + "]";
}

Matrix<std::int32_t> as_ids(const Matrix<double>& values) {
  Matrix<std::int32_t> ids(values.rows(), values.columns());
  std::ranges::transform(values.flat(), ids.data(),
                         [](double id) { return static_cast<std::int32_t>(id); });
  return ids;
}

double largest_difference(const Matrix<double>& a, const Matrix<double>& b) {
  double largest = 0.0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    largest = std::max(largest, std::abs(a.flat()[i] - b.flat()[i]));
  }
  return largest;
}

std::optional<std::string> non_finite_text(const char* side, const Matrix<double>& values) {
  const auto flat = values.flat();
  const auto bad = [](double value) { return !std::isfinite(value); };
  const auto count = std::ranges::count_if(flat, bad);
  if (count == 0) return std::nullopt;
  const auto first = static_cast<std::size_t>(std::ranges::find_if(flat, bad) - flat.begin());
  return std::to_string(count) + " of " + std::to_string(flat.size()) + " elements of the " + side +
         " are NaN or Inf, the first in row " + std::to_string(first / values.columns()) +
         " column " + std::to_string(first % values.columns());
}

// One of the two sides: the values of a whole run.
using Values = TraceTensors;

const Matrix<double>* find(const Values& values, TraceSite site) {
  const auto entry = values.find(site);
  return entry == values.end() ? nullptr : &entry->second.values;
}

class SiteJudge {
 public:
  SiteJudge(const Yardstick& yardstick, std::size_t num_hidden_layers, const Values& reference,
            const Values& candidate)
      : yardstick_(yardstick),
        num_hidden_layers_(num_hidden_layers),
        reference_(reference),
        candidate_(candidate) {}

  // Precondition: both have the site.
  SiteComparison judge(TraceSite site, const LocalStage& stage) const {
    SiteComparison result{.site = site};
    const Matrix<double>& reference = *find(reference_, site);
    const Matrix<double>& found = *find(candidate_, site);
    if (reference.rows() != found.rows() || reference.columns() != found.columns()) {
      result.state = SiteState::kShape;
      result.detail = shape_text(found) + " where the reference has " + shape_text(reference);
      return result;
    }
    result.elements = reference.size();
    const Matrix<double> candidate = paired(site, found);
    const auto differing = count_differing_bits(reference.view(), candidate.view());
    CHECK(differing.has_value());
    result.differing = *differing;
    auto bad = non_finite_text("candidate", candidate);
    if (!bad) bad = non_finite_text("reference", reference);
    if (bad) {
      result.state = SiteState::kNonFinite;
      result.detail = *std::move(bad);
    } else if (site.point == TracePoint::kRouterIndex) {
      judge_routes(reference, found, result);
    } else {
      judge_distances(reference, candidate, stage, result);
    }
    return result;
  }

 private:
  bool bitwise() const { return yardstick_.comparison_class == ComparisonClass::kE; }

  // Ids stay in their order where every bit counts. A local stage of experts was fed with the
  // reference's ids, so its rows are in the reference's order already.
  Matrix<double> paired(TraceSite site, const Matrix<double>& found) const {
    const bool slots = is_expert_point(site.point);
    const bool fed = slots && yardstick_.scope == ErrorScope::kLocal;
    const bool pairs = slots || site.point == TracePoint::kRouterWeight;
    const TraceSite index{TracePoint::kRouterIndex, site.layer};
    const Matrix<double>* reference_ids = find(reference_, index);
    const Matrix<double>* candidate_ids = find(candidate_, index);
    if (bitwise() || fed || !pairs || reference_ids == nullptr || candidate_ids == nullptr ||
        reference_ids->rows() != candidate_ids->rows() ||
        reference_ids->columns() != candidate_ids->columns() ||
        found.rows() != reference_ids->rows() * (slots ? reference_ids->columns() : 1)) {
      return found;
    }
    return in_reference_order(found, slots, *reference_ids, *candidate_ids);
  }

  void judge_bits(SiteComparison& result) const {
    const bool equal = result.differing == 0;
    if (bitwise()) {
      result.readings.push_back({.metric = std::string(kDifferingElements.name),
                                 .worst = static_cast<double>(result.differing),
                                 .threshold = kDifferingElements.ceiling,
                                 .larger_is_better = false,
                                 .where = result.site.name()});
    }
    result.state = equal ? SiteState::kEqual : SiteState::kWithin;
    conclude(result);
  }

  static void conclude(SiteComparison& result) {
    for (const MetricReading& reading : result.readings) {
      if (reading.passed()) continue;
      result.state = SiteState::kBeyond;
      if (result.detail.empty()) {
        result.detail = fmt::format("{} is {:.6g}, the bound is {:.6g} ({})", reading.metric,
                                    reading.worst, reading.threshold, reading.where);
      }
    }
  }

  void judge_distances(const Matrix<double>& reference, const Matrix<double>& candidate,
                       const LocalStage& stage, SiteComparison& result) const {
    auto distances = compare(reference.view(), candidate.view());
    if (distances) {
      result.distances = *distances;
      result.readings =
          distance_readings(yardstick_, result.site, num_hidden_layers_, stage, *distances);
    } else if (result.differing != 0) {
      // A reference of zeros, which nothing but zeros can be near to.
      result.state = SiteState::kBeyond;
      result.detail = distances.error().message();
      return;
    }
    judge_bits(result);
  }

  void judge_routes(const Matrix<double>& reference, const Matrix<double>& candidate,
                    SiteComparison& result) const {
    RouteDifference routes{.tokens = reference.rows()};
    routes.other_sets = count_other_sets(reference, candidate, &routes.first_token);
    routes.outside_band = count_outside_band(reference, candidate, result.site, routes.other_sets);
    result.routes = routes;
    if (!bitwise()) {
      result.readings.push_back(
          {.metric = "routes_wrong",
           .worst = static_cast<double>(routes.outside_band) / static_cast<double>(routes.tokens),
           .threshold = routing_bound(yardstick_),
           .larger_is_better = false,
           .where = result.site.name()});
    }
    if (routes.other_sets > 0) {
      result.detail = std::to_string(routes.other_sets) + " of " + std::to_string(routes.tokens) +
                      " tokens take other experts, " + std::to_string(routes.outside_band) +
                      " of them no near tie; the first is token " +
                      std::to_string(routes.first_token);
    }
    judge_bits(result);
  }

  // Without the logits of both sides nothing is known to be a near tie.
  std::size_t count_outside_band(const Matrix<double>& reference, const Matrix<double>& candidate,
                                 TraceSite site, std::size_t other_sets) const {
    const TraceSite logits_site{TracePoint::kRouterLogits, site.layer};
    const Matrix<double>* one = find(reference_, logits_site);
    const Matrix<double>* other = find(candidate_, logits_site);
    if (one == nullptr || other == nullptr || one->size() != other->size()) return other_sets;
    double bound = largest_difference(*one, *other);
    if (yardstick_.scope == ErrorScope::kLocal) {
      bound = 0.0;
      for (const double logit : one->flat()) bound = std::max(bound, std::abs(logit));
      bound *= kFloat32Rounding;
    }
    const auto routing =
        compare_routing(as_ids(reference).view(), as_ids(candidate).view(), one->view(), bound);
    return routing ? std::min(other_sets, routing->wrong_outside) : other_sets;
  }

  const Yardstick& yardstick_;
  std::size_t num_hidden_layers_;
  const Values& reference_;
  const Values& candidate_;
};

std::size_t layers_of(const Values& values) {
  std::size_t layers = 0;
  for (const auto& [site, tensor] : values) layers = std::max(layers, site.layer + 1);
  return layers;
}

std::vector<TraceSite> sites_in_order(std::size_t num_hidden_layers) {
  Config config;
  config.num_hidden_layers = num_hidden_layers;
  return forward_order(config);
}

// Whether the stage can be computed from what is recorded without leaving its layer; `composed` is
// set when an input has to be computed first.
bool replayable(const Config& config, const Values& recorded, TraceSite site, bool* composed) {
  for (const TraceSite input : stage_inputs(config, site)) {
    if (recorded.contains(input)) continue;
    *composed = true;
    const bool same_layer = is_per_layer(input.point) && is_per_layer(site.point) &&
                            input.layer == site.layer && input.point != TracePoint::kFfnResidual;
    if (!same_layer || !replayable(config, recorded, input, composed)) return false;
  }
  return true;
}

}  // namespace

std::string_view site_state_name(SiteState state) {
  switch (state) {
    case SiteState::kEqual:
      return "equal";
    case SiteState::kWithin:
      return "within";
    case SiteState::kBeyond:
      return "beyond";
    case SiteState::kNonFinite:
      return "non_finite";
    case SiteState::kShape:
      return "shape";
    case SiteState::kMissing:
      return "missing";
    case SiteState::kNotCompared:
      return "not_compared";
  }
  return "";
}

bool SiteComparison::diverges() const {
  return state == SiteState::kBeyond || state == SiteState::kNonFinite ||
         state == SiteState::kShape || state == SiteState::kMissing;
}

double SiteComparison::excess() const {
  double excess = 0.0;
  for (const MetricReading& reading : readings) {
    const double ratio = reading.larger_is_better
                             ? (1.0 - reading.worst) / (1.0 - reading.threshold)
                             : reading.worst / reading.threshold;
    if (reading.threshold == 0.0 && reading.worst == 0.0) continue;
    if (!(ratio <= excess)) excess = ratio;
  }
  return excess;
}

const SiteComparison* TraceComparison::first_divergence() const {
  const auto found = std::ranges::find_if(
      sites, [](const SiteComparison& site) { return site.diverges() || site.parts(); });
  return found == sites.end() ? nullptr : &*found;
}

bool TraceComparison::diverges() const {
  return std::ranges::any_of(sites, [](const SiteComparison& site) { return site.diverges(); });
}

std::size_t TraceComparison::compared() const {
  return static_cast<std::size_t>(std::ranges::count_if(sites, [](const SiteComparison& site) {
    return site.state != SiteState::kNotCompared && site.state != SiteState::kMissing;
  }));
}

Result<void> check_same_run(const TraceFile& reference, const TraceFile& candidate) {
  const auto differ = [](std::string what, std::string expected, std::string found) {
    return Error{ErrorKind::kInvalidShape, "compare: not the same run, " + std::move(what),
                 std::move(expected), std::move(found)};
  };
  const std::string& one = reference.origin.model_sha256;
  const std::string& other = candidate.origin.model_sha256;
  const bool known = !one.empty() && !other.empty();
  if (known && one != other) {
    return differ("model", reference.origin.subject + " (sha256 " + one.substr(0, 12) + ")",
                  candidate.origin.subject + " (sha256 " + other.substr(0, 12) + ")");
  }
  if (reference.tokens.size() != candidate.tokens.size()) {
    return differ("tokens", std::to_string(reference.tokens.size()),
                  std::to_string(candidate.tokens.size()));
  }
  for (std::size_t t = 0; t < reference.tokens.size(); ++t) {
    if (reference.tokens[t] == candidate.tokens[t]) continue;
    return differ("token " + std::to_string(t), std::to_string(reference.tokens[t]),
                  std::to_string(candidate.tokens[t]));
  }
  const bool ended = !reference.origin.error.empty() || !candidate.origin.error.empty();
  for (const auto& [site, tensor] : reference.tensors) {
    const auto entry = candidate.tensors.find(site);
    if (entry == candidate.tensors.end()) continue;
    const CaptureInfo& expected = reference.captures.at(site);
    const CaptureInfo& found = candidate.captures.at(site);
    const bool shorter = ended && expected.num_tokens != found.num_tokens;
    if (!shorter && !(expected == found)) {
      return differ(site.name(), capture_text(expected), capture_text(found));
    }
    const Matrix<double>& values = entry->second.values;
    const bool same = tensor.values.columns() == values.columns() &&
                      (shorter || tensor.values.rows() == values.rows());
    if (!known && !same) {
      return differ(site.name(), shape_text(tensor.values), shape_text(values));
    }
  }
  return {};
}

TraceComparison compare_chained(const TraceFile& reference, const TraceFile& candidate) {
  TraceComparison comparison{
      .yardstick = choose_yardstick(reference.origin, candidate.origin, ErrorScope::kChained),
      .num_hidden_layers = std::max(layers_of(reference.tensors), layers_of(candidate.tensors))};
  const SiteJudge judge(comparison.yardstick, comparison.num_hidden_layers, reference.tensors,
                        candidate.tensors);
  for (const TraceSite site : sites_in_order(comparison.num_hidden_layers)) {
    const bool one = reference.tensors.contains(site);
    const bool other = candidate.tensors.contains(site);
    if (!one && !other) continue;
    const bool ended = one && std::ranges::find(candidate.missing, site) != candidate.missing.end();
    const bool shorter =
        one && other &&
        reference.captures.at(site).num_tokens != candidate.captures.at(site).num_tokens;
    if (ended || shorter) {
      const bool of_candidate = !candidate.origin.error.empty();
      const std::string& error = of_candidate ? candidate.origin.error : reference.origin.error;
      comparison.sites.push_back({.site = site,
                                  .state = SiteState::kMissing,
                                  .detail = "the run ended before it: " + error});
    } else if (one && other) {
      comparison.sites.push_back(judge.judge(site, {}));
    } else {
      comparison.one_sided.push_back(site);
    }
  }
  return comparison;
}

TraceComparison compare_local(const TraceFile& reference, const TraceOrigin& candidate,
                              const Backend& backend, const Model& model) {
  const Config& config = model.config();
  TraceComparison comparison{
      .yardstick = choose_yardstick(reference.origin, candidate, ErrorScope::kLocal),
      .num_hidden_layers = config.num_hidden_layers};
  Values replayed;
  const SiteJudge judge(comparison.yardstick, config.num_hidden_layers, reference.tensors,
                        replayed);
  for (const TraceSite site : forward_order(config)) {
    const auto entry = reference.tensors.find(site);
    if (entry == reference.tensors.end()) continue;
    LocalStage stage{.model = &model};
    if (!replayable(config, reference.tensors, site, &stage.composed)) {
      comparison.sites.push_back({.site = site, .detail = "its inputs are not recorded"});
      continue;
    }
    auto value = replay_stage(backend, model, site, {reference.tokens, reference.tensors});
    if (!value) {
      comparison.sites.push_back(
          {.site = site, .state = SiteState::kNonFinite, .detail = value.error().message()});
      continue;
    }
    replayed.emplace(site, TraceTensor{entry->second.element, 0, *std::move(value)});
    comparison.sites.push_back(judge.judge(site, stage));
  }
  return comparison;
}

}  // namespace refute
