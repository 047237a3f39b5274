// Claim: Experts split into shards, even, uneven or empty, give parts that sum to the whole block
//   within 5e-6: shards by experts that contribute nothing, by slices of the stacks, and, where
//   every expert is chosen, as blocks of their own weighed by their share of the softmax. An empty
//   shard gives exactly 0.
// Why: The block is a sum over experts, and addition does not care who computed a term.
// Catches: An expert counted twice or by no shard, offsets of a slice taken from the whole stack,
//   weights renormalised over the experts at hand.
// Misses: Errors of one expert, which every split shares.
// Source: Expert parallelism; faults 29, 35 and 40 of the catalogue.
#include "falsifiers/moe_shards_sum_to_whole.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "engine/backend.h"
#include "falsifiers/generators.h"
#include "falsifiers/judge.h"
#include "falsifiers/metrics.h"
#include "falsifiers/moe_run.h"
#include "falsifiers/owned_weights.h"
#include "falsifiers/property.h"
#include "falsifiers/routing_checks.h"
#include "falsifiers/seeded_random.h"

namespace refute {
namespace {

constexpr std::string_view kId = "moe.shards_sum_to_whole";

constexpr std::array<MetricInfo, 3> kMetrics = {{
    {"relative_l2", "Euclidean norm of whole minus sum over that of the whole.", false, 5e-6},
    {"misplaced_ids", "Ranks that change when other experts contribute nothing; fewer than one.",
     false, 0.5},
    {"empty_shard", "Elements of an empty shard's part that are not 0; fewer than one.", false,
     0.5},
}};

// Shard s holds experts [begin[s], begin[s + 1]).
std::vector<std::size_t> draw_shards(PropertyCase& property_case, std::size_t num_experts) {
  const std::size_t count = property_case.pick("shards", std::array<std::size_t, 5>{2, 1, 3, 4, 5});
  const bool even = property_case.flag("even");
  SeededRandom random(property_case.seed("borders"));
  std::vector<std::size_t> begin = {0};
  for (std::size_t s = 1; s < count; ++s) {
    begin.push_back(even ? s * num_experts / count : random.below(num_experts + 1));
  }
  std::ranges::sort(begin);
  begin.push_back(num_experts);
  return begin;
}

std::size_t shard_of(const std::vector<std::size_t>& begin, std::size_t expert) {
  std::size_t shard = 0;
  while (expert >= begin[shard + 1]) ++shard;
  return shard;
}

void mark_if_split(PropertyCase& property_case, const std::vector<std::size_t>& begin,
                   const MoeRun& whole) {
  std::set<std::size_t> used;
  for (const std::int32_t id : whole.ids.flat()) {
    used.insert(shard_of(begin, static_cast<std::size_t>(id)));
  }
  if (used.size() > 1) property_case.mark_interesting();
}

void add_to(Matrix<double>* sum, const Matrix<double>& part) {
  for (std::size_t i = 0; i < sum->size(); ++i) sum->flat()[i] += part.flat()[i];
}

void measure_sum(PropertyCase& property_case, const MoeRun& whole, const Matrix<double>& sum,
                 std::string_view where) {
  const auto comparison = compare(whole.y.view(), sum.view());
  // A whole of zeros (one expert, and it gives nothing) shows nothing of its parts.
  if (!comparison && comparison.error().kind == ErrorKind::kVacuous) return property_case.discard();
  if (!property_case.require_ok(comparison, where)) return;
  property_case.measure("relative_l2", comparison->relative_l2, where);
}

struct ShardedBlock {
  OwnedLayer layer;
  Matrix<double> x;
  std::vector<std::size_t> begin;
  Result<MoeRun> whole;
};

ShardedBlock draw_block(const Backend& backend, PropertyCase& property_case, bool all_experts) {
  OwnedLayer layer = draw_layer(property_case);
  if (all_experts) layer.config.num_experts_per_tok = layer.config.num_experts;
  const std::size_t num_tokens = property_case.integer("num_tokens", 1, 4);
  Matrix<double> x = make_activations(ActivationKind::kNormal, num_tokens, layer.config.hidden_size,
                                      property_case.seed("x seed"));
  auto begin = draw_shards(property_case, layer.config.num_experts);
  auto whole = run_moe(backend, layer, x);
  if (property_case.require_ok(whole, "moe_ffn_forward_layer")) {
    mark_if_split(property_case, begin, *whole);
  }
  return {std::move(layer), std::move(x), std::move(begin), std::move(whole)};
}

// Every shard runs the whole block with the down_proj of all other experts at zero.
void silenced(const Backend& backend, PropertyCase& property_case) {
  const ShardedBlock block = draw_block(backend, property_case, false);
  if (!block.whole) return;
  Matrix<double> sum(block.x.rows(), block.x.columns());
  for (std::size_t s = 0; s + 1 < block.begin.size(); ++s) {
    OwnedLayer shard = block.layer;
    for (std::size_t e = 0; e < shard.config.num_experts; ++e) {
      if (e >= block.begin[s] && e < block.begin[s + 1]) continue;
      std::ranges::fill(shard.down_proj.expert_bytes(e), std::byte{0});
    }
    const auto part = run_moe(backend, shard, block.x);
    if (!property_case.require_ok(part, "a shard")) return;
    const std::string where = "shard " + std::to_string(s);
    property_case.measure("misplaced_ids",
                          count_differing(block.whole->ids.flat(), part->ids.flat()), where);
    if (block.begin[s] == block.begin[s + 1]) {
      const auto others =
          std::ranges::count_if(part->y.flat(), [](double value) { return value != 0.0; });
      property_case.measure("empty_shard", static_cast<double>(others), where);
    }
    add_to(&sum, part->y);
  }
  measure_sum(property_case, *block.whole, sum, "silenced shards");
}

ExpertStack shard_of(const OwnedStack& stack, std::size_t first, std::size_t count) {
  const std::size_t size = stack.view().bytes_per_expert();
  return {stack.type, count, stack.rows, stack.columns,
          std::span(stack.bytes).subspan(first * size, count * size)};
}

// Every shard holds its slice of the stacks and computes the terms of its experts.
void sliced(const Backend& backend, PropertyCase& property_case) {
  const ShardedBlock block = draw_block(backend, property_case, false);
  if (!block.whole) return;
  const MoeRun& whole = *block.whole;
  const std::size_t k = whole.ids.columns();
  Matrix<double> sum(block.x.rows(), block.x.columns());
  std::vector<double> out(block.x.columns());
  for (std::size_t slot = 0; slot < whole.ids.size(); ++slot) {
    const auto expert = static_cast<std::size_t>(whole.ids.flat()[slot]);
    const std::size_t shard = shard_of(block.begin, expert);
    const std::size_t first = block.begin[shard];
    const std::size_t count = block.begin[shard + 1] - first;
    std::array<WeightView, 3> weights;
    const std::array<const OwnedStack*, 3> stacks = {&block.layer.gate_proj, &block.layer.up_proj,
                                                     &block.layer.down_proj};
    for (std::size_t i = 0; i < 3; ++i) {
      const ExpertStack own = shard_of(*stacks[i], first, count);
      const auto slice = backend.expert_byte_slice(own, expert - first);
      if (!property_case.require_ok(slice, "expert_byte_slice of a shard")) return;
      weights[i] = {own.type, own.rows, own.columns, slice->data()};
    }
    const auto done =
        backend.expert_swiglu(weights[0], weights[1], weights[2], block.x.row(slot / k), out);
    if (!property_case.require_ok(done, "expert_swiglu of a shard")) return;
    for (std::size_t i = 0; i < out.size(); ++i) {
      sum(slot / k, i) += whole.weights.flat()[slot] * out[i];
    }
  }
  measure_sum(property_case, whole, sum, "sliced shards");
}

OwnedLayer cut_layer(const OwnedLayer& layer, std::size_t first, std::size_t count) {
  OwnedLayer shard = layer;
  shard.config.num_experts = shard.config.num_experts_per_tok = count;
  shard.router.rows = count;
  const auto cut = [&](std::vector<std::byte>* bytes) {
    const std::size_t size = bytes->size() / layer.config.num_experts;
    const auto kept = std::span(*bytes).subspan(first * size, count * size);
    *bytes = {kept.begin(), kept.end()};
  };
  cut(&shard.router.bytes);
  for (OwnedStack* stack : {&shard.gate_proj, &shard.up_proj, &shard.down_proj}) {
    stack->num_experts = count;
    cut(&stack->bytes);
  }
  return shard;
}

// Every shard is a block of its own over its experts, all of them chosen; its part counts by its
// share of the softmax's denominator.
void as_blocks(const Backend& backend, PropertyCase& property_case) {
  const ShardedBlock block = draw_block(backend, property_case, true);
  if (!block.whole) return;
  const MoeRun& whole = *block.whole;
  Matrix<double> sum(block.x.rows(), block.x.columns());
  for (std::size_t s = 0; s + 1 < block.begin.size(); ++s) {
    const std::size_t first = block.begin[s];
    const std::size_t count = block.begin[s + 1] - first;
    if (count == 0) continue;
    const auto part = run_moe(backend, cut_layer(block.layer, first, count), block.x);
    if (!property_case.require_ok(part, "a shard as a block")) return;
    for (std::size_t t = 0; t < sum.rows(); ++t) {
      const std::vector<double> probability = softmax(whole.logits.row(t));
      double share = 0.0;
      for (std::size_t e = 0; e < count; ++e) share += probability[first + e];
      for (std::size_t i = 0; i < sum.columns(); ++i) sum(t, i) += share * part->y(t, i);
    }
  }
  measure_sum(property_case, whole, sum, "shards as blocks");
}

}  // namespace

Verdict falsify_moe_shards_sum_to_whole(const Subject& subject, const Criterion& criterion) {
  Judge judge(kMetrics, criterion);
  // A case runs a whole block several times.
  const Criterion fewer = with_fewer_cases(criterion, 8);
  const auto check = [&](std::string_view name, auto property) {
    check_property({kId, name, 0.2}, fewer, &judge,
                   [&](PropertyCase& property_case) { property(subject.backend, property_case); });
  };
  check("silenced", silenced);
  check("sliced", sliced);
  check("as_blocks", as_blocks);
  return judge.verdict();
}

const FalsifierInfo& moe_shards_sum_to_whole_info() {
  static const FalsifierInfo info = {
      .id = kId,
      .claim =
          "Experts split into shards, even, uneven or empty, give parts that sum to the whole "
          "block within 5e-6, and an empty shard gives exactly 0.",
      .why = "The block is a sum over experts, and addition does not care who computed a term.",
      .catches =
          "An expert counted twice or by no shard, offsets of a slice taken from the whole stack, "
          "weights renormalised over the experts at hand.",
      .misses = "Errors of one expert, which every split shares.",
      .source = "Expert parallelism; faults 29, 35 and 40 of the catalogue.",
      .metrics = kMetrics,
      .backends = kAllBackends,
      .needs_model = false,
      .needs_pack = false,
      .falsify = falsify_moe_shards_sum_to_whole,
  };
  return info;
}

}  // namespace refute
