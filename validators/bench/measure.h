// Timing of prefill and decode on one backend, with the figures that say what the times are worth:
// bytes moved, the bandwidth that the memory gives in the same run, peak memory, clock.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/backend.h"
#include "engine/model.h"
#include "kernels/read_bandwidth.h"
#include "kernels/result.h"

namespace refute {

struct BenchShape {
  std::size_t prompt = 128;  // Tokens of one prefill.
  std::size_t decode = 32;   // Tokens decoded after it, one at a time.
  std::size_t depth = 0;     // Positions in the cache before the prompt.
  std::size_t repeats = 5;
  std::uint64_t seed = 1;  // Of the tokens.
};

// The same thing timed several times.
struct Series {
  std::vector<double> seconds = {};  // In the order of the repeats.
  std::size_t tokens = 0;            // Each repeat's.

  double median() const;  // Of the seconds. Precondition: not empty.
  double tokens_per_second() const { return static_cast<double>(tokens) / median(); }
  double spread() const;  // (max - min) / median
};

struct BenchPoint {
  std::size_t threads = 0;  // Of the CPU backend.
  std::size_t layers = 0;
  BenchShape shape = {};
  Series prefill = {};
  Series decode = {};
  double bytes_per_token = 0.0;                  // Read by one decoded token, on average.
  std::optional<ReadBandwidth> bandwidth = {};   // In turns with the repeats: see over_turns.
  std::optional<std::size_t> memory_bytes = {};  // Peak of the process; of a device what is in use.
  std::optional<std::size_t> memory_total = {};  // Of a device.
  std::optional<double> clock_mhz = {};          // Right after the last repeat.

  // bytes_per_token times tokens a second of decode.
  double bytes_per_second() const { return bytes_per_token * decode.tokens_per_second(); }
  // That over the bandwidth, a ratio of medians; and over the best pass of all.
  std::optional<double> share() const;
  std::optional<double> share_of_best() const;
};

// The median of their medians, the best of all; empty where there is none.
std::optional<ReadBandwidth> over_turns(std::span<const ReadBandwidth> turns);

// Bytes that one decoded token reads: the weights of its layers and experts, and keys and values of
// all positions before it in float16. `position` is the mean over the decoded tokens.
double decode_bytes(const Model& model, double position);

// Called after each of `total` steps.
using BenchProgress = std::function<void(std::size_t done, std::size_t total)>;

// One warm-up and shape.repeats timed rounds of prefill and greedy decode, from the same depth. The
// bandwidth is measured behind each of them.
// Errors are those of the session; kContextFull when the model's context is too short.
Result<BenchPoint> measure_point(const Backend& backend, const Model& model, std::size_t threads,
                                 const BenchShape& shape, const BenchProgress& progress);

}  // namespace refute
