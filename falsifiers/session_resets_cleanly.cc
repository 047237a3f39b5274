// Claim: a session that was used and rolled back, with everything unused poisoned with NaN or left
// as
//   it was, gives bitwise what a new one gives, from position 0 and from the middle; two sessions
//   used in turns give what each gives alone; and a session that is full says so, keeps its length,
//   and goes on.
// Why it must hold: a sequence is a function of its tokens. Nothing of what was rolled back, of
//   another sequence, or of unused memory is an input.
// Catches: cache rows kept past a rollback, lengths kept per layer, workspaces read before they are
//   written, state shared between sessions, writes past the end of a full cache.
// Misses: state that a new session reads as well (determinism.repeats, parity).
// Source: comparison class E.
#include "falsifiers/session_resets_cleanly.h"

#include <algorithm>
#include <array>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "falsifiers/comparison_gates.h"
#include "falsifiers/parity.h"
#include "falsifiers/seeded_random.h"
#include "falsifiers/traced_run.h"

namespace refute {
namespace {

constexpr std::size_t kNumTokens = 13;
constexpr std::size_t kKept = 5;  // Tokens kept by the rollback to the middle.

constexpr std::array<MetricInfo, 1> kMetrics = {{kDifferingElements}};

using Tokens = std::vector<std::int32_t>;

class Sessions {
 public:
  Sessions(const Subject& subject, std::uint64_t seed, Judge* judge)
      : subject_(subject),
        config_(subject.model->config()),
        tokens_(random_tokens(config_, mix_seed(seed, 0), kNumTokens)),
        others_(random_tokens(config_, mix_seed(seed, 1), kNumTokens)),
        judge_(judge) {}

  void judge_all() {
    auto alone = run_new(tokens_);
    auto other_alone = run_new(others_);
    if (!alone || !other_alone) return;
    judge_reset(*alone);
    if (!judge_->is_settled()) judge_middle(*alone);
    if (!judge_->is_settled()) judge_turns(*alone, *other_alone);
    if (!judge_->is_settled()) judge_full();
  }

 private:
  using Opened = std::unique_ptr<Session>;

  Opened open(std::size_t capacity) {
    auto session = subject_.backend.open_session(*subject_.model, capacity);
    if (session) return std::move(*session);
    judge_subject_error(session.error(), "open_session", judge_);
    return nullptr;
  }

  std::optional<TracedRun> run(Session& session, std::span<const std::int32_t> tokens,
                               std::string_view where) {
    auto run = run_traced(session, tokens);
    if (run) return std::move(*run);
    judge_subject_error(run.error(), where, judge_);
    return std::nullopt;
  }

  std::optional<TracedRun> run_new(const Tokens& tokens) {
    const Opened session = open(tokens.size());
    if (session == nullptr) return std::nullopt;
    return run(*session, tokens, "a new session");
  }

  // What was rolled back is poisoned, or left where it is: what reads it is seen by NaN, and what
  // keeps it in place of the new is seen by its old value.
  bool roll_back(Session& session, std::size_t length, bool poison) {
    if (const auto ok = session.rollback(length); !ok) {
      judge_subject_error(ok.error(), "rollback", judge_);
      return false;
    }
    if (session.length() != length) {
      judge_->refute("after a rollback to " + std::to_string(length) + " the length is " +
                     std::to_string(session.length()));
      return false;
    }
    if (poison) session.poison_unused();
    return true;
  }

  void compare(const TracedRun& expected, const TracedRun& found, std::string_view where) {
    measure_differing_elements(config_, expected, found, found.logits.rows(), "differing_elements",
                               where, judge_);
  }

  void judge_reset(const TracedRun& alone) {
    const Opened session = open(tokens_.size());
    if (session == nullptr) return;
    for (const bool poison : {false, true}) {
      const char* const where = poison ? "after a reset, poisoned" : "after a reset";
      if (!run(*session, others_, "before a reset")) return;
      if (!roll_back(*session, 0, poison)) return;
      const auto again = run(*session, tokens_, where);
      if (again) compare(alone, *again, where);
      if (!roll_back(*session, 0, poison)) return;
    }
  }

  // The kept tokens, other ones, a rollback to the kept ones, then the rest: the rest must be as if
  // the others had never been. Compared by decoding the same rest after the kept ones alone.
  void judge_middle(const TracedRun& alone) {
    const std::size_t kept = std::min(kKept, tokens_.size() - 1);
    const std::span<const std::int32_t> all = tokens_;
    const Opened session = open(tokens_.size());
    if (session == nullptr) return;
    const auto start = run(*session, all.first(kept), "the tokens kept");
    if (!start) return;
    compare(alone, *start, "the tokens kept");
    const auto excess = std::span<const std::int32_t>(others_).first(tokens_.size() - kept);
    if (!run(*session, excess, "the tokens rolled back")) return;
    if (!roll_back(*session, kept, true)) return;
    const auto rest = run(*session, all.subspan(kept), "after a rollback");

    const Opened reference = open(tokens_.size());
    if (reference == nullptr || !run(*reference, all.first(kept), "the tokens kept")) return;
    const auto expected = run(*reference, all.subspan(kept), "without a rollback");
    if (rest && expected) compare(*expected, *rest, "after a rollback to the middle");
  }

  void judge_turns(const TracedRun& alone, const TracedRun& other_alone) {
    const Opened first = open(tokens_.size());
    const Opened second = open(others_.size());
    if (first == nullptr || second == nullptr) return;
    Matrix<double> logits[2] = {{tokens_.size(), config_.vocab_size},
                                {others_.size(), config_.vocab_size}};
    for (std::size_t t = 0; t < tokens_.size(); ++t) {
      const auto a = (*first).forward({&tokens_[t], 1}, {});
      const auto b = (*second).forward({&others_[t], 1}, {});
      if (!a || !b) return judge_subject_error(a ? b.error() : a.error(), "turns", judge_);
      std::ranges::copy(a->flat(), logits[0].row(t).begin());
      std::ranges::copy(b->flat(), logits[1].row(t).begin());
    }
    measure_differing("differing_elements", alone.logits.view(), logits[0].view(),
                      "two sessions in turns, the first", judge_);
    measure_differing("differing_elements", other_alone.logits.view(), logits[1].view(),
                      "two sessions in turns, the second", judge_);
  }

  void judge_full() {
    const Opened session = open(tokens_.size());
    if (session == nullptr || !run(*session, tokens_, "up to the capacity")) return;
    const auto past = session->forward({tokens_.data(), 1}, {});
    if (past || past.error().kind != ErrorKind::kContextFull) {
      judge_->refute("a token past the capacity gave " +
                     (past ? std::string("logits") : past.error().message()));
      return;
    }
    if (session->length() != tokens_.size()) {
      judge_->refute("the refused token left the length at " + std::to_string(session->length()));
      return;
    }
    const std::size_t last = tokens_.size() - 1;
    if (!roll_back(*session, last, true)) return;
    const auto again = run(*session, std::span(tokens_).subspan(last), "after a full context");
    const Opened fresh = open(tokens_.size());
    if (!again || fresh == nullptr) return;
    if (last > 0 && !run(*fresh, std::span(tokens_).first(last), "a new session")) return;
    const auto expected = run(*fresh, std::span(tokens_).subspan(last), "a new session");
    if (expected) compare(*expected, *again, "after a full context");
  }

  const Subject& subject_;
  const Config& config_;
  const Tokens tokens_;
  const Tokens others_;
  Judge* judge_;
};

}  // namespace

Verdict falsify_session_resets_cleanly(const Subject& subject, const Criterion& criterion) {
  Judge judge(kMetrics, criterion);
  if (subject.model->config().max_position_embeddings < 2) {
    return Verdict::not_run("the model's context holds a single position");
  }
  Sessions(subject, criterion.seed, &judge).judge_all();
  return judge.verdict();
}

const FalsifierInfo& session_resets_cleanly_info() {
  static constexpr FalsifierInfo kInfo = {
      .id = "session.resets_cleanly",
      .claim =
          "A session that was rolled back, with everything unused poisoned, gives bitwise what a "
          "new one gives; sessions do not see each other; a full one says so and goes on.",
      .why = "A sequence is a function of its tokens.",
      .catches =
          "Cache rows kept past a rollback, workspaces read before they are written, shared state.",
      .misses = "State that a new session reads as well.",
      .source = "Comparison class E.",
      .metrics = kMetrics,
      .backends = kAllBackends,
      .needs_model = true,
      .needs_pack = false,
      .falsify = falsify_session_resets_cleanly,
  };
  return kInfo;
}

}  // namespace refute
