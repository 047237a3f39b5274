// How fast this machine's memory can be read.
#pragma once

#include <cstddef>
#include <optional>

#include "kernels/cpu/context.h"
#include "kernels/read_bandwidth.h"

namespace refute::cpu {

// The least size of the buffer: 256 MiB, and four times the last-level cache where that is known.
std::size_t read_bandwidth_buffer_bytes();

// Of passes of all threads over a buffer of that size, which is written before. Empty when the
// memory for it cannot be had.
std::optional<ReadBandwidth> measure_read_bandwidth(const Context& context);

}  // namespace refute::cpu
