// Properties: claims about all inputs, tried on generated ones. The one wrapper around RapidCheck.
//
//   Judge judge(kMetrics, criterion);
//   check_property({"router.weights_sum_to_one", "sums_to_one"}, criterion, &judge,
//                  [&](PropertyCase& property_case) {
//                    const std::size_t k = property_case.integer("k", 1, 8);
//                    ...
//                    property_case.measure("sum_error", std::abs(sum - 1.0), "token 0");
//                  });
//   return judge.verdict();
//
// A case is a function of its draws alone. A case that fails is shrunk: its draws are made smaller
// as long as it still fails. What the judge gets are the readings of the case as found; the
// counterexample and the replay token describe the shrunk one. Properties run on one thread at a
// time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "falsifiers/falsifier.h"
#include "falsifiers/judge.h"
#include "kernels/check.h"
#include "kernels/result.h"

namespace refute {

// What one execution of a property's body did.
struct CaseRecord {
  struct Reading {
    std::string metric;
    double value = 0.0;
    std::string where;
  };
  std::vector<Reading> readings;
  std::string draws;     // "tokens = 3, rows = 7"
  std::string failure;   // The first one; empty when the case held.
  bool trapped = false;  // The failure is an operation's error on valid arguments.
  bool discarded = false;
  bool interesting = false;
};

// One case: the source of its inputs and the sink of what is found. Draws are named for the
// counterexample and shrink towards the first or lowest choice.
class PropertyCase {
 public:
  // Small first: early cases of a run stay near `low`. Inclusive.
  std::size_t integer(std::string_view name, std::size_t low, std::size_t high);
  // Every option is as likely at any time; `text` names one for people. Precondition: not empty.
  template <typename Options, typename Text>
  auto pick(std::string_view name, const Options& options, const Text& text) {
    const auto option = options[draw_index(options.size())];
    describe(name, text(option));
    return option;
  }
  template <typename Options>
  auto pick(std::string_view name, const Options& options) {
    return pick(name, options, [](auto option) { return std::to_string(option); });
  }
  bool flag(std::string_view name);  // Shrinks to false.
  // For bulk data made by generators.h.
  std::uint64_t seed(std::string_view name);
  // `count` values in [low, high], shrinking one by one towards the one nearest to 0.
  std::vector<int> integers(std::string_view name, std::size_t count, int low, int high);

  // A reading; returns whether it meets its threshold.
  bool measure(std::string_view metric, double value, std::string_view where);
  // A check without a metric; returns `condition`.
  bool require(bool condition, std::string_view failure);
  // An operation on valid arguments must succeed; returns whether it did.
  template <typename T>
  bool require_ok(const Result<T>& result, std::string_view where) {
    return result ? true : trap(std::string(where) + ": " + result.error().message());
  }
  // The inputs do not meet the claim's premises. The body returns after it.
  void discard();
  // Adds to the counterexample what draws do not say by themselves.
  void describe(std::string_view name, std::string_view value);
  // This case could have failed: counts towards PropertySpec::least_interesting.
  void mark_interesting();

 private:
  friend class PropertyRunner;
  PropertyCase(const Judge& judge, CaseRecord* record) : judge_(judge), record_(record) {}
  std::size_t draw_index(std::size_t count);
  bool fail(std::string_view failure);
  bool trap(std::string_view failure);

  const Judge& judge_;
  CaseRecord* record_;
};

using PropertyBody = std::function<void(PropertyCase&)>;
using PinnedBody = std::function<void(PropertyCase&, std::size_t index)>;

struct PropertySpec {
  std::string_view falsifier;  // "router.weights_sum_to_one"
  std::string_view name;       // Unique within the falsifier: "sums_to_one".
  // The guard against vacuity: the smallest share of cases that must be marked interesting.
  double least_interesting = 0.0;
};

struct PropertyResult {
  std::size_t cases = 0;  // Without discarded ones and those of shrinking.
  std::size_t failed = 0;
  std::size_t discarded = 0;
  bool gave_up = false;
  std::string counterexample;
  std::string replay_token;
};

// Tries `criterion.cases` cases and stops at the first that fails. Gives up when more than ten
// times as many cases are discarded, or too few are interesting. With criterion.replay: exactly
// that case when the token names this property, nothing otherwise.
PropertyResult check_property(const PropertySpec& spec, const Criterion& criterion, Judge* judge,
                              const PropertyBody& body);

// The same for pinned cases, each tried once whatever criterion.cases says.
PropertyResult check_pinned(const PropertySpec& spec, const Criterion& criterion, Judge* judge,
                            std::size_t count, const PinnedBody& body);

// The same with cases divided by `divisor`, rounded up: for properties whose cases are expensive.
Criterion with_fewer_cases(const Criterion& criterion, std::size_t divisor);

}  // namespace refute
