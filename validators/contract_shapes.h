// Shapes: what a contract says of the dimensions of the models it speaks of.
//
//   shapes:
//     hidden_size: {multiple_of: 256}
//     num_experts_per_tok: {ge: 1, le: num_experts}
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/config.h"
#include "validators/diagnostic.h"
#include "validators/source_file.h"
#include "validators/yaml_tree.h"

namespace refute {

enum class Relation { kEq, kGe, kLe, kGt, kLt, kMultipleOf, kDivides };

// `symbol relation bound`, such as hidden_size multiple_of 256.
struct ShapeConstraint {
  std::string symbol;
  Relation relation = Relation::kEq;
  std::int64_t number = 0;   // The bound, when bound_symbol is empty.
  std::string bound_symbol;  // The bound, when it is a dimension.
  Position at;               // Of the bound.
  std::size_t length = 1;
};

// "hidden_size multiple_of 256".
std::string describe(const ShapeConstraint& constraint);

// Reads the `shapes` mapping and reports unknown symbols and relations, bad bounds, and
// constraints that no model can meet.
std::vector<ShapeConstraint> read_shapes(const SourceFile& source, const YamlNode& node,
                                         Findings& findings);

// The dimensions of a model, by their names; those of a call are not among them.
std::map<std::string, std::int64_t> dimensions(const Config& config);

struct ShapeViolation {
  ShapeConstraint constraint;
  std::string message;  // "hidden_size multiple_of 256: hidden_size is 100"
};

struct ShapeCheck {
  std::vector<ShapeViolation> violations;
  std::vector<ShapeConstraint> unchecked;  // Those that name a dimension `config` lacks.
};

// Holds a concrete model or call against the constraints. A dimension that is 0 or negative
// violates every constraint on it but `position`.
ShapeCheck check_shapes(std::span<const ShapeConstraint> constraints,
                        const std::map<std::string, std::int64_t>& config);

}  // namespace refute
