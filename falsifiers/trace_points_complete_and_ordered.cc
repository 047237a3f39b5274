// Claim: a forward pass records every trace point exactly once, in the documented order, with the
//   documented shape, position and element type, per-expert points included; a second call records
//   the same again from where the first ended; and when only the last logits are asked for, the
//   points after the layers hold the last token.
// Why it must hold: all backends record the same points in the same order, else runs cannot be
//   compared point by point, and a stage that is not recorded is not verified.
// Catches: a missing, doubled, reordered or misplaced point, wrong positions of a chunk, ids
//   recorded as reals, a fused kernel that skips its inner points.
// Misses: wrong contents, which parity sees.
// Source: engine/trace.h; stages M-MOE-SUB-1..4 of the public contracts.
#include "falsifiers/trace_points_complete_and_ordered.h"

#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "engine/backend.h"
#include "falsifiers/parity.h"
#include "falsifiers/traced_run.h"

namespace refute {
namespace {

constexpr std::size_t kNumTokens = 5;

constexpr std::array<MetricInfo, 1> kMetrics = {{
    {"wrong_records",
     "records of a call that are not the documented one at their place; fewer "
     "than one",
     false, 0.5},
}};

struct Record {
  TraceSite site;
  std::size_t first_position = 0;
  TraceShape shape;
  bool is_integer = false;

  bool operator==(const Record&) const = default;
  std::string text() const {
    return site.name() + " at position " + std::to_string(first_position) + " [" +
           std::to_string(shape.rows) + ", " + std::to_string(shape.columns) + "]" +
           (is_integer ? " of integers" : "");
  }
};

class RecordList : public TraceSink {
 public:
  void record(TraceSite site, std::size_t first_position, MatrixView<const double> rows) override {
    records_.push_back({site, first_position, {rows.rows, rows.columns}, false});
  }
  void record(TraceSite site, std::size_t first_position, MatrixView<const float> rows) override {
    records_.push_back({site, first_position, {rows.rows, rows.columns}, false});
  }
  void record(TraceSite site, std::size_t first_position,
              MatrixView<const std::int32_t> rows) override {
    records_.push_back({site, first_position, {rows.rows, rows.columns}, true});
  }
  const std::vector<Record>& records() const { return records_; }

 private:
  std::vector<Record> records_;
};

// One call of the forward pass.
struct Call {
  std::size_t first_position;
  std::size_t num_tokens;
  LogitRows logit_rows;
};

std::vector<Record> documented(const Config& config, const Call& call) {
  std::vector<Record> records;
  for (const TraceSite site : forward_order(config)) {
    const bool after_layers =
        site.point == TracePoint::kOutputNorm || site.point == TracePoint::kLogits;
    const bool last_only = after_layers && call.logit_rows == LogitRows::kLast;
    const std::size_t num_tokens = last_only ? 1 : call.num_tokens;
    records.push_back({site, call.first_position + call.num_tokens - num_tokens,
                       trace_shape(config, site.point, num_tokens),
                       site.point == TracePoint::kRouterIndex});
  }
  return records;
}

void judge_records(const std::vector<Record>& expected, const std::vector<Record>& found,
                   const std::string& where, Judge* judge) {
  std::size_t wrong = 0;
  std::string first;
  for (std::size_t i = 0; i < std::max(expected.size(), found.size()); ++i) {
    const bool right = i < expected.size() && i < found.size() && expected[i] == found[i];
    if (right) continue;
    ++wrong;
    if (!first.empty()) continue;
    first = ", expected " + (i < expected.size() ? expected[i].text() : "nothing") + ", found " +
            (i < found.size() ? found[i].text() : "nothing");
  }
  const bool held = judge->measure("wrong_records", static_cast<double>(wrong), where + first);
  judge->count_case(!held);
}

}  // namespace

Verdict falsify_trace_points_complete_and_ordered(const Subject& subject,
                                                  const Criterion& criterion) {
  Judge judge(kMetrics, criterion);
  const Config& config = subject.model->config();
  const auto tokens = random_tokens(config, criterion.seed, 2 * kNumTokens + 1);
  auto session = subject.backend.open_session(*subject.model, tokens.size());
  if (!session) {
    judge_subject_error(session.error(), "open_session", &judge);
    return judge.verdict();
  }
  constexpr std::array<Call, 3> kCalls = {{{0, kNumTokens, LogitRows::kAll},
                                           {kNumTokens, kNumTokens, LogitRows::kLast},
                                           {2 * kNumTokens, 1, LogitRows::kLast}}};
  for (const Call& call : kCalls) {
    if (call.first_position + call.num_tokens > tokens.size()) break;
    const std::string where = "call at position " + std::to_string(call.first_position);
    RecordList list;
    ForwardOptions options;
    options.logit_rows = call.logit_rows;
    options.trace = &list;
    const auto logits = (*session)->forward(
        std::span(tokens).subspan(call.first_position, call.num_tokens), options);
    if (!logits) {
      judge_subject_error(logits.error(), where, &judge);
      break;
    }
    judge_records(documented(config, call), list.records(), where, &judge);
  }
  return judge.verdict();
}

const FalsifierInfo& trace_points_complete_and_ordered_info() {
  static constexpr FalsifierInfo kInfo = {
      .id = "trace.points_complete_and_ordered",
      .claim =
          "A forward pass records every trace point exactly once, in the documented order, with "
          "the documented shape, position and element type.",
      .why = "Runs can only be compared point by point when all backends record the same points.",
      .catches =
          "A missing, doubled, reordered or misplaced point; a fused kernel that skips its inner "
          "points.",
      .misses = "Wrong contents.",
      .source = "engine/trace.h; stages M-MOE-SUB-1..4.",
      .metrics = kMetrics,
      .backends = kAllBackends,
      .needs_model = true,
      .needs_pack = false,
      .falsify = falsify_trace_points_complete_and_ordered,
  };
  return kInfo;
}

}  // namespace refute
