// What `refute list` and `refute explain` print.
#pragma once

#include <span>
#include <string>

#include "validators/catalogue.h"
#include "validators/report.h"

namespace refute {

// A table of ids and summaries.
std::string render_list(std::span<const CatalogueEntry> entries, Format format, Style style);

// Everything there is to say of each.
std::string render_explanations(std::span<const CatalogueEntry> entries, Format format,
                                Style style);

}  // namespace refute
