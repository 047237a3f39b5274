#include "falsifiers/property.h"

#include <fmt/format.h>
#include <rapidcheck.h>

#include <algorithm>
#include <exception>
#include <optional>
#include <stdexcept>
#include <utility>

#include "falsifiers/replay_token.h"
#include "falsifiers/seeded_random.h"

namespace refute {
namespace {

constexpr std::size_t kMaxDiscardRatio = 10;
constexpr std::size_t kMaxShrinkAttempts = 400;

std::string property_path(const PropertySpec& spec) {
  return fmt::format("{}/{}", spec.falsifier, spec.name);
}

std::uint64_t case_seed(std::string_view path, std::uint64_t seed, std::size_t attempt) {
  return SeededRandom(hash_text(path) ^ mix_seed(seed, attempt)).next();
}

}  // namespace

// Runs one body at one address, and shrinks it. RapidCheck executes the body again whenever it asks
// for shrinks; the record of each execution is a value, so nothing is counted twice.
class PropertyRunner {
 public:
  PropertyRunner(const Judge& judge, const PropertyBody& body)
      : generator_(rc::gen::exec([&judge, &body] {
          CaseRecord record;
          PropertyCase property_case(judge, &record);
          body(property_case);
          return record;
        })) {}

  CaseRecord run(const CaseAddress& address) const { return locate(address).value(); }

  // The smallest failing case found from a failing one; extends the address's path.
  CaseRecord shrink(CaseRecord record, CaseAddress* address) const {
    auto current = locate(*address);
    std::size_t attempts = 0;
    bool smaller = true;
    while (smaller && attempts < kMaxShrinkAttempts) {
      smaller = false;
      auto candidates = current.shrinks();
      for (std::size_t index = 0; attempts < kMaxShrinkAttempts; ++index) {
        auto candidate = candidates.next();
        if (!candidate) break;
        ++attempts;
        CaseRecord found = candidate->value();
        if (found.discarded || found.failure.empty()) continue;
        record = std::move(found);
        address->shrink_path.push_back(index);
        current = std::move(*candidate);
        smaller = true;
        break;
      }
    }
    return record;
  }

 private:
  rc::Shrinkable<CaseRecord> locate(const CaseAddress& address) const {
    auto current = generator_(rc::Random(address.seed), address.size);
    for (const std::size_t step : address.shrink_path) {
      auto candidates = current.shrinks();
      auto candidate = candidates.next();
      for (std::size_t i = 0; i < step && candidate; ++i) candidate = candidates.next();
      if (!candidate) throw std::runtime_error("the replay token names a case that does not exist");
      current = std::move(*candidate);
    }
    return current;
  }

  rc::Gen<CaseRecord> generator_;
};

namespace {

// A property that is being tried: accumulates its result and reports to the judge.
class PropertyTrial {
 public:
  PropertyTrial(std::string path, bool shrink, Judge* judge, PropertyResult* result)
      : path_(std::move(path)), shrink_(shrink), judge_(*judge), result_(*result) {}

  // Returns false when the property is done: a case failed, or could not be run.
  bool try_case(const PropertyBody& body, const CaseAddress& address) {
    try {
      const PropertyRunner runner(judge_, body);
      const CaseRecord record = runner.run(address);
      if (record.discarded) {
        ++result_.discarded;
        judge_.count_discarded(1);
        return true;
      }
      report(record);
      if (record.failure.empty()) return true;
      CaseAddress smallest = address;
      const CaseRecord shrunk = shrink_ ? runner.shrink(record, &smallest) : record;
      result_.counterexample = fmt::format("{}: {}", shrunk.draws, shrunk.failure);
      result_.replay_token = format_replay_token({path_, smallest});
      judge_.set_counterexample(result_.counterexample, result_.replay_token);
    } catch (const std::exception& exception) {
      judge_.fail(fmt::format("{}: {}", format_replay_token({path_, address}), exception.what()));
    }
    return false;
  }

  std::size_t interesting() const { return interesting_; }

 private:
  void report(const CaseRecord& record) {
    const bool failed = !record.failure.empty();
    ++result_.cases;
    if (failed) ++result_.failed;
    if (record.interesting) ++interesting_;
    judge_.count_case(failed);
    bool reading_failed = false;
    for (const auto& reading : record.readings) {
      if (!judge_.measure(reading.metric, reading.value, reading.where)) reading_failed = true;
    }
    if (!failed || reading_failed) return;
    const std::string reason = fmt::format("{}: {}", path_, record.failure);
    record.trapped ? judge_.refute_by_trap(reason) : judge_.refute(reason);
  }

  std::string path_;
  bool shrink_;
  Judge& judge_;
  PropertyResult& result_;
  std::size_t interesting_ = 0;
};

// The address that the criterion asks to replay, when its token names this property.
struct Replay {
  bool wanted = false;  // The criterion has a token at all.
  std::optional<CaseAddress> address;
};

Replay find_replay(const std::string& path, const Criterion& criterion, Judge* judge) {
  Replay replay;
  if (!criterion.replay) return replay;
  replay.wanted = true;
  const auto token = parse_replay_token(*criterion.replay);
  if (!token) {
    judge->fail(fmt::format("'{}' is no replay token", *criterion.replay));
  } else if (token->property == path) {
    replay.address = token->address;
  }
  return replay;
}

}  // namespace

PropertyResult check_property(const PropertySpec& spec, const Criterion& criterion, Judge* judge,
                              const PropertyBody& body) {
  const std::string path = property_path(spec);
  PropertyResult result;
  PropertyTrial trial(path, criterion.shrink, judge, &result);
  const Replay replay = find_replay(path, criterion, judge);
  if (replay.wanted) {
    if (replay.address) trial.try_case(body, *replay.address);
    return result;
  }

  bool going_on = true;
  for (std::size_t attempt = 0; going_on && result.cases < criterion.cases; ++attempt) {
    if (result.discarded > kMaxDiscardRatio * criterion.cases) {
      result.gave_up = true;
      judge->give_up(fmt::format("{}: {} of {} generated cases did not meet the premises", path,
                                 result.discarded, attempt));
      return result;
    }
    const std::size_t last = std::max<std::size_t>(criterion.cases - 1, 1);
    CaseAddress address;
    address.seed = case_seed(path, criterion.seed, attempt);
    address.size = static_cast<int>(std::min<std::size_t>(100, result.cases * 100 / last));
    going_on = trial.try_case(body, address);
  }
  const double needed = spec.least_interesting * static_cast<double>(result.cases);
  if (going_on && static_cast<double>(trial.interesting()) < needed) {
    result.gave_up = true;
    judge->give_up(fmt::format("{}: only {} of {} cases could have failed, {:.0f} are needed", path,
                               trial.interesting(), result.cases, needed));
  }
  return result;
}

Criterion with_fewer_cases(const Criterion& criterion, std::size_t divisor) {
  CHECK(divisor > 0);
  Criterion fewer = criterion;
  fewer.cases = (criterion.cases + divisor - 1) / divisor;
  return fewer;
}

PropertyResult check_pinned(const PropertySpec& spec, const Criterion& criterion, Judge* judge,
                            std::size_t count, const PinnedBody& body) {
  PropertyResult result;
  for (std::size_t index = 0; index < count; ++index) {
    const std::string path = fmt::format("{}:{}", property_path(spec), index);
    const PropertyBody at_index = [&](PropertyCase& property_case) { body(property_case, index); };
    PropertyTrial trial(path, criterion.shrink, judge, &result);
    const Replay replay = find_replay(path, criterion, judge);
    if (replay.wanted) {
      if (replay.address) trial.try_case(at_index, *replay.address);
      continue;
    }
    CaseAddress address;
    address.seed = case_seed(path, criterion.seed, 0);
    address.size = 100;
    if (!trial.try_case(at_index, address)) break;
  }
  return result;
}

// A smaller earlier draw may narrow the range of a later one while RapidCheck keeps the later
// draw's value, so every draw is brought back into its range.

std::size_t PropertyCase::integer(std::string_view name, std::size_t low, std::size_t high) {
  CHECK(low <= high);
  const std::size_t drawn = *rc::gen::inRange<std::size_t>(0, high - low + 1);
  const std::size_t value = low + std::min(drawn, high - low);
  describe(name, std::to_string(value));
  return value;
}

std::size_t PropertyCase::draw_index(std::size_t count) {
  CHECK(count > 0);
  const std::size_t drawn =
      *rc::gen::resize(rc::kNominalSize, rc::gen::inRange<std::size_t>(0, count));
  return std::min(drawn, count - 1);
}

bool PropertyCase::flag(std::string_view name) {
  const bool value = draw_index(2) == 1;
  describe(name, value ? "true" : "false");
  return value;
}

std::uint64_t PropertyCase::seed(std::string_view name) {
  const auto value =
      *rc::gen::resize(rc::kNominalSize, rc::gen::inRange<std::uint64_t>(0, 1u << 20));
  describe(name, std::to_string(value));
  return value;
}

std::vector<int> PropertyCase::integers(std::string_view name, std::size_t count, int low,
                                        int high) {
  CHECK(low <= high);
  // Drawn as steps up from the value nearest to 0, wrapping from `high` to `low`: RapidCheck
  // shrinks towards no step.
  const int origin = std::clamp(0, low, high);
  const int count_of_values = high - low + 1;
  const auto steps = rc::gen::resize(rc::kNominalSize, rc::gen::inRange(0, count_of_values));
  std::vector<int> drawn = *rc::gen::container<std::vector<int>>(count, steps);
  drawn.resize(count, 0);
  for (int& value : drawn) value = low + (value + origin - low) % count_of_values;
  describe(name, fmt::format("[{}]", fmt::join(drawn, " ")));
  return drawn;
}

bool PropertyCase::measure(std::string_view metric, double value, std::string_view where) {
  record_->readings.push_back({std::string(metric), value, std::string(where)});
  if (judge_.meets(metric, value)) return true;
  return fail(fmt::format("{} of {:.6g} at {} misses the bound {:.6g}", metric, value, where,
                          judge_.threshold(metric)));
}

bool PropertyCase::require(bool condition, std::string_view failure) {
  return condition ? true : fail(failure);
}

bool PropertyCase::trap(std::string_view failure) {
  record_->trapped = record_->failure.empty();
  return fail(failure);
}

void PropertyCase::discard() { record_->discarded = true; }

void PropertyCase::mark_interesting() { record_->interesting = true; }

void PropertyCase::describe(std::string_view name, std::string_view value) {
  if (!record_->draws.empty()) record_->draws += ", ";
  record_->draws += fmt::format("{} = {}", name, value);
}

bool PropertyCase::fail(std::string_view failure) {
  if (record_->failure.empty()) {
    record_->failure = failure.empty() ? "failed" : std::string(failure);
  }
  return false;
}

}  // namespace refute
