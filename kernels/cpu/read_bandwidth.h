// How fast this machine's memory can be read: the figure that a decoded token's bytes are held
// against. A measurement, not an op: there is nothing of it on other backends.
#pragma once

#include <cstddef>
#include <optional>

#include "kernels/cpu/context.h"

namespace refute::cpu {

// The least size of the buffer: 256 MiB, and eight times the last-level cache where that is known.
std::size_t read_bandwidth_buffer_bytes();

// Bytes a second, the best of several passes of all threads over a buffer of that size, which is
// written before. Empty when the memory for it cannot be had.
std::optional<double> measure_read_bandwidth(const Context& context);

}  // namespace refute::cpu
