#include "falsifiers/verdict.h"

#include <utility>

namespace refute {

std::string_view verdict_name(VerdictKind kind) {
  switch (kind) {
    case VerdictKind::kHeld:
      return "held";
    case VerdictKind::kRefuted:
      return "refuted";
    case VerdictKind::kGaveUp:
      return "gave_up";
    case VerdictKind::kNotRun:
      return "not_run";
    case VerdictKind::kError:
      return "error";
  }
  return "unknown";
}

std::string_view refuted_by_name(RefutedBy by) {
  switch (by) {
    case RefutedBy::kNothing:
      return "nothing";
    case RefutedBy::kMetric:
      return "metric";
    case RefutedBy::kCheck:
      return "check";
    case RefutedBy::kTrap:
      return "trap";
  }
  return "unknown";
}

Verdict Verdict::not_run(std::string reason) {
  Verdict verdict;
  verdict.kind = VerdictKind::kNotRun;
  verdict.reason = std::move(reason);
  return verdict;
}

Verdict Verdict::error(std::string reason) {
  Verdict verdict;
  verdict.kind = VerdictKind::kError;
  verdict.reason = std::move(reason);
  return verdict;
}

}  // namespace refute
