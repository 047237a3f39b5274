// The facts that every format of a run's report states alike.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "validators/report_run.h"

namespace refute {

nlohmann::ordered_json run_to_json(const RunReport& report);
// One object a result, then one of everything else with "summary": true.
std::string run_to_json_lines(const RunReport& report);

// "1 criterion", "2 criteria".
std::string count_criteria(std::size_t number);

// The command that would try this item again, with what it lacked.
std::string run_command(const RunReport& report, const RunItem& item);
// The command that repeats the counterexample. Precondition: it has a replay token.
std::string replay_command(const RunReport& report, const Outcome& outcome);

}  // namespace refute
