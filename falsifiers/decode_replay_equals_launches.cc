// Claim: decoding by replaying recorded kernels gives bitwise what the same kernels give when they
//   are launched one by one, and what the pass of one kernel an op gives; also after resets, with
//   unused memory poisoned, and after calls of more tokens than before; greedy decoding, which
//   never asks the host, continues with the likeliest tokens of that pass; and a replay has as many
//   kernels as are launched.
// Why it must hold: one canonical order of summation, whatever runs it; a recording is the
// launches. Catches: launches that were never recorded, recorded addresses of memory that has
// moved, fused
//   kernels that differ from the ops.
// Misses: errors that all three share.
// Source: comparison class E; a public engine whose replay left out 168 products.
#include "falsifiers/decode_replay_equals_launches.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/backend.h"
#include "engine/model.h"
#include "falsifiers/comparison_gates.h"
#include "falsifiers/judge.h"
#include "falsifiers/parity.h"
#include "falsifiers/traced_run.h"

namespace refute {
namespace {

constexpr std::size_t kNumTokens = 20;
constexpr std::size_t kFirstTokens = 3;   // Decoded before the longer call,
constexpr std::size_t kLongerCall = 11;   // of so many.
constexpr std::size_t kGreedyTokens = 8;  // Also decoded one by one.

constexpr std::array<MetricInfo, 2> kMetrics = {{
    kDifferingElements,
    {"differing_launches",
     "kernels of a replay over or under those launched one by one; fewer than one", false, 0.5},
}};

constexpr std::array<BackendId, 1> kBackends = {BackendId::kCuda};

class Attempt {
 public:
  Attempt(const Subject& subject, std::uint64_t seed, Judge* judge)
      : backend_(subject.backend),
        model_(*subject.model),
        tokens_(random_tokens(model_.config(), seed, kNumTokens)),
        judge_(judge) {}

  // False when the backend records nothing.
  bool run() {
    const auto plain = run_traced(backend_, model_, tokens_);
    if (!plain) {
      judge_subject_error(plain.error(), "one kernel an op", judge_);
      return true;
    }
    expected_ = plain->logits;
    auto session = backend_.open_session(model_, kNumTokens + kGreedyTokens);
    if (!session) {
      judge_subject_error(session.error(), "open_session", judge_);
      return true;
    }
    const auto counts = (*session)->launch_counts();
    if (!counts) return false;
    const std::string both = std::to_string(counts->replayed) + " replayed, " +
                             std::to_string(counts->launched) + " launched";
    if (counts->launched == 0) judge_->refute("no kernel was launched");
    judge_->measure(
        "differing_launches",
        std::abs(static_cast<double>(counts->replayed) - static_cast<double>(counts->launched)),
        both);
    const auto replayed = [&](std::size_t t) { return (*session)->forward({&tokens_[t], 1}, {}); };
    const auto launched = [&](std::size_t t) { return (*session)->forward_unrecorded(tokens_[t]); };
    if (!compare_rows(0, kNumTokens, "replayed", replayed)) return true;
    if (!reset(**session)) return true;
    if (!compare_rows(0, kNumTokens, "launched one by one", launched)) return true;
    if (!reset(**session)) return true;
    if (!compare_rows(0, kFirstTokens, "replayed after a reset", replayed)) return true;
    if (!longer_call(**session)) return true;
    if (!compare_rows(kFirstTokens + kLongerCall, kNumTokens, "replayed after a longer call",
                      replayed)) {
      return true;
    }
    compare_greedy(**session);
    return true;
  }

 private:
  using Row = std::function<Result<Matrix<double>>(std::size_t t)>;

  bool compare_rows(std::size_t begin, std::size_t end, const std::string& where, const Row& row) {
    for (std::size_t t = begin; t < end; ++t) {
      const auto logits = row(t);
      if (!logits) {
        judge_subject_error(logits.error(), where, judge_);
        return false;
      }
      compare(t, *logits, where + ", token " + std::to_string(t));
    }
    return true;
  }

  void compare(std::size_t t, const Matrix<double>& logits, const std::string& where) {
    const MatrixView<const double> row(expected_.row(t).data(), 1, expected_.columns());
    measure_differing("differing_elements", row, logits.view(), where, judge_);
  }

  bool reset(Session& session) {
    if (const auto ok = session.rollback(0); !ok) {
      judge_subject_error(ok.error(), "rollback", judge_);
      return false;
    }
    session.poison_unused();
    return true;
  }

  bool longer_call(Session& session) {
    const auto logits = session.forward(std::span(tokens_).subspan(kFirstTokens, kLongerCall), {});
    if (!logits) {
      judge_subject_error(logits.error(), "a longer call", judge_);
      return false;
    }
    compare(kFirstTokens + kLongerCall - 1, *logits, "a longer call");
    return true;
  }

  // The likeliest of the logits, of equal ones the first.
  static std::int32_t likeliest(const Matrix<double>& logits) {
    const auto row = logits.row(logits.rows() - 1);
    return static_cast<std::int32_t>(std::ranges::max_element(row) - row.begin());
  }

  void compare_greedy(Session& session) {
    const std::size_t held = session.length();
    const std::int32_t first = tokens_.front();
    const auto greedy = session.decode_greedy(first, kGreedyTokens);
    if (!greedy) return judge_subject_error(greedy.error(), "greedy decoding", judge_);
    if (greedy->size() != kGreedyTokens) {
      return judge_->refute("greedy decoding gave " + std::to_string(greedy->size()) + " of " +
                            std::to_string(kGreedyTokens) + " tokens");
    }
    if (const auto ok = session.rollback(held); !ok) {
      return judge_subject_error(ok.error(), "rollback", judge_);
    }
    std::int32_t token = first;
    double differing = 0.0;
    for (std::size_t i = 0; i < kGreedyTokens; ++i) {
      const auto logits = session.forward_unrecorded(token);
      if (!logits) return judge_subject_error(logits.error(), "one by one", judge_);
      token = likeliest(*logits);
      differing += token == (*greedy)[i] ? 0.0 : 1.0;
    }
    judge_->measure("differing_elements", differing, "greedy tokens");
  }

  const Backend& backend_;
  const Model& model_;
  std::vector<std::int32_t> tokens_;
  Judge* judge_;
  Matrix<double> expected_;
};

}  // namespace

Verdict falsify_decode_replay_equals_launches(const Subject& subject, const Criterion& criterion) {
  Judge judge(kMetrics, criterion);
  if (!Attempt(subject, criterion.seed, &judge).run()) {
    return Verdict::not_run(subject.backend.description() + " records no kernels");
  }
  return judge.verdict();
}

const FalsifierInfo& decode_replay_equals_launches_info() {
  static constexpr FalsifierInfo kInfo = {
      .id = "decode.replay_equals_launches",
      .claim =
          "Replaying the recorded kernels of a token gives bitwise what launching them one by one "
          "and what one kernel an op give, and replays as many as are launched.",
      .why = "One canonical order of summation, whatever runs it; a recording is the launches.",
      .catches = "Launches that were never recorded, recorded addresses of memory that has moved.",
      .misses = "Errors that all three share.",
      .source = "Comparison class E; a public engine whose replay left out 168 products.",
      .metrics = kMetrics,
      .backends = kBackends,
      .needs_model = true,
      .needs_pack = false,
      .falsify = falsify_decode_replay_equals_launches,
  };
  return kInfo;
}

}  // namespace refute
