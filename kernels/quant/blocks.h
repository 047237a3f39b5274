// The block layouts of the quantized types, byte for byte as the file stores them, shared by all
// backends. Source: the GGUF format of ggml (Q8_0 and the K-quants).
//
// Value of element i of a block:
//   Q8_0  d * q[i]                                            32 elements
//   Q4_K  d * scale[i / 32] * q[i] - dmin * min[i / 32]       256 elements, q in [0, 15]
//   Q5_K  the same with q in [0, 31]
//   Q6_K  d * scale[i / 16] * (q[i] - 32)                     256 elements, q in [0, 63]
#pragma once

#include <cstdint>

namespace refute {

inline constexpr int kSuperBlock = 256;  // Elements of a K-quant block.
inline constexpr int kSubBlock = 32;     // Elements that share a scale and a minimum (Q4_K, Q5_K).
inline constexpr int kActivationBlock = 32;  // Elements that share an activation scale.

struct BlockQ8_0 {
  std::uint16_t d;  // float16
  std::int8_t q[32];
};
static_assert(sizeof(BlockQ8_0) == 34);

struct BlockQ4K {
  std::uint16_t d;          // float16
  std::uint16_t dmin;       // float16
  std::uint8_t scales[12];  // 8 scales and 8 minimums of 6 bits, see unpack_scale_min.
  std::uint8_t q[128];  // Byte 32 p + l: low nibble element 64 p + l, high nibble 64 p + 32 + l.
};
static_assert(sizeof(BlockQ4K) == 144);

struct BlockQ5K {
  std::uint16_t d;
  std::uint16_t dmin;
  std::uint8_t scales[12];
  std::uint8_t q_high[32];  // Bit j of byte l: the fifth bit of element 32 j + l.
  std::uint8_t q[128];      // The low four bits, as in Q4_K.
};
static_assert(sizeof(BlockQ5K) == 176);

struct BlockQ6K {
  // Per half h of 128 elements, l in [0, 32): q_low byte 64 h + l holds elements l (low nibble) and
  // l + 64 (high nibble), byte 64 h + 32 + l holds l + 32 and l + 96; q_high byte 32 h + l holds
  // the upper two bits of l, l + 32, l + 64, l + 96 from its lowest bits on.
  std::uint8_t q_low[128];
  std::uint8_t q_high[64];
  std::int8_t scales[16];  // One for 16 elements, signed.
  std::uint16_t d;         // float16, at byte 208
};
static_assert(sizeof(BlockQ6K) == 210);

struct ScaleMin {
  std::uint8_t scale;  // 6 bits
  std::uint8_t min;    // 6 bits
};

// Scale and minimum of sub-block j in [0, 8). Internal linkage: see half.h.
static inline ScaleMin unpack_scale_min(const std::uint8_t scales[12], int j) {
  if (j < 4) {
    return {static_cast<std::uint8_t>(scales[j] & 63),
            static_cast<std::uint8_t>(scales[j + 4] & 63)};
  }
  return {static_cast<std::uint8_t>((scales[j + 4] & 15) | ((scales[j - 4] >> 6) << 4)),
          static_cast<std::uint8_t>((scales[j + 4] >> 4) | ((scales[j] >> 6) << 4))};
}

// The inverse: writes 8 scales and 8 minimums (each below 64) into 12 bytes.
static inline void pack_scale_min(const ScaleMin sub_blocks[8], std::uint8_t scales[12]) {
  for (int j = 0; j < 4; ++j) {
    scales[j] = static_cast<std::uint8_t>((sub_blocks[j].scale & 63) |
                                          ((sub_blocks[j + 4].scale >> 4) << 6));
    scales[j + 4] =
        static_cast<std::uint8_t>((sub_blocks[j].min & 63) | ((sub_blocks[j + 4].min >> 4) << 6));
    scales[j + 8] = static_cast<std::uint8_t>((sub_blocks[j + 4].scale & 15) |
                                              ((sub_blocks[j + 4].min & 15) << 4));
  }
}

}  // namespace refute
