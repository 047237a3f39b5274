// What the catalogue says of faults: what they are, and what the committed kill matrix shows.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "validators/catalogue.h"

namespace refute {

std::vector<CatalogueEntry> fault_entries();

// Texts for a falsifier: ids of faults, and the thresholds of its metrics. "nothing" when there is
// none.
std::string faults_killed_by(std::string_view falsifier);
std::string faults_missed_by(std::string_view falsifier);
std::string margins_of(std::string_view falsifier);

}  // namespace refute
