// The parts of rule_table(), by theme. For rules.cc only.
#pragma once

#include <span>

#include "validators/rules.h"

namespace refute::internal {

std::span<const RuleInfo> file_rules();
std::span<const RuleInfo> key_rules();
std::span<const RuleInfo> shape_rules();
std::span<const RuleInfo> stage_rules();
std::span<const RuleInfo> falsifier_rules();
std::span<const RuleInfo> dialect_rules();

}  // namespace refute::internal
