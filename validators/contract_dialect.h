// The parts of the public dialect that are read: counted as prose, versions compared, claimed
// statuses listed. For contract.cc only.
#pragma once

#include "validators/contract.h"
#include "validators/diagnostic.h"
#include "validators/yaml_tree.h"

namespace refute::internal {

// Fills prose_predictions, proof_obligations, version_mentions, status_mentions and the stages of
// implementation_stages. Precondition: `root` is the contract's mapping.
void read_dialect_blocks(const YamlNode& root, Contract& contract, Findings& findings);

// For a file that is none of ours: also id, version, description and depends_on, and notes on what
// is not understood.
void read_dialect_file(const YamlNode& root, Contract& contract, Findings& findings);

}  // namespace refute::internal
