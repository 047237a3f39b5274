#include <fmt/format.h>

#include <unistd.h>

#include <array>
#include <chrono>
#include <csignal>
#include <limits>
#include <stdexcept>

#include "falsifiers/metrics.h"
#include "falsifiers/property.h"
#include "falsifiers/registry.h"
#include "validators/embedded_files.h"
#include "validators/rules_check.h"
#include "validators/run.h"
#include "validators/selftest/mutants.h"
#include "validators/selftest/worker_pool.h"
#include "validators/status.h"

namespace refute {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

void note(MutantOutcome& outcome, bool red, const std::string& place) {
  ++outcome.tried;
  if (!red) outcome.green.push_back(place);
}

bool has_error(const Contract& contract) {
  RuleContext context;
  context.falsifiers = falsifier_registry();
  context.faults = fault_catalogue();
  Findings findings;
  check_falsifiers(contract, context, findings);
  return findings.errors_in(contract.source.path()) > 0;
}

// A bound 100 times as far from perfection; of a bound of 0, any.
double loosened(const MetricInfo& metric) {
  if (metric.larger_is_better) return 1.0 - 100.0 * (1.0 - metric.ceiling);
  return metric.ceiling == 0.0 ? 1.0 : 100.0 * metric.ceiling;
}

MutantOutcome threshold_times_100(const MutantInputs& inputs) {
  MutantOutcome outcome{.id = "G1", .tried = 0, .green = {}};
  for (const Contract& contract : inputs.contracts) {
    for (std::size_t i = 0; i < contract.falsifiers.size(); ++i) {
      const FalsifierInfo* falsifier = find_falsifier(contract.falsifiers[i].falsifier.text);
      if (falsifier == nullptr) continue;
      for (const MetricInfo& metric : falsifier->metrics) {
        Contract mutant = contract;
        mutant.falsifiers[i].gates = {{.metric = {std::string(metric.name), {1, 1}, 1},
                                       .bound = loosened(metric),
                                       .bound_at = {1, 1},
                                       .bound_length = 1}};
        note(outcome, has_error(mutant),
             fmt::format("{} {}", contract.falsifiers[i].id.text, metric.name));
      }
    }
  }
  for (std::size_t i = 0; i < inputs.matrix.noise.size(); ++i) {
    KillMatrix mutant = inputs.matrix;
    NoiseReading& reading = mutant.noise[i];
    const double bound = distance_from_perfect(reading.threshold, reading.larger_is_better);
    const double looser = bound > 0.0 ? 100.0 * bound : 1.0;
    reading.threshold = reading.larger_is_better ? 1.0 - looser : looser;
    note(outcome, !lost_kills(inputs.matrix, mutant, false).empty(),
         reading.falsifier + " " + reading.metric + ", compiled");
  }
  return outcome;
}

MutantOutcome turned_gate(const MutantInputs& inputs) {
  MutantOutcome outcome{.id = "G2", .tried = 0, .green = {}};
  for (const NoiseReading& reading : inputs.matrix.noise) {
    const MetricReading turned{reading.metric, reading.noise, reading.threshold,
                               !reading.larger_is_better, ""};
    note(outcome, !turned.passed(), reading.falsifier + " " + reading.metric);
  }
  return outcome;
}

// A value that meets any bound of the metric.
double perfect(const MetricInfo& metric) { return metric.larger_is_better ? 1e300 : 0.0; }

MutantOutcome nan_in_a_result() {
  MutantOutcome outcome{.id = "G3", .tried = 0, .green = {}};
  for (const FalsifierInfo& falsifier : falsifier_registry()) {
    for (const MetricInfo& broken : falsifier.metrics) {
      Judge judge(falsifier.metrics, {});
      for (const MetricInfo& metric : falsifier.metrics) {
        judge.measure(metric.name, &metric == &broken ? kNaN : perfect(metric), "mutant");
      }
      judge.count_case(false);
      note(outcome, !judge.verdict().held(), fmt::format("{} {}", falsifier.id, broken.name));
    }
  }
  const Matrix<double> whole(1, 2, {1.0, 2.0});
  const Matrix<double> broken(1, 2, {1.0, kNaN});
  note(outcome, !compare(whole.view(), broken.view()), "comparison, candidate");
  note(outcome, !compare(broken.view(), whole.view()), "comparison, reference");
  return outcome;
}

MutantOutcome empty_tensor() {
  MutantOutcome outcome{.id = "G4", .tried = 0, .green = {}};
  const Matrix<double> empty;
  const Matrix<double> other;
  note(outcome, !compare(empty.view(), other.view()), "comparison");
  note(outcome, !count_differing_bits(empty.view(), other.view()), "differing bits");
  for (const FalsifierInfo& falsifier : falsifier_registry()) {
    note(outcome, !Judge(falsifier.metrics, {}).verdict().held(), std::string(falsifier.id));
  }
  return outcome;
}

MutantOutcome same_buffer() {
  MutantOutcome outcome{.id = "G5", .tried = 0, .green = {}};
  const Matrix<double> buffer(1, 2, {1.0, 2.0});
  note(outcome, !compare(buffer.view(), buffer.view()), "comparison");
  note(outcome, !count_differing_bits(buffer.view(), buffer.view()), "differing bits");
  return outcome;
}

// With its own output as the reference a falsifier sees no fault at all.
MutantOutcome reference_under_test(const MutantInputs& inputs) {
  MutantOutcome outcome{.id = "G6", .tried = 0, .green = {}};
  for (const FalsifierInfo& falsifier : falsifier_registry()) {
    KillMatrix blinded = inputs.matrix;
    bool kills = false;
    for (FaultRow& row : blinded.rows) {
      for (KillCell& cell : row.cells) {
        if (cell.falsifier != falsifier.id || cell.state != CellState::kKilled) continue;
        cell.state = CellState::kSurvived;
        kills = true;
      }
    }
    if (!kills) continue;
    note(outcome, !lost_kills(inputs.matrix, blinded, false).empty(), std::string(falsifier.id));
  }
  return outcome;
}

ExitCode exit_of(const Verdict& verdict) {
  Outcome held;
  held.verdict.kind = VerdictKind::kHeld;
  Outcome other;
  other.verdict = verdict;
  return run_exit_code(std::array{held, other});
}

constexpr MetricInfo kProbeMetric = {"error", "An error.", false, 1.0};
constexpr PropertySpec kProbe = {"mutant.probe", "probe", 0.0};

Verdict probe(std::size_t cases, const PropertyBody& body) {
  Criterion criterion;
  criterion.cases = cases;
  Judge judge(std::span(&kProbeMetric, 1), criterion);
  check_property(kProbe, criterion, &judge, body);
  return judge.verdict();
}

MutantOutcome swallowed_exception() {
  MutantOutcome outcome{.id = "G7", .tried = 0, .green = {}};
  const Verdict verdict = probe(5, [](PropertyCase& property_case) {
    property_case.measure("error", 0.0, "before");
    throw std::runtime_error("broken");
  });
  note(outcome, !verdict.held(), "a property that throws");
  note(outcome, exit_of(verdict) != ExitCode::kHeld, "its run");
  return outcome;
}

MutantOutcome killed_process() {
  MutantOutcome outcome{.id = "G8", .tried = 0, .green = {}};
  WorkerPool pool(1, std::chrono::milliseconds(200), [](const std::string& task) {
    if (task == "crash") std::raise(SIGKILL);
    while (task == "hang") pause();
    return task;
  });
  std::deque<std::string> tasks = {"crash", "hang", "work"};
  pool.run(tasks, [&](const std::string& task, const TaskResult& result) {
    const bool as_expected =
        (task == "crash" && result.end == TaskEnd::kCrashed) ||
        (task == "hang" && result.end == TaskEnd::kTimedOut) ||
        (task == "work" && result.end == TaskEnd::kDone && result.text == "work");
    note(outcome, as_expected, task);
  });
  return outcome;
}

MutantOutcome skip_as_pass() {
  MutantOutcome outcome{.id = "G9", .tried = 0, .green = {}};
  const Verdict skipped = Verdict::not_run("no device");
  note(outcome, !skipped.held(), "the verdict");
  note(outcome, exit_of(skipped) == ExitCode::kRequiredNotRun, "the run");
  note(outcome, run_exit_code({}) == ExitCode::kNothingSelected, "an empty run");
  return outcome;
}

MutantOutcome zero_cases(const MutantInputs& inputs) {
  MutantOutcome outcome{.id = "G10", .tried = 0, .green = {}};
  const Verdict verdict =
      probe(0, [](PropertyCase& property_case) { property_case.measure("error", 0.0, "a"); });
  note(outcome, !verdict.held(), "a property");
  for (const Contract& contract : inputs.contracts) {
    for (const FalsifierBlock& block : contract.falsifiers) {
      std::string text = contract.source.text();
      const std::string key = "    falsifier: " + block.falsifier.text + "\n";
      const std::size_t at = text.find(key, contract.source.offset(block.id.at));
      if (at == std::string::npos) continue;
      text.insert(at + key.size(), "    cases: 0\n");
      Findings findings;
      (void)read_contract(SourceFile(contract.source.path(), text), findings);
      note(outcome, findings.errors_in(contract.source.path()) > 0, block.id.text);
    }
  }
  return outcome;
}

// A result that speaks for the block on this basis.
RecordedResult fresh_result(const Contract& contract, const FalsifierBlock& block,
                            const FalsifierInfo& falsifier, const StatusBasis& basis) {
  RecordedResult result;
  result.contract = contract.id.text;
  result.contract_version = contract.version;
  result.contract_sha256 = contract.sha256;
  result.criterion = block.id.text;
  result.criterion_sha256 = block.sha256;
  result.falsifier = block.falsifier.text;
  const bool needs_model = falsifier.needs_model || falsifier.needs_pack;
  if (needs_model) result.subject_sha256 = basis.subject_sha256;
  if (falsifier.needs_pack) result.expected_sha256 = basis.expected_sha256;
  result.cases = block.cases;
  result.verdict.kind = VerdictKind::kHeld;
  result.verdict.cases_run = block.cases;
  for (const MetricInfo& metric : falsifier.metrics) {
    double bound = metric.ceiling;
    for (const Gate& gate : block.gates) {
      if (gate.metric.text == metric.name) bound = gate.bound;
    }
    result.verdict.metrics.push_back({.metric = std::string(metric.name),
                                      .worst = bound,
                                      .threshold = bound,
                                      .larger_is_better = metric.larger_is_better,
                                      .where = "somewhere"});
  }
  return result;
}

template <typename Mutate>
MutantOutcome stale_evidence(const char* id, const MutantInputs& inputs, const Mutate& mutate) {
  MutantOutcome outcome{.id = id, .tried = 0, .green = {}};
  const StatusBasis basis = default_basis();
  for (const Contract& contract : inputs.contracts) {
    for (const FalsifierBlock& block : contract.falsifiers) {
      const FalsifierInfo* falsifier = find_falsifier(block.falsifier.text);
      if (falsifier == nullptr) continue;
      const RecordedResult fresh = fresh_result(contract, block, *falsifier, basis);
      // The control: without the mutation it counts.
      const bool counts = why_stale(fresh, basis.tree_sha256, contract, block, basis).empty();
      mutate(fresh,
             [&](const RecordedResult& mutant, const std::string& tree, std::string_view what) {
               const bool stale = !why_stale(mutant, tree, contract, block, basis).empty();
               note(outcome, counts && stale, fmt::format("{}: {}", block.id.text, what));
             });
    }
  }
  return outcome;
}

MutantOutcome other_contract_file(const MutantInputs& inputs) {
  const std::string tree = default_basis().tree_sha256;
  return stale_evidence("G11", inputs, [&](RecordedResult result, const auto& judge) {
    result.contract_sha256 = std::string(64, '0');
    judge(result, tree, "other bytes");
  });
}

MutantOutcome stale_record(const MutantInputs& inputs) {
  const std::string tree = default_basis().tree_sha256;
  return stale_evidence("G12", inputs, [&](const RecordedResult& fresh, const auto& judge) {
    judge(fresh, std::string(64, '0'), "other sources");
    RecordedResult mutant = fresh;
    mutant.criterion_sha256 = std::string(64, '0');
    judge(mutant, tree, "another block");
    mutant = fresh;
    mutant.cases = 0;
    mutant.verdict.cases_run = 0;
    judge(mutant, tree, "fewer cases");
  });
}

}  // namespace

std::vector<MutantOutcome> try_gate_mutants(const MutantInputs& inputs) {
  return {threshold_times_100(inputs),
          turned_gate(inputs),
          nan_in_a_result(),
          empty_tensor(),
          same_buffer(),
          reference_under_test(inputs),
          swallowed_exception(),
          killed_process(),
          skip_as_pass(),
          zero_cases(inputs),
          other_contract_file(inputs),
          stale_record(inputs)};
}

std::vector<MutantOutcome> try_mutants(const MutantInputs& inputs) {
  std::vector<MutantOutcome> outcomes = try_gate_mutants(inputs);
  for (MutantOutcome& outcome : try_contract_mutants(inputs.contracts)) {
    outcomes.push_back(std::move(outcome));
  }
  return outcomes;
}

}  // namespace refute
