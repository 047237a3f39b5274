#include "falsifiers/textbook_stages.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <set>
#include <string>
#include <vector>

#include "falsifiers/generators.h"
#include "falsifiers/routing_checks.h"
#include "falsifiers/seeded_random.h"
#include "falsifiers/textbook_math.h"

namespace refute {
namespace {

// One stage's rows: what it gave, and the columns that are looked at.
class StageRow {
 public:
  StageRow(std::span<const double> found, std::span<const std::size_t> columns)
      : found_(found), columns_(columns) {}

  // The largest error of the columns over the root mean square of what they should be.
  double error(const std::function<double(std::size_t column)>& expected) const {
    double square = 0.0;
    double largest = 0.0;
    for (const std::size_t column : columns_) {
      const double value = expected(column);
      square += value * value / static_cast<double>(columns_.size());
      const double distance = std::abs(found_[column] - value);
      if (!(distance <= largest)) largest = distance;
    }
    return largest == 0.0 ? 0.0 : largest / std::sqrt(square);
  }

 private:
  std::span<const double> found_;
  std::span<const std::size_t> columns_;
};

class Stages {
 public:
  Stages(const Model& model, std::span<const std::int32_t> tokens, const TracedRun& run,
         std::size_t most_rows, std::uint64_t seed, PropertyCase* property_case)
      : model_(model),
        config_(model.config()),
        tokens_(tokens),
        run_(run),
        most_rows_(most_rows),
        random_(seed),
        case_(*property_case) {}

  void measure_all() {
    embedding();
    for (layer_ = 0; layer_ < config_.num_hidden_layers; ++layer_) {
      attention_block();
      if (!router()) return;
      experts();
    }
    layer_ = 0;
    const std::size_t last = config_.num_hidden_layers - 1;
    norm(TracePoint::kOutputNorm, run_.trace.at({TracePoint::kFfnResidual, last}).values,
         model_.norm());
    product(TracePoint::kLogits, model_.lm_head(), at(TracePoint::kOutputNorm));
  }

 private:
  const Matrix<double>& at(TracePoint point) const {
    const bool in_layer = is_per_layer(point);
    return run_.trace.at({point, in_layer ? layer_ : 0}).values;
  }

  std::string name(TracePoint point) const {
    return TraceSite{point, is_per_layer(point) ? layer_ : 0}.name();
  }

  void measure(TracePoint point, std::size_t row, double error) {
    case_.measure("error", error, name(point) + " row " + std::to_string(row));
  }

  // The rows of a stage in full, each from a function of the row.
  void rows(TracePoint point,
            const std::function<std::vector<double>(std::size_t row)>& expected_row) {
    const Matrix<double>& found = at(point);
    std::vector<std::size_t> columns(found.columns());
    std::iota(columns.begin(), columns.end(), std::size_t{0});
    for (std::size_t r = 0; r < found.rows(); ++r) {
      const std::vector<double> expected = expected_row(r);
      measure(point, r,
              StageRow(found.row(r), columns).error([&](std::size_t c) { return expected[c]; }));
    }
  }

  std::vector<std::size_t> choose_rows(std::size_t count) {
    std::set<std::size_t> chosen = {0, count - 1};
    if (count <= most_rows_) {
      for (std::size_t r = 0; r < count; ++r) chosen.insert(r);
    }
    while (chosen.size() < std::min(count, most_rows_)) chosen.insert(random_.below(count));
    return {chosen.begin(), chosen.end()};
  }

  // Rows `slots` of a stage are weight times the rows of x that `input` names.
  void product(TracePoint point, const WeightView& weight, const Matrix<double>& x,
               std::span<const std::size_t> slots,
               const std::function<std::size_t(std::size_t slot)>& input) {
    const std::vector<std::size_t> columns = choose_rows(weight.rows);
    Matrix<double> expected(slots.size(), weight.rows);
    for (const std::size_t column : columns) {
      const std::vector<double> stored = textbook::stored_row(weight, column);
      for (std::size_t i = 0; i < slots.size(); ++i) {
        expected(i, column) = textbook::dot(stored, x.row(input(slots[i])));
      }
    }
    for (std::size_t i = 0; i < slots.size(); ++i) {
      const StageRow row(at(point).row(slots[i]), columns);
      measure(point, slots[i], row.error([&](std::size_t column) { return expected(i, column); }));
    }
  }

  void product(TracePoint point, const WeightView& weight, const Matrix<double>& x) {
    std::vector<std::size_t> all(x.rows());
    std::iota(all.begin(), all.end(), std::size_t{0});
    product(point, weight, x, all, [](std::size_t row) { return row; });
  }

  void norm(TracePoint point, const Matrix<double>& x, std::span<const float> gain) {
    const auto epsilon = static_cast<double>(config_.rms_norm_eps);
    rows(point, [&](std::size_t r) {
      std::vector<double> y;
      for (std::size_t first = 0; first < x.columns(); first += gain.size()) {
        const auto head = textbook::rms_norm(x.row(r).subspan(first, gain.size()), gain, epsilon);
        y.insert(y.end(), head.begin(), head.end());
      }
      return y;
    });
  }

  void sum(TracePoint point, const Matrix<double>& a, const Matrix<double>& b) {
    rows(point, [&](std::size_t r) {
      std::vector<double> y(a.row(r).begin(), a.row(r).end());
      for (std::size_t i = 0; i < y.size(); ++i) y[i] += b(r, i);
      return y;
    });
  }

  void embedding() {
    rows(TracePoint::kEmbedding, [&](std::size_t r) {
      return textbook::stored_row(model_.embed_tokens(), static_cast<std::size_t>(tokens_[r]));
    });
  }

  void attention_block() {
    const LayerWeights& weights = model_.layers()[layer_];
    const Matrix<double>& input =
        layer_ == 0 ? run_.trace.at({TracePoint::kEmbedding, 0}).values
                    : run_.trace.at({TracePoint::kFfnResidual, layer_ - 1}).values;
    norm(TracePoint::kAttnNorm, input, weights.input_layernorm);
    product(TracePoint::kQ, weights.q_proj, at(TracePoint::kAttnNorm));
    product(TracePoint::kK, weights.k_proj, at(TracePoint::kAttnNorm));
    product(TracePoint::kV, weights.v_proj, at(TracePoint::kAttnNorm));
    norm(TracePoint::kQNorm, at(TracePoint::kQ), weights.q_norm);
    norm(TracePoint::kKNorm, at(TracePoint::kK), weights.k_norm);
    const auto turned = [&](TracePoint from) {
      return [this, from](std::size_t r) {
        return textbook::rope(at(from).row(r), config_.head_dim, config_.rope_theta, r);
      };
    };
    rows(TracePoint::kQRope, turned(TracePoint::kQNorm));
    rows(TracePoint::kKRope, turned(TracePoint::kKNorm));
    rows(TracePoint::kAttnHeads, [&](std::size_t r) {
      const auto seen = [r](const Matrix<double>& all) {
        return MatrixView<const double>(all.data(), r + 1, all.columns());
      };
      return textbook::attention(config_.attention_shape(), at(TracePoint::kQRope).row(r),
                                 seen(at(TracePoint::kKRope)), seen(at(TracePoint::kV)));
    });
    product(TracePoint::kAttnOut, weights.o_proj, at(TracePoint::kAttnHeads));
    sum(TracePoint::kAttnResidual, input, at(TracePoint::kAttnOut));
    norm(TracePoint::kFfnNorm, at(TracePoint::kAttnResidual), weights.post_attention_layernorm);
  }

  std::vector<std::int32_t> ids_of(std::size_t token) const {
    const auto row = at(TracePoint::kRouterIndex).row(token);
    return {row.begin(), row.end()};
  }

  // Whether the ids are those of the traced logits, without which nothing after them can be said.
  bool router() {
    const LayerWeights& weights = model_.layers()[layer_];
    product(TracePoint::kRouterLogits, weights.router, at(TracePoint::kFfnNorm));
    bool right = true;
    for (std::size_t t = 0; t < tokens_.size(); ++t) {
      const auto expected =
          stable_top_k(at(TracePoint::kRouterLogits).row(t), config_.num_experts_per_tok);
      right &= case_.measure("wrong_ids", count_differing(expected, ids_of(t)),
                             name(TracePoint::kRouterIndex) + " row " + std::to_string(t));
    }
    if (!right) return false;
    rows(TracePoint::kRouterWeight, [&](std::size_t t) {
      return closed_form_weights(at(TracePoint::kRouterLogits).row(t), ids_of(t),
                                 config_.norm_topk_prob);
    });
    return true;
  }

  void experts() {
    const LayerWeights& weights = model_.layers()[layer_];
    const std::size_t k = config_.num_experts_per_tok;
    const auto ids = at(TracePoint::kRouterIndex).flat();
    const auto token_of = [k](std::size_t slot) { return slot / k; };
    const auto itself = [](std::size_t slot) { return slot; };
    for (std::size_t expert = 0; expert < config_.num_experts; ++expert) {
      std::vector<std::size_t> slots;
      for (std::size_t slot = 0; slot < ids.size(); ++slot) {
        if (ids[slot] == static_cast<double>(expert)) slots.push_back(slot);
      }
      if (slots.empty()) continue;
      const auto of = [expert](const ExpertStack& stack) {
        const WeightView all{stack.type, stack.num_experts * stack.rows, stack.columns,
                             stack.data.data()};
        return WeightView{stack.type, stack.rows, stack.columns, all.row(expert * stack.rows)};
      };
      const Matrix<double>& x = at(TracePoint::kFfnNorm);
      product(TracePoint::kExpertGate, of(weights.gate_proj), x, slots, token_of);
      product(TracePoint::kExpertUp, of(weights.up_proj), x, slots, token_of);
      product(TracePoint::kExpertOut, of(weights.down_proj), at(TracePoint::kExpertSwiglu), slots,
              itself);
    }
    rows(TracePoint::kExpertSwiglu, [&](std::size_t slot) {
      std::vector<double> y;
      for (std::size_t i = 0; i < config_.moe_intermediate_size; ++i) {
        y.push_back(textbook::silu(at(TracePoint::kExpertGate)(slot, i)) *
                    at(TracePoint::kExpertUp)(slot, i));
      }
      return y;
    });
    rows(TracePoint::kMoeOut, [&](std::size_t t) {
      std::vector<double> y(config_.hidden_size);
      for (std::size_t r = 0; r < k; ++r) {
        const double weight = at(TracePoint::kRouterWeight)(t, r);
        for (std::size_t i = 0; i < y.size(); ++i) {
          y[i] += weight * at(TracePoint::kExpertOut)(t * k + r, i);
        }
      }
      return y;
    });
    sum(TracePoint::kFfnResidual, at(TracePoint::kAttnResidual), at(TracePoint::kMoeOut));
  }

  const Model& model_;
  const Config& config_;
  std::span<const std::int32_t> tokens_;
  const TracedRun& run_;
  std::size_t most_rows_;
  SeededRandom random_;
  PropertyCase& case_;
  std::size_t layer_ = 0;
};

}  // namespace

void measure_stages(const Model& model, std::span<const std::int32_t> tokens, const TracedRun& run,
                    std::size_t most_rows, std::uint64_t seed, PropertyCase& property_case) {
  Stages(model, tokens, run, most_rows, seed, &property_case).measure_all();
}

}  // namespace refute
