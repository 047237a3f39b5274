// Which record speaks for which criterion.
#include "validators/evidence.h"

#include <fmt/format.h>

#include <algorithm>
#include <ranges>

#include "falsifiers/registry.h"

namespace refute {
namespace {

bool concerns(const RecordedResult& result, const CriterionEvidence& wanted) {
  return result.contract == wanted.contract->id.text && result.criterion == wanted.block->id.text &&
         result.backend == wanted.backend && result.verdict.kind != VerdictKind::kNotRun;
}

bool is_other_subject(const RecordedResult& result, const StatusBasis& basis) {
  return !result.subject_sha256.empty() && result.subject_sha256 != basis.subject_sha256;
}

double bound_of(const FalsifierBlock& block, const MetricInfo& metric) {
  for (const Gate& gate : block.gates) {
    if (gate.metric.text == metric.name) return gate.bound;
  }
  return metric.ceiling;
}

// Empty where the result is of as many cases as the block asks for.
std::string too_few_cases(const RecordedResult& result, const FalsifierBlock& block) {
  if (result.cases >= block.cases) return "";
  return fmt::format("it asked for {} cases, the contract for {}", result.cases, block.cases);
}

// What a result that claims to have held lacks to be what the block asks for.
std::string why_weak(const RecordedResult& result, const FalsifierBlock& block) {
  const FalsifierInfo* falsifier = find_falsifier(result.falsifier);
  if (falsifier == nullptr) return result.falsifier + " is no longer registered";
  if (std::string few = too_few_cases(result, block); !few.empty()) return few;
  const auto& readings = result.verdict.metrics;
  for (const MetricInfo& metric : falsifier->metrics) {
    const auto reading =
        std::find_if(readings.begin(), readings.end(),
                     [&](const MetricReading& found) { return found.metric == metric.name; });
    if (reading == readings.end()) return fmt::format("it lacks the metric {}", metric.name);
    const double bound = bound_of(block, metric);
    if (!(reading->threshold == bound) || reading->larger_is_better != metric.larger_is_better) {
      return fmt::format("its bound on {} is {}, the contract's {}", metric.name,
                         reading->threshold, bound);
    }
  }
  return "";
}

}  // namespace

std::string why_stale(const RecordedResult& result, const std::string& recorded_tree_sha256,
                      const Contract& contract, const FalsifierBlock& block,
                      const StatusBasis& basis) {
  if (result.criterion_sha256 != block.sha256) return "its falsifier block has changed";
  if (result.contract_sha256 != contract.sha256) return "the contract file has changed";
  if (recorded_tree_sha256 != basis.tree_sha256) {
    return "kernels/, engine/ or falsifiers/ have changed";
  }
  if (!result.expected_sha256.empty() && result.expected_sha256 != basis.expected_sha256) {
    return "it was held against other expectations";
  }
  // Over all the cases it might not have given up.
  if (result.verdict.kind == VerdictKind::kGaveUp) return too_few_cases(result, block);
  if (!result.verdict.held()) return "";
  return why_weak(result, block);
}

CriterionEvidence find_evidence(CriterionEvidence wanted, const RecordStore& store,
                                const StatusBasis& basis) {
  wanted.evidence = Evidence::kMissing;
  wanted.why = "no record";
  for (const StoredRecord& stored : std::views::reverse(store.records)) {
    for (const RecordedResult& result : stored.record.results) {
      if (!concerns(result, wanted) || is_other_subject(result, basis)) continue;
      const std::string stale =
          why_stale(result, stored.record.tree_sha256, *wanted.contract, *wanted.block, basis);
      if (stale.empty()) {
        wanted.record = stored.file;
        wanted.evidence = result.verdict.held() ? Evidence::kHeld : Evidence::kRefuted;
        wanted.why = result.verdict.held() ? ""
                                           : std::string(verdict_name(result.verdict.kind)) + ": " +
                                                 result.verdict.reason;
        return wanted;
      }
      if (wanted.evidence == Evidence::kMissing) {
        wanted.evidence = Evidence::kStale;
        wanted.record = stored.file;
        wanted.why = "stale record: " + stale;
      }
    }
  }
  return wanted;
}

std::vector<std::string> evidence_of_other_subjects(std::span<const CriterionEvidence> criteria,
                                                    const RecordStore& store,
                                                    const StatusBasis& basis) {
  std::vector<std::string> lines;
  for (const StoredRecord& stored : store.records) {
    for (const RecordedResult& result : stored.record.results) {
      const bool cited = std::any_of(
          criteria.begin(), criteria.end(),
          [&](const CriterionEvidence& criterion) { return concerns(result, criterion); });
      if (!cited || !is_other_subject(result, basis)) continue;
      lines.push_back(fmt::format("{} on {}: {} for the model {} ({})", result.criterion,
                                  backend_name(result.backend), verdict_name(result.verdict.kind),
                                  result.subject_sha256.substr(0, 12), stored.file));
    }
  }
  return lines;
}

}  // namespace refute
