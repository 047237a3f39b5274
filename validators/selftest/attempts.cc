#include "validators/selftest/attempts.h"

#include <bit>
#include <chrono>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "falsifiers/fault_catalogue.h"
#include "falsifiers/metrics.h"
#include "falsifiers/registry.h"
#include "falsifiers/traced_run.h"
#include "kernels/check.h"
#include "kernels/faults.h"
#include "validators/run.h"
#include "validators/witness.h"

namespace refute {
namespace {

using nlohmann::json;

FaultHost host_of(BackendId backend) {
  switch (backend) {
    case BackendId::kOracle:
      return FaultHost::kOracle;
    case BackendId::kCpu:
      return FaultHost::kCpu;
    case BackendId::kCuda:
      return FaultHost::kCuda;
    case BackendId::kWgpu:
      return FaultHost::kWgpu;
  }
  CHECK(false);
  return FaultHost::kOracle;
}

std::vector<std::string> faults_in_reach(const FaultCoverage& coverage, BackendId backend) {
  std::vector<std::string> reached;
  for (const FaultInfo& fault : fault_catalogue()) {
    const FaultId id(fault.id.data(), fault.id.size());
    if (coverage.reached(id, host_of(backend))) reached.emplace_back(fault.id);
  }
  return reached;
}

Result<Matrix<double>> all_logits(const Backend& backend, const LoadedSubject& subject) {
  constexpr std::size_t kNumTokens = 48;
  const Subject given{
      .backend = backend, .model = &subject.model, .pack = subject.pack ? &*subject.pack : nullptr};
  const auto tokens = probe_tokens(given, 1, kNumTokens);
  auto session = backend.open_session(subject.model, tokens.size());
  if (!session) return session.error();
  ForwardOptions options;
  options.logit_rows = LogitRows::kAll;
  return (*session)->forward(tokens, options);
}

AttemptResult popular_gate(const AttemptTask& task, const LoadedSubject& subject,
                           const Backend& backend) {
  // A worker serves one subject, and without a fault its logits never change.
  static std::map<BackendId, Matrix<double>> right_of;
  const auto [entry, is_new] = right_of.try_emplace(task.backend);
  if (is_new) entry->second = all_logits(backend, subject).value();
  const Matrix<double>& right = entry->second;
  const SeededFault seeded(FaultId(task.fault.data(), task.fault.size()), host_of(task.backend));
  const auto wrong = all_logits(backend, subject);
  AttemptResult result;
  result.kind = VerdictKind::kHeld;
  result.hits = seeded.hits();
  const auto comparison =
      wrong ? compare(right.view(), wrong->view()) : Result<Comparison>(wrong.error());
  const double cosine =
      comparison ? comparison->worst_row_cosine : std::numeric_limits<double>::quiet_NaN();
  result.metrics.push_back({"logits_cosine", cosine, 0.99, true, ""});
  return result;
}

AttemptResult run_attempt(const AttemptTask& task, const LoadedSubject& subject,
                          const Backends& backends, std::size_t cases) {
  const Backend& backend = *backends.of(task.backend).backend;
  if (task.falsifier == kPopularGate) return popular_gate(task, subject, backend);
  const FalsifierInfo* falsifier = find_falsifier(task.falsifier);
  CHECK(falsifier != nullptr);
  Criterion criterion;
  criterion.cases = cases;
  criterion.seed = task.seed;
  criterion.shrink = false;
  criterion.thorough = task.fault.empty();

  WitnessLog log;
  AttemptResult result;
  std::optional<FaultCoverage> coverage;
  std::optional<SeededFault> seeded;
  if (task.fault.empty()) {
    coverage.emplace();
  } else {
    seeded.emplace(FaultId(task.fault.data(), task.fault.size()), host_of(task.backend));
  }
  const auto start = std::chrono::steady_clock::now();
  const Verdict verdict = attempt(*falsifier, backend, criterion, subject, log);
  result.duration_us =
      static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::microseconds>(
                                     std::chrono::steady_clock::now() - start)
                                     .count());
  if (coverage) result.reached = faults_in_reach(*coverage, task.backend);
  if (seeded) result.hits = seeded->hits();
  result.kind = verdict.kind;
  result.refuted_by = verdict.refuted_by;
  result.reason = verdict.reason;
  result.metrics = verdict.metrics;
  result.cases_run = verdict.cases_run;
  result.outputs_sha256 = log.outputs_sha256();
  return result;
}

}  // namespace

std::string AttemptTask::text() const {
  return json{falsifier, static_cast<int>(backend), seed, fault}.dump();
}

AttemptTask AttemptTask::parse(const std::string& text) {
  const json parts = json::parse(text);
  return {parts.at(0), static_cast<BackendId>(parts.at(1).get<int>()), parts.at(2), parts.at(3)};
}

std::string AttemptResult::text() const {
  json readings = json::array();
  for (const MetricReading& reading : metrics) {
    // As bits, because JSON holds no NaN.
    readings.push_back({reading.metric, std::bit_cast<std::uint64_t>(reading.worst),
                        std::bit_cast<std::uint64_t>(reading.threshold), reading.larger_is_better});
  }
  return json{static_cast<int>(kind),
              static_cast<int>(refuted_by),
              reason,
              readings,
              cases_run,
              hits,
              outputs_sha256,
              reached,
              duration_us}
      .dump(-1, ' ', false, json::error_handler_t::replace);
}

AttemptResult AttemptResult::parse(const std::string& text) {
  const json parts = json::parse(text);
  AttemptResult result{.kind = static_cast<VerdictKind>(parts.at(0).get<int>()),
                       .refuted_by = static_cast<RefutedBy>(parts.at(1).get<int>()),
                       .reason = parts.at(2),
                       .metrics = {},
                       .cases_run = parts.at(4),
                       .hits = parts.at(5),
                       .outputs_sha256 = parts.at(6),
                       .reached = parts.at(7),
                       .duration_us = parts.at(8)};
  for (const json& reading : parts.at(3)) {
    result.metrics.push_back(
        {.metric = reading.at(0),
         .worst = std::bit_cast<double>(reading.at(1).get<std::uint64_t>()),
         .threshold = std::bit_cast<double>(reading.at(2).get<std::uint64_t>()),
         .larger_is_better = reading.at(3),
         .where = ""});
  }
  return result;
}

std::vector<std::string> parse_backend_names(const std::string& text) {
  return json::parse(text).get<std::vector<std::string>>();
}

WorkerPool::Work attempt_work(const LoadedSubject& subject, std::size_t cases,
                              std::size_t seeded_cases) {
  return [&subject, cases, seeded_cases](const std::string& text) {
    // Made in the worker: a pool of threads does not survive a fork.
    static const Result<Backends> backends = Backends::create(1);
    if (text == kWhichBackends) {
      json names = json::array();
      for (const BackendId id : kAllBackends) {
        if (backends->of(id).backend != nullptr) names.push_back(backend_name(id));
      }
      return names.dump();
    }
    const AttemptTask task = AttemptTask::parse(text);
    return run_attempt(task, subject, *backends, task.fault.empty() ? cases : seeded_cases).text();
  };
}

}  // namespace refute
