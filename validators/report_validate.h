// What `refute validate` prints.
#pragma once

#include <string>

#include "validators/report.h"
#include "validators/validate.h"

namespace refute {

std::string render_validate(const ValidateResult& result, Format format, Style style);

// "9 contracts: 0 errors, 1 warning, 0 notes"
std::string validate_summary(const ValidateResult& result);

}  // namespace refute
