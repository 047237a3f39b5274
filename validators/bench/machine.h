// What this machine does while something is timed, as far as the system says.
#pragma once

#include <cstddef>
#include <optional>

#include "engine/backend_id.h"

namespace refute {

// The largest resident memory of this process since the last reset, in bytes; since its start where
// the system allows no reset.
void reset_peak_memory();
std::optional<std::size_t> peak_memory();

// The clock now, in MHz: the fastest core's as the system reports it, or the streaming
// multiprocessors' of the GPU. A virtual machine may report a nominal one.
std::optional<double> read_clock_mhz(BackendId id);

// Processes that want to run, averaged over the last minute.
std::optional<double> load_average();

}  // namespace refute
