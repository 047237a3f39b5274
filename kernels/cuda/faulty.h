// Ops with faults that only a GPU can have: F77, F78, F82, F84, F86. Built for seeding faults only
// (kernels/faults.h). Arguments as in ops.h.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/attention_shape.h"
#include "kernels/cuda/stream.h"

namespace refute::cuda::faulty {

// Lacks the barrier between the sums of the threads and their reduction (F77).
void rms_norm_without_barrier(const Stream& stream, const float* x, const float* weight,
                              std::size_t num_rows, std::size_t size, float epsilon, float* y);
// Reduces the tail of a row among the threads that have an element of it, with a mask of all: what
// the others would add is lost (F78). An effect where size is no multiple of 32.
void rms_norm_with_divergent_tail(const Stream& stream, const float* x, const float* weight,
                                  std::size_t num_rows, std::size_t size, float epsilon, float* y);
// Adds the experts in the order in which they come (F82). An effect with three experts or more.
void combine_with_atomics(const Stream& stream, const float* expert_out, const float* weights,
                          std::size_t num_tokens, std::size_t num_experts_per_tok, std::size_t size,
                          float* y);
// Asks for more shared memory than there is and ignores the error: y stays as it is (F86).
void launch_with_too_much_shared(const Stream& stream, float* y);
// Keeps the stream busy for a while (F84).
void delay(const Stream& stream, unsigned microseconds);

}  // namespace refute::cuda::faulty
