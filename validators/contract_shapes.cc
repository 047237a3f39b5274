#include "validators/contract_shapes.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <limits>
#include <utility>

#include "kernels/check.h"
#include "validators/contract_keys.h"
#include "validators/scalar.h"
#include "validators/suggest.h"

namespace refute {
namespace {

std::optional<Relation> parse_relation(std::string_view name) {
  const auto names = shape_relations();
  const auto found = std::find(names.begin(), names.end(), name);
  if (found == names.end()) return std::nullopt;
  return static_cast<Relation>(found - names.begin());
}

bool is_symbol(std::string_view name) {
  const auto symbols = shape_symbols();
  return std::find(symbols.begin(), symbols.end(), name) != symbols.end();
}

// Positions count from 0; there is at least one of everything else.
std::int64_t smallest(std::string_view symbol) { return symbol == "position" ? 0 : 1; }

bool holds(std::int64_t value, Relation relation, std::int64_t bound) {
  switch (relation) {
    case Relation::kEq:
      return value == bound;
    case Relation::kGe:
      return value >= bound;
    case Relation::kLe:
      return value <= bound;
    case Relation::kGt:
      return value > bound;
    case Relation::kLt:
      return value < bound;
    case Relation::kMultipleOf:
      return bound != 0 && value % bound == 0;
    case Relation::kDivides:
      return value != 0 && bound % value == 0;
  }
  return false;
}

// Reads one `relation: bound`; empty after a report.
std::optional<ShapeConstraint> read_constraint(const SourceFile& source, const std::string& symbol,
                                               const YamlEntry& entry, Findings& findings) {
  const YamlNode& bound = entry.value;
  const auto relation = parse_relation(entry.key.text);
  if (!relation) {
    findings.report("RF202", source, entry.key.at, entry.key.length,
                    fmt::format("`{}` is no constraint", entry.key.text),
                    suggest(entry.key.text, shape_relations()));
    return std::nullopt;
  }
  ShapeConstraint constraint{symbol, *relation, 0, "", bound.at, bound.length};
  if (bound.kind == NodeKind::kScalar && !bound.quoted) {
    const auto number = parse_integer(bound.text);
    if (number && *number > 0) {
      constraint.number = *number;
      return constraint;
    }
    if (is_symbol(bound.text)) {
      constraint.bound_symbol = bound.text;
      return constraint;
    }
  }
  const bool is_name = bound.kind == NodeKind::kScalar && !is_number_or_bool(bound.text);
  findings.report(
      "RF203", source, bound.at, bound.length,
      fmt::format("`{}` of {} must be a positive integer or a dimension, found {}", entry.key.text,
                  symbol,
                  bound.kind == NodeKind::kScalar ? fmt::format("`{}`", bound.text)
                                                  : std::string(node_kind_name(bound.kind))),
      is_name ? suggest(bound.text, shape_symbols()) : "");
  return std::nullopt;
}

// The numbers that the constraints leave for one symbol.
void check_satisfiable(const SourceFile& source, std::span<const ShapeConstraint> constraints,
                       Findings& findings) {
  constexpr std::int64_t kLargest = std::numeric_limits<std::int64_t>::max();
  std::int64_t low = 1;
  std::int64_t high = kLargest;
  for (const ShapeConstraint& constraint : constraints) {
    const bool to_itself = constraint.bound_symbol == constraint.symbol;
    const bool strict =
        constraint.relation == Relation::kGt || constraint.relation == Relation::kLt;
    if (!constraint.bound_symbol.empty() && !(to_itself && strict)) continue;
    const std::int64_t bound = constraint.number;
    switch (constraint.relation) {
      case Relation::kEq:
        low = std::max(low, bound);
        high = std::min(high, bound);
        break;
      case Relation::kGe:
      case Relation::kMultipleOf:  // Its smallest positive multiple is itself.
        low = std::max(low, bound);
        break;
      case Relation::kLe:
      case Relation::kDivides:  // A divisor is no larger.
        high = std::min(high, bound);
        break;
      case Relation::kGt:
        low = std::max(low, bound == kLargest ? bound : bound + 1);
        break;
      case Relation::kLt:
        high = std::min(high, bound - 1);
        break;
    }
    if (low > high || to_itself) {
      findings.report("RF204", source, constraint.at, constraint.length,
                      fmt::format("no {} meets `{}` and the constraints before it",
                                  constraint.symbol, describe(constraint)));
      return;
    }
  }
}

}  // namespace

std::string describe(const ShapeConstraint& constraint) {
  return fmt::format("{} {} {}", constraint.symbol,
                     shape_relations()[static_cast<std::size_t>(constraint.relation)],
                     constraint.bound_symbol.empty() ? std::to_string(constraint.number)
                                                     : constraint.bound_symbol);
}

std::vector<ShapeConstraint> read_shapes(const SourceFile& source, const YamlNode& node,
                                         Findings& findings) {
  std::vector<ShapeConstraint> all;
  if (node.kind != NodeKind::kMapping) {
    findings.report("RF103", source, node.at, node.length,
                    fmt::format("`shapes` must be a mapping, found {}", node_kind_name(node.kind)));
    return all;
  }
  for (const YamlEntry& entry : node.entries) {
    const std::string& symbol = entry.key.text;
    if (!is_symbol(symbol)) {
      findings.report("RF201", source, entry.key.at, entry.key.length,
                      fmt::format("`{}` is no dimension that contracts speak of", symbol),
                      suggest(symbol, shape_symbols()));
      continue;
    }
    if (entry.value.kind != NodeKind::kMapping) {
      const bool is_scalar = entry.value.kind == NodeKind::kScalar;
      findings.report("RF103", source, entry.value.at, entry.value.length,
                      fmt::format("the shape of {} must be a mapping of constraints, found {}",
                                  symbol, node_kind_name(entry.value.kind)),
                      is_scalar ? fmt::format("write {{eq: {}}}", entry.value.text) : "");
      continue;
    }
    if (entry.value.entries.empty()) {
      findings.report("RF104", source, entry.value.at, entry.value.length,
                      fmt::format("the shape of {} has no constraint", symbol));
    }
    const std::size_t first = all.size();
    for (const YamlEntry& part : entry.value.entries) {
      if (auto constraint = read_constraint(source, symbol, part, findings)) {
        all.push_back(std::move(*constraint));
      }
    }
    check_satisfiable(source, std::span(all).subspan(first), findings);
  }
  return all;
}

std::map<std::string, std::int64_t> dimensions(const Config& config) {
  const auto number = [](std::size_t of) { return static_cast<std::int64_t>(of); };
  return {{"hidden_size", number(config.hidden_size)},
          {"num_hidden_layers", number(config.num_hidden_layers)},
          {"num_attention_heads", number(config.num_attention_heads)},
          {"num_key_value_heads", number(config.num_key_value_heads)},
          {"head_dim", number(config.head_dim)},
          {"num_experts", number(config.num_experts)},
          {"num_experts_per_tok", number(config.num_experts_per_tok)},
          {"moe_intermediate_size", number(config.moe_intermediate_size)},
          {"vocab_size", number(config.vocab_size)},
          {"max_position_embeddings", number(config.max_position_embeddings)}};
}

ShapeCheck check_shapes(std::span<const ShapeConstraint> constraints,
                        const std::map<std::string, std::int64_t>& config) {
  ShapeCheck check;
  for (const ShapeConstraint& constraint : constraints) {
    const auto value = config.find(constraint.symbol);
    const auto bound = config.find(constraint.bound_symbol);
    const bool bound_is_number = constraint.bound_symbol.empty();
    if (value == config.end() || (!bound_is_number && bound == config.end())) {
      check.unchecked.push_back(constraint);
      continue;
    }
    const std::int64_t limit = bound_is_number ? constraint.number : bound->second;
    if (value->second >= smallest(constraint.symbol) &&
        limit >= smallest(constraint.bound_symbol) &&
        holds(value->second, constraint.relation, limit)) {
      continue;
    }
    std::string message =
        fmt::format("{}: {} is {}", describe(constraint), constraint.symbol, value->second);
    if (!bound_is_number) message += fmt::format(", {} is {}", constraint.bound_symbol, limit);
    check.violations.push_back({constraint, std::move(message)});
  }
  return check;
}

}  // namespace refute
