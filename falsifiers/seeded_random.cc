#include "falsifiers/seeded_random.h"

#include <cmath>
#include <numbers>

#include "kernels/check.h"

namespace refute {

std::uint64_t SeededRandom::next() {
  state_ += 0x9e3779b97f4a7c15u;
  std::uint64_t z = state_;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

std::size_t SeededRandom::below(std::size_t count) {
  CHECK(count > 0);
  return static_cast<std::size_t>(next() % count);
}

double SeededRandom::uniform(double low, double high) {
  return low + (high - low) * (static_cast<double>(next() >> 11) * 0x1p-53);
}

double SeededRandom::normal() {
  // Box and Muller; 1 - u is in (0, 1].
  const double radius = std::sqrt(-2.0 * std::log(1.0 - uniform(0.0, 1.0)));
  return radius * std::cos(2.0 * std::numbers::pi * uniform(0.0, 1.0));
}

std::uint64_t hash_text(std::string_view text) {
  std::uint64_t hash = 0xcbf29ce484222325u;
  for (const char c : text) {
    hash ^= static_cast<unsigned char>(c);
    hash *= 0x100000001b3u;
  }
  return hash;
}

std::uint64_t mix_seed(std::uint64_t seed, std::uint64_t index) {
  return SeededRandom(SeededRandom(seed).next() + index).next();
}

}  // namespace refute
