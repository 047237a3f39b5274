// Claim: Every public function and op refuses every bad length, dimension, index, type and token
//   with the right error kind, names what was expected and found in the words of every other
//   backend, writes nothing, and accepts the good call beside it.
// Why: A bad argument that is clamped or read past its end gives numbers that look like an answer;
//   one error table makes backends exchangeable.
// Catches: Missing or reversed checks, checks that multiply and wrap, output written before the
//   check, a session that moves on a refused call, a backend with its own words or kinds.
// Misses: Wrong results for right arguments.
// Source: InvalidShape of the upstream stages; M-GPU-MOE-1.0-redo to 1.1.2.
#include "falsifiers/shape_rejects_bad_arguments.h"

#include <array>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "engine/backend.h"
#include "engine/model.h"
#include "falsifiers/bad_calls.h"
#include "falsifiers/judge.h"
#include "falsifiers/property.h"

namespace refute {
namespace {

constexpr std::string_view kId = "shape.rejects_bad_arguments";

constexpr std::array<MetricInfo, 1> kMetrics = {{
    {"violations",
     "Calls accepted, refused in another way or with effects, or good ones refused; fewer "
     "than one.",
     false, 0.5},
}};

// Empty when `outcome` is right for the call, else what is wrong.
std::string judge_outcome(const BadCall& call, const CallOutcome& outcome,
                          const CallOutcome& expected) {
  if (!call.expected) return outcome.error ? "refused: " + outcome.error->message() : "";
  if (!outcome.error) return "accepted";
  if (outcome.error->kind != *call.expected) return outcome.error->message();
  if (outcome.error->where.empty() || outcome.error->expected.empty() ||
      outcome.error->found.empty()) {
    return "does not say where, what was expected and what was found";
  }
  if (outcome.wrote) return "wrote to its output";
  if (!expected.error || expected.error->message() != outcome.error->message()) {
    return "says '" + outcome.error->message() + "', the oracle says '" +
           (expected.error ? expected.error->message() : "accepted") + "'";
  }
  return "";
}

void try_call(const Backend& reference, const Backend& backend, const BadCall& call,
              PropertyCase& property_case) {
  const std::string wrong = judge_outcome(call, call.run(backend), call.run(reference));
  property_case.measure("violations", wrong.empty() ? 0.0 : 1.0,
                        wrong.empty() ? call.name : call.name + ": " + wrong);
}

// The session's part of one model: calls in a row on a session of four positions.
void try_session(const Backend& reference, const Backend& backend, const Model& model,
                 PropertyCase& property_case) {
  for (const BadCall& call : make_capacity_calls(model)) {
    try_call(reference, backend, call, property_case);
  }
  auto session = backend.open_session(model, kSessionCapacity);
  auto reference_session = reference.open_session(model, kSessionCapacity);
  if (!property_case.require_ok(session, "open_session") ||
      !property_case.require_ok(reference_session, "oracle open_session")) {
    return;
  }
  for (const SessionCall& call : make_session_calls(model.config().vocab_size)) {
    const std::size_t before = (*session)->length();
    const CallOutcome outcome = call.run(**session);
    const CallOutcome expected = call.run(**reference_session);
    std::string wrong = judge_outcome({call.name, call.expected, {}}, outcome, expected);
    const std::size_t length = call.expected ? before : call.length_after;
    if (wrong.empty() && (*session)->length() != length) {
      wrong = "leaves length " + std::to_string((*session)->length());
    }
    property_case.measure("violations", wrong.empty() ? 0.0 : 1.0,
                          wrong.empty() ? call.name : call.name + ": " + wrong);
  }
}

}  // namespace

Verdict falsify_rejects_bad_arguments(const Subject& subject, const Criterion& criterion) {
  Judge judge(kMetrics, criterion);
  const auto oracle = make_oracle_backend(ActivationScheme::kExact);
  const CallMaterial material;
  const std::vector<BadCall> calls = make_bad_calls(material);
  check_pinned({kId, "call"}, criterion, &judge, calls.size(),
               [&](PropertyCase& property_case, std::size_t index) {
                 try_call(*oracle, subject.backend, calls[index], property_case);
               });
  check_pinned({kId, "session"}, criterion, &judge, 1,
               [&](PropertyCase& property_case, std::size_t) {
                 try_session(*oracle, subject.backend, *subject.model, property_case);
               });
  judge.note(std::to_string(calls.size()) + " calls without a session");
  return judge.verdict();
}

const FalsifierInfo& shape_rejects_bad_arguments_info() {
  static const FalsifierInfo info = {
      .id = kId,
      .claim =
          "Every public function and op refuses every bad length, dimension, index, type and token "
          "with the right error kind, names what was expected and found in the words of every "
          "other backend, writes nothing, and accepts the good call beside it.",
      .why =
          "A bad argument that is clamped or read past its end gives numbers that look like an "
          "answer; one error table makes backends exchangeable.",
      .catches =
          "Missing or reversed checks, checks that multiply and wrap, output written before the "
          "check, a session that moves on a refused call, a backend with its own words or kinds.",
      .misses = "Wrong results for right arguments.",
      .source = "InvalidShape of the upstream stages; M-GPU-MOE-1.0-redo to 1.1.2.",
      .metrics = kMetrics,
      .backends = kAllBackends,
      .needs_model = true,
      .needs_pack = false,
      .falsify = falsify_rejects_bad_arguments,
  };
  return info;
}

}  // namespace refute
