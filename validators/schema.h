// The JSON Schema of our contracts, generated from the tables that the reader uses.
#pragma once

#include <string>

namespace refute {

// Draft 2020-12, indented by two, ending with a line break. contracts/schema/contract.schema.json
// holds exactly this.
//
// The schema says what keys there are and of what type; what ids refer to, ceilings, versions that
// must agree and statuses are checked by `refute validate` only.
std::string contract_schema();

}  // namespace refute
