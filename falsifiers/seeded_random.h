// Random numbers that are the same on every platform: splitmix64 (Steele, Lea & Flood, 2014).
// The standard library's distributions are not.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace refute {

class SeededRandom {
 public:
  explicit SeededRandom(std::uint64_t seed) : state_(seed) {}

  std::uint64_t next();
  // Uniform in [0, count). Precondition: count > 0.
  std::size_t below(std::size_t count);
  double uniform(double low, double high);
  double normal();  // Mean 0, standard deviation 1.

 private:
  std::uint64_t state_;
};

// FNV-1a.
std::uint64_t hash_text(std::string_view text);
// An independent seed for the part `index` of what `seed` makes.
std::uint64_t mix_seed(std::uint64_t seed, std::uint64_t index);

}  // namespace refute
