#include "falsifiers/judge.h"

#include <fmt/format.h>

#include <cmath>
#include <utility>

#include "kernels/check.h"

namespace refute {
namespace {

void keep_first(std::string* slot, std::string reason) {
  if (slot->empty()) *slot = reason.empty() ? "no reason given" : std::move(reason);
}

}  // namespace

Judge::Judge(std::span<const MetricInfo> metrics, const Criterion& criterion)
    : replaying_(criterion.replay.has_value()), thorough_(criterion.thorough) {
  for (const MetricInfo& info : metrics) {
    CHECK(find(info.name) == nullptr);
    Entry entry;
    entry.info = info;
    entry.threshold = info.ceiling;
    entries_.push_back(std::move(entry));
  }
  for (const auto& [name, bound] : criterion.gates) {
    Entry* entry = find(name);
    if (entry == nullptr) {
      fail(fmt::format("the gate '{}' is no metric of this falsifier", name));
      continue;
    }
    const double ceiling = entry->info.ceiling;
    const bool as_strict = entry->info.larger_is_better ? bound >= ceiling : bound <= ceiling;
    if (!std::isfinite(bound) || bound < 0.0 || !as_strict) {
      fail(fmt::format("the gate {} = {:.6g} is not a finite bound at least as strict as {:.6g}",
                       name, bound, ceiling));
      continue;
    }
    entry->threshold = bound;
  }
}

bool Judge::measure(std::string_view metric, double value, std::string_view where) {
  Entry* entry = find(metric);
  CHECK(entry != nullptr);
  const bool larger_is_better = entry->info.larger_is_better;
  MetricReading reading{std::string(metric), value, entry->threshold, larger_is_better,
                        std::string(where)};
  const bool passed = reading.passed();
  if (!passed && !std::isnan(value)) metric_failed_ = true;
  if (!passed && first_failure_.empty()) {
    first_failure_ = fmt::format("{}: {} is {:.6g}, the bound is {} {:.6g}", where, metric, value,
                                 larger_is_better ? "at least" : "at most", entry->threshold);
  }
  const double worst = entry->reading.worst;
  const bool is_worse = std::isnan(value) || (larger_is_better ? value < worst : value > worst);
  if (!entry->measured || (!std::isnan(worst) && is_worse)) entry->reading = std::move(reading);
  entry->measured = true;
  return passed;
}

void Judge::refute(std::string reason) {
  check_failed_ = true;
  keep_first(&refuted_, std::move(reason));
}
void Judge::refute_by_trap(std::string reason) { keep_first(&refuted_, std::move(reason)); }
void Judge::fail(std::string reason) { keep_first(&error_, std::move(reason)); }
void Judge::give_up(std::string reason) { keep_first(&gave_up_, std::move(reason)); }

void Judge::count_case(bool failed) {
  ++verdict_.cases_run;
  if (failed) ++verdict_.cases_failed;
}

void Judge::count_discarded(std::size_t cases) { verdict_.cases_discarded += cases; }

void Judge::note(std::string text) { verdict_.notes.push_back(std::move(text)); }

void Judge::set_counterexample(std::string counterexample, std::string replay_token) {
  verdict_.counterexample = std::move(counterexample);
  verdict_.replay_token = std::move(replay_token);
}

double Judge::threshold(std::string_view metric) const {
  const Entry* entry = find(metric);
  CHECK(entry != nullptr);
  return entry->threshold;
}

bool Judge::meets(std::string_view metric, double value) const {
  const Entry* entry = find(metric);
  CHECK(entry != nullptr);
  const bool larger_is_better = entry->info.larger_is_better;
  return MetricReading{"", value, entry->threshold, larger_is_better, ""}.passed();
}

bool Judge::is_settled() const {
  return !thorough_ && error_.empty() && (!refuted_.empty() || !first_failure_.empty());
}

Verdict Judge::verdict() const {
  Verdict result = verdict_;
  std::string never_measured;
  bool all_passed = true;
  for (const Entry& entry : entries_) {
    if (entry.measured) {
      result.metrics.push_back(entry.reading);
      all_passed = all_passed && entry.reading.passed();
    } else if (never_measured.empty()) {
      never_measured = entry.info.name;
    }
  }

  const auto conclude = [&](VerdictKind kind, std::string reason) {
    result.kind = kind;
    if (kind == VerdictKind::kRefuted) {
      result.refuted_by = metric_failed_  ? RefutedBy::kMetric
                          : check_failed_ ? RefutedBy::kCheck
                                          : RefutedBy::kTrap;
    }
    result.reason = std::move(reason);
    return result;
  };
  if (!error_.empty()) return conclude(VerdictKind::kError, error_);
  if (!refuted_.empty()) return conclude(VerdictKind::kRefuted, refuted_);
  if (!all_passed || !first_failure_.empty()) {
    return conclude(VerdictKind::kRefuted, first_failure_);
  }
  if (result.cases_failed > 0) {
    return conclude(VerdictKind::kRefuted,
                    fmt::format("{} of {} cases failed", result.cases_failed, result.cases_run));
  }
  if (!gave_up_.empty()) return conclude(VerdictKind::kGaveUp, gave_up_);
  if (result.cases_run == 0) {
    return conclude(VerdictKind::kGaveUp, "no case was run, so nothing was shown");
  }
  if (!never_measured.empty() && !replaying_) {
    return conclude(VerdictKind::kGaveUp,
                    fmt::format("the metric {} was never measured", never_measured));
  }
  return conclude(VerdictKind::kHeld, fmt::format("held in {} cases", result.cases_run));
}

Judge::Entry* Judge::find(std::string_view metric) {
  return const_cast<Entry*>(std::as_const(*this).find(metric));
}

const Judge::Entry* Judge::find(std::string_view metric) const {
  for (const Entry& entry : entries_) {
    if (entry.info.name == metric) return &entry;
  }
  return nullptr;
}

}  // namespace refute
