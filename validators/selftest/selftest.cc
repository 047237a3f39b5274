#include "validators/selftest/selftest.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <deque>
#include <limits>
#include <map>
#include <set>
#include <thread>
#include <utility>

#include "falsifiers/fault_catalogue.h"
#include "falsifiers/registry.h"
#include "kernels/check.h"
#include "validators/selftest/attempts.h"

namespace refute {
namespace {

// A falsifier on a backend.
using Item = std::pair<std::string, BackendId>;

bool is_own_finding(const AttemptResult& result) {
  return result.kind == VerdictKind::kRefuted &&
         (result.refuted_by == RefutedBy::kMetric || result.refuted_by == RefutedBy::kCheck);
}

bool fails_by_number(const MetricReading& reading) {
  return !reading.passed() && !std::isnan(reading.worst);
}

KillReading kill_reading(const MetricReading& reading) {
  return {reading.metric, reading.worst, reading.threshold, reading.larger_is_better};
}

bool names(const std::vector<std::string>& list, const std::string& name) {
  return std::find(list.begin(), list.end(), name) != list.end();
}

class Selftest {
 public:
  Selftest(const SelftestOptions& options, const LoadedSubject& subject, SelftestObserver& observer)
      : options_(options),
        subject_(subject),
        observer_(observer),
        pool_(workers(options), options.limit,
              attempt_work(subject, options.cases, options.seeded_cases)) {}

  SelftestResult run() {
    const auto start = std::chrono::steady_clock::now();
    list_items();
    measure_baselines();
    seed_faults();
    build_matrix();
    result_.attempts = results_.size();
    for (const auto& [task, result] : results_) {
      result_.cost_us[task.falsifier] += result.duration_us;
    }
    result_.duration_us =
        static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::microseconds>(
                                       std::chrono::steady_clock::now() - start)
                                       .count());
    return std::move(result_);
  }

 private:
  static std::size_t workers(const SelftestOptions& options) {
    if (options.num_workers > 0) return options.num_workers;
    return std::max<std::size_t>(1, std::thread::hardware_concurrency());
  }

  // Asked of a worker: a device that this process had opened would be of no use to those that are
  // forked from it.
  std::vector<std::string> backends_here() {
    std::vector<std::string> names;
    std::deque<std::string> queue = {kWhichBackends};
    pool_.run(queue, [&](const std::string&, const TaskResult& end) {
      CHECK(end.end == TaskEnd::kDone);
      names = parse_backend_names(end.text);
    });
    return names;
  }

  // Everything registered that this machine can try on this subject.
  void list_items() {
    const std::vector<std::string> here = backends_here();
    const auto wanted = [&](BackendId id) {
      return options_.backends.empty() ||
             std::find(options_.backends.begin(), options_.backends.end(), id) !=
                 options_.backends.end();
    };
    for (const FalsifierInfo& falsifier : falsifier_registry()) {
      if (falsifier.measures_time) continue;
      if (falsifier.needs_pack && !subject_.pack) continue;
      if (falsifier.lacking != nullptr && subject_.pack &&
          !falsifier.lacking(*subject_.pack).empty()) {
        continue;
      }
      for (const BackendId backend : falsifier.backends) {
        if (!wanted(backend) || !names(here, std::string(backend_name(backend)))) continue;
        if (!has_use_for({std::string(falsifier.id), backend})) continue;
        items_.emplace_back(falsifier.id, backend);
      }
    }
  }

  const AttemptResult* find(const Item& item, std::uint64_t seed, const std::string& fault) const {
    const auto found = results_.find({item.first, item.second, seed, fault});
    return found == results_.end() ? nullptr : &found->second;
  }

  void work_off(std::deque<std::string>& queue, std::string_view label,
                const std::function<void(const AttemptTask&, const AttemptResult&)>& on_result) {
    std::size_t done = 0;
    pool_.run(queue, [&](const std::string& text, const TaskResult& end) {
      const AttemptTask task = AttemptTask::parse(text);
      AttemptResult result;
      if (end.end == TaskEnd::kDone) {
        result = AttemptResult::parse(end.text);
      } else {
        result.reason = end.text;  // Stays kError.
      }
      on_result(task, results_[task] = std::move(result));
      ++done;
      // Busy workers hold one task each.
      observer_.progress(done, done + queue.size() + 1,
                         fmt::format("{} {} {}", label, task.fault, task.falsifier));
    });
  }

  void measure_baselines() {
    std::deque<std::string> queue;
    for (const Item& item : items_) {
      for (const std::uint64_t seed : options_.seeds) {
        queue.push_back(AttemptTask{item.first, item.second, seed, ""}.text());
      }
    }
    work_off(queue, "without a fault:", [&](const AttemptTask& task, const AttemptResult& result) {
      if (result.kind == VerdictKind::kHeld) return;
      broken_.emplace(task.falsifier, task.backend);
      result_.broken_baselines.push_back(fmt::format("{} on {}, seed {}: {}, {}", task.falsifier,
                                                     backend_name(task.backend), task.seed,
                                                     verdict_name(result.kind), result.reason));
    });
  }

  // Whether another seed changes nothing that the falsifier computes.
  bool ignores_seed(const Item& item) const {
    const AttemptResult* first = find(item, options_.seeds.front(), "");
    return std::all_of(options_.seeds.begin(), options_.seeds.end(), [&](std::uint64_t seed) {
      const AttemptResult* other = find(item, seed, "");
      return !other->outputs_sha256.empty() && other->outputs_sha256 == first->outputs_sha256 &&
             other->cases_run == first->cases_run;
    });
  }

  bool reaches(const Item& item, const std::string& fault) const {
    return names(find(item, options_.seeds.front(), "")->reached, fault);
  }

  bool is_selected(const FaultInfo& fault, BackendId host) const {
    const auto& wanted = options_.faults;
    if (!wanted.empty() && !names(wanted, std::string(fault.id))) return false;
    return in_partition(options_.partition, fmt::format("{} {}", fault.id, backend_name(host)));
  }

  bool fits_filter(const FaultInfo& fault, const Item& item) const {
    return options_.filter.empty() || name_matches(options_.filter, fault.id) ||
           name_matches(options_.filter, fault.title) || name_matches(options_.filter, item.first);
  }

  // Whether some selected fault of its backend is to be tried with it.
  bool has_use_for(const Item& item) const {
    return std::any_of(
        fault_catalogue().begin(), fault_catalogue().end(), [&](const FaultInfo& fault) {
          const bool hosted =
              std::find(fault.hosts.begin(), fault.hosts.end(), item.second) != fault.hosts.end();
          return hosted && is_selected(fault, item.second) && fits_filter(fault, item);
        });
  }

  template <typename Visit>
  void for_each_host(const Visit& visit) const {
    for (const FaultInfo& fault : fault_catalogue()) {
      for (const BackendId host : fault.hosts) {
        const bool tried = std::any_of(items_.begin(), items_.end(),
                                       [&](const Item& item) { return item.second == host; });
        if (tried && is_selected(fault, host)) visit(fault, host);
      }
    }
  }

  void seed_faults() {
    std::vector<std::pair<std::uint64_t, std::string>> first;  // Expected duration, task.
    for_each_host([&](const FaultInfo& fault, BackendId host) {
      const std::string id(fault.id);
      first.emplace_back(0, AttemptTask{kPopularGate, host, 0, id}.text());
      for (const Item& item : items_) {
        if (item.second != host || broken_.contains(item)) continue;
        if (!fits_filter(fault, item) || !reaches(item, id)) continue;
        const std::uint64_t seed = options_.seeds.front();
        first.emplace_back(find(item, seed, "")->duration_us,
                           AttemptTask{item.first, host, seed, id}.text());
      }
    });
    // The longest first, so that the workers end together.
    std::stable_sort(first.begin(), first.end(),
                     [](const auto& a, const auto& b) { return a.first > b.first; });
    std::deque<std::string> queue;
    for (auto& [duration, task] : first) queue.push_back(std::move(task));

    work_off(queue, "seeding", [&](const AttemptTask& task, const AttemptResult& result) {
      if (task.falsifier == kPopularGate) return;
      const Item item{task.falsifier, task.backend};
      const bool is_first = task.seed == options_.seeds.front();
      const bool equivalent = find_fault(task.fault)->kind == FaultKind::kEquivalent;
      if (!is_first || ignores_seed(item) || (!is_own_finding(result) && !equivalent)) return;
      for (std::size_t i = 1; i < options_.seeds.size(); ++i) {
        queue.push_front(
            AttemptTask{item.first, item.second, options_.seeds[i], task.fault}.text());
      }
    });
  }

  // One falsifier against one fault, from its attempts on all seeds.
  KillCell cell_of(const Item& item, const std::string& fault, std::uint64_t* hits) const {
    KillCell cell;
    cell.falsifier = item.first;
    std::vector<const AttemptResult*> attempts;
    for (const std::uint64_t seed : options_.seeds) {
      if (const AttemptResult* result = find(item, seed, fault)) attempts.push_back(result);
    }
    CHECK(!attempts.empty());
    const std::size_t needed = ignores_seed(item) ? 1 : options_.seeds.size();
    std::size_t kills = 0;
    bool trapped = false;
    bool broken = false;
    for (const AttemptResult* attempt : attempts) {
      *hits = std::max(*hits, attempt->hits);
      kills += is_own_finding(*attempt) ? 1 : 0;
      trapped = trapped || attempt->refuted_by == RefutedBy::kTrap;
      broken =
          broken || attempt->kind == VerdictKind::kGaveUp || attempt->kind == VerdictKind::kError;
    }
    cell.state = kills == needed ? CellState::kKilled
                 : trapped       ? CellState::kTrapped
                 : broken        ? CellState::kBroken
                                 : CellState::kSurvived;
    if (cell.state == CellState::kKilled) cell.by = failed_metrics(attempts);
    return cell;
  }

  // The metrics that failed on every seed, each at its weakest.
  static std::vector<KillReading> failed_metrics(
      const std::vector<const AttemptResult*>& attempts) {
    std::vector<KillReading> failed;
    for (const MetricReading& reading : attempts.front()->metrics) {
      KillReading weakest = kill_reading(reading);
      bool always = true;
      for (const AttemptResult* attempt : attempts) {
        const auto same = std::find_if(
            attempt->metrics.begin(), attempt->metrics.end(),
            [&](const MetricReading& other) { return other.metric == reading.metric; });
        always = always && same != attempt->metrics.end() && fails_by_number(*same);
        if (always && kill_reading(*same).margin() < weakest.margin()) {
          weakest = kill_reading(*same);
        }
      }
      if (always) failed.push_back(std::move(weakest));
    }
    std::stable_sort(failed.begin(), failed.end(),
                     [](const auto& a, const auto& b) { return a.margin() > b.margin(); });
    return failed;
  }

  void build_matrix() {
    KillMatrix& matrix = result_.matrix;
    matrix.subject = subject_.name;
    matrix.subject_sha256 = subject_.model_sha256;
    matrix.seeds = options_.seeds;
    matrix.cases = options_.seeded_cases;
    for_each_host([&](const FaultInfo& fault, BackendId host) { add_row(fault, host); });
    for (const Item& item : items_) add_noise(item);
  }

  void add_row(const FaultInfo& fault, BackendId host) {
    FaultRow row{.fault = std::string(fault.id),
                 .host = host,
                 .equivalent = fault.kind == FaultKind::kEquivalent,
                 .hits = 0,
                 .cells = {},
                 .unreached_by = 0};
    std::size_t tried = 0;
    for (const Item& item : items_) {
      if (item.second != host || broken_.contains(item) || !fits_filter(fault, item)) continue;
      ++tried;
      if (reaches(item, row.fault)) {
        row.cells.push_back(cell_of(item, row.fault, &row.hits));
      } else {
        ++row.unreached_by;
      }
    }
    if (tried == 0) return;  // Left out by the filter.
    const AttemptResult& popular = results_.at({kPopularGate, host, 0, row.fault});
    row.logits_cosine = popular.metrics.empty() ? std::numeric_limits<double>::quiet_NaN()
                                                : popular.metrics.front().worst;
    const std::string name = fmt::format("{} on {}", fault.id, backend_name(host));
    if (row.cells.empty() || row.hits == 0) {
      result_.unreached.push_back(name);
    } else if (row.equivalent) {
      for (const KillCell& cell : row.cells) {
        if (cell.state != CellState::kSurvived) {
          result_.false_kills.push_back(
              fmt::format("{}: {} by {}", name, cell_state_name(cell.state), cell.falsifier));
        }
      }
    } else if (!row.killed()) {
      result_.survivors.push_back(name);
    }
    result_.matrix.rows.push_back(std::move(row));
  }

  void add_noise(const Item& item) {
    std::map<std::string, NoiseReading> worst;
    for (const std::uint64_t seed : options_.seeds) {
      for (const MetricReading& reading : find(item, seed, "")->metrics) {
        const auto [entry, is_new] = worst.try_emplace(
            reading.metric, NoiseReading{item.first, item.second, reading.metric, reading.worst,
                                         reading.threshold, reading.larger_is_better});
        const bool is_worse = distance_from_perfect(reading.worst, reading.larger_is_better) >
                              distance_from_perfect(entry->second.noise, reading.larger_is_better);
        if (!is_new && is_worse) entry->second.noise = reading.worst;
      }
    }
    for (auto& [metric, reading] : worst) result_.matrix.noise.push_back(std::move(reading));
  }

  const SelftestOptions& options_;
  const LoadedSubject& subject_;
  SelftestObserver& observer_;
  WorkerPool pool_;
  std::vector<Item> items_;  // In the order of the registry, which is sorted.
  std::map<AttemptTask, AttemptResult> results_;
  std::set<Item> broken_;
  SelftestResult result_;
};

}  // namespace

SelftestResult run_selftest(const SelftestOptions& options, const LoadedSubject& subject,
                            SelftestObserver& observer) {
  return Selftest(options, subject, observer).run();
}

}  // namespace refute
