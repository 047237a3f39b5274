// Collects what a falsifier measures and derives its verdict from the gates: the one place where a
// measured value meets a bound.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "falsifiers/falsifier.h"
#include "falsifiers/metrics.h"
#include "falsifiers/verdict.h"

namespace refute {

class Judge {
 public:
  // The threshold of each metric is the criterion's gate, else the metric's ceiling. A gate that
  // names no metric, is not finite, is negative or is looser than the ceiling makes the verdict
  // kError.
  Judge(std::span<const MetricInfo> metrics, const Criterion& criterion);

  // Records a value of `metric` (one of those given) measured at `where`; keeps the worst, NaN
  // being worse than anything. Returns whether this value meets its threshold.
  bool measure(std::string_view metric, double value, std::string_view where);

  // A counterexample outside of any metric ("accepted 255 elements for 256").
  void refute(std::string reason);
  // Valid input gave an error, or what came back cannot be compared (RefutedBy::kTrap).
  void refute_by_trap(std::string reason);
  // The attempt itself failed.
  void fail(std::string reason);
  // The guard against vacuity was not met: nothing was shown.
  void give_up(std::string reason);

  void count_case(bool failed);  // One more case tried.
  void count_discarded(std::size_t cases);
  void note(std::string text);
  void set_counterexample(std::string counterexample, std::string replay_token);

  // Whether the verdict is kRefuted already and the criterion asks for no more than that.
  bool is_settled() const;

  double threshold(std::string_view metric) const;
  // Whether `value` meets the threshold of `metric`; records nothing.
  bool meets(std::string_view metric, double value) const;

  // kError, kRefuted, kGaveUp in this order of precedence; then kRefuted when any reading fails its
  // threshold, naming where, metric, value and bound of the first that failed; then kGaveUp when no
  // case was run or a metric was never measured ("never held on nothing"); else kHeld.
  Verdict verdict() const;

 private:
  struct Entry {
    MetricInfo info;
    double threshold = 0.0;
    bool measured = false;
    MetricReading reading;
  };
  Entry* find(std::string_view metric);
  const Entry* find(std::string_view metric) const;

  std::vector<Entry> entries_;
  bool replaying_ = false;
  bool thorough_ = true;
  Verdict verdict_;
  std::string first_failure_;
  std::string error_;
  std::string refuted_;
  bool metric_failed_ = false;  // By a number, not by NaN.
  bool check_failed_ = false;
  std::string gave_up_;
};

}  // namespace refute
