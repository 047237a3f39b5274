// The words of this tool that no table elsewhere explains.
#pragma once

#include <vector>

#include "validators/catalogue.h"

namespace refute {

std::vector<CatalogueEntry> backend_words();
std::vector<CatalogueEntry> status_meanings();
std::vector<CatalogueEntry> verdict_words();
std::vector<CatalogueEntry> exit_code_words();

}  // namespace refute
