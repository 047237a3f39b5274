// Tries the mutants of validators/mutant_catalogue.h on everything they could hide in: each must
// turn red everywhere.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "validators/contract.h"
#include "validators/kill_matrix.h"

namespace refute {

struct MutantOutcome {
  std::string id;
  std::size_t tried = 0;           // Places it was applied to.
  std::vector<std::string> green;  // Those where nothing noticed.

  bool red() const { return tried > 0 && green.empty(); }
};

struct MutantInputs {
  std::span<const Contract> contracts;  // Valid ones.
  const KillMatrix& matrix;             // Measured just now.
};

// One a mutant, in the order of the catalogue.
std::vector<MutantOutcome> try_mutants(const MutantInputs& inputs);

// mutants_gates.cc and mutants_contracts.cc.
std::vector<MutantOutcome> try_gate_mutants(const MutantInputs& inputs);
std::vector<MutantOutcome> try_contract_mutants(std::span<const Contract> contracts);

}  // namespace refute
