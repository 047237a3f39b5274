// The record of a run.
#pragma once

#include <chrono>
#include <span>

#include "validators/record.h"
#include "validators/run.h"

namespace refute {

// Stamped with this build, this machine and `started`.
RunRecord make_record(std::span<const Outcome> outcomes, const LoadedSubject& subject,
                      const Backends& backends, std::chrono::system_clock::time_point started,
                      std::uint64_t duration_us);

}  // namespace refute
