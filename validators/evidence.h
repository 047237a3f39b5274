// Which record speaks for which criterion: the half of status.h that looks at single results.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "validators/status.h"

namespace refute {

// Fills evidence, why and record of `wanted`, whose contract, block and backend are given.
CriterionEvidence find_evidence(CriterionEvidence wanted, const RecordStore& store,
                                const StatusBasis& basis);

// Results about models other than the embedded one: they decide nothing.
std::vector<std::string> evidence_of_other_subjects(std::span<const CriterionEvidence> criteria,
                                                    const RecordStore& store,
                                                    const StatusBasis& basis);

}  // namespace refute
