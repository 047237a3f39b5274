// Attention of calls of many tokens on the tensor cores, on devices without wgmma: class B, not the
// bits of the contract in kernels/attention.h, which attention_prefill.cu has. attention_tensor.cuh
// has the numerics.
//
// Grid: (key-value heads, tiles of 16 tokens, the longest first). Block: 8 warps of 16 rows, the 8
// query heads of two tokens. Shared: 66 KiB: two stages of 64 positions' keys and values as
// float16; at the end the results. Moves: a chunk's keys and values once for 128 rows, from the
// second-level cache. Bound by the tensor cores: four products a pair of elements where two would
// be needed, 512 multiplications a row and position.
#include "kernels/cuda/attention_tensor.cuh"

namespace refute::cuda {
namespace {

constexpr int kStages = 2;
constexpr int kSharedBytes =
    kStages * kStageBytes > kResultBytes ? kStages* kStageBytes : kResultBytes;

__device__ inline void add_product(const unsigned* a, unsigned b0, unsigned b1, float* c) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Four 8 x 8 pieces, whose rows the lanes 8 i .. 8 i + 7 point to; transposed for values.
template <bool kTransposed>
__device__ inline void load_pieces(unsigned address, unsigned* to) {
  if constexpr (kTransposed) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(address)
                 : "memory");
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(address)
                 : "memory");
  }
}

// Piece u of position p stands at place u ^ (p % 8): eight positions' pieces of one u lie in
// different banks.
__device__ inline int piece_at(int p, int u) { return 16 * (kRowPieces * p + (u ^ (p & 7))); }

// s[n]: rows x positions 8 n .. 8 n + 7 of the chunk.
__device__ inline void multiply_keys(const WarpRows& rows, unsigned keys, int lane, float (*s)[4]) {
  // Lanes 8 i ..: of positions 8 (i / 2) .., dimensions 8 (i % 2) ...
  const int position = 8 * (lane / 16) + lane % 8;
  const int half = lane / 8 % 2;
#pragma unroll
  for (int part = 0; part < kChunk / 32; ++part) {
    float low[4][4] = {};
#pragma unroll
    for (int n = 0; n < 4; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) s[4 * part + n][i] = 0.0f;
    }
#pragma unroll
    for (int c = 0; c < kHeadDim / 16; ++c) {
#pragma unroll
      for (int n = 0; n < 4; n += 2) {
        unsigned b[4];
        load_pieces<false>(keys + static_cast<unsigned>(piece_at(position, 2 * c + half) +
                                                        16 * kRowPieces * (32 * part + 8 * n)),
                           b);
        add_product(rows.q_high[c], b[0], b[1], s[4 * part + n]);
        add_product(rows.q_high[c], b[2], b[3], s[4 * part + n + 1]);
        add_product(rows.q_low[c], b[0], b[1], low[n]);
        add_product(rows.q_low[c], b[2], b[3], low[n + 1]);
      }
    }
#pragma unroll
    for (int n = 0; n < 4; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) s[4 * part + n][i] = __fadd_rn(s[4 * part + n][i], low[n][i]);
    }
  }
}

// y = y old + exponentials x values.
__device__ inline void add_values(WarpRows& rows, const unsigned (*high)[4],
                                  const unsigned (*low)[4], const float* old, unsigned values,
                                  int lane) {
  // Lanes 8 i ..: positions 8 (i % 2) .., dimensions 8 (i / 2) ...
  const int position = lane % 16;
  const int half = lane / 16;
#pragma unroll
  for (int part = 0; part < kHeadDim / 32; ++part) {
    float sum[4][4] = {};
#pragma unroll
    for (int c = 0; c < kChunk / 16; ++c) {
      unsigned b[8];
#pragma unroll
      for (int n = 0; n < 2; ++n) {
        load_pieces<true>(
            values + static_cast<unsigned>(piece_at(position, 4 * part + 2 * n + half) +
                                           16 * kRowPieces * 16 * c),
            b + 4 * n);
      }
#pragma unroll
      for (int n = 0; n < 4; ++n) add_product(low[c], b[2 * n], b[2 * n + 1], sum[n]);
#pragma unroll
      for (int n = 0; n < 4; ++n) add_product(high[c], b[2 * n], b[2 * n + 1], sum[n]);
    }
#pragma unroll
    for (int n = 0; n < 4; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        float& y = rows.y[4 * part + n][i];
        y = __fmaf_rn(y, old[i / 2], sum[n][i]);
      }
    }
  }
}

__global__ void __launch_bounds__(kThreads, 1) attention_tensor_kernel(AttentionOperands operands) {
  extern __shared__ __align__(128) std::uint8_t shared[];
  const BlockPlace place(operands);
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;

  copy_chunk<piece_at>(operands, place, 0, shared);
  commit_copies();
  WarpRows rows;
  load_queries(operands, place.kv_head, place.first_token + kWarpTokens * warp, lane, rows);
  rows.clear();
  const int last = place.before + kWarpTokens * warp;  // Position that the first token sees.
#pragma unroll 1
  for (int first = 0, stage = 0; first < place.longest; first += kChunk, stage ^= 1) {
    wait_for_copies<0>();
    __syncthreads();  // The chunk is there, and all are done with the one before.
    if (first + kChunk < place.longest) {
      copy_chunk<piece_at>(operands, place, first + kChunk, shared + (stage ^ 1) * kStageBytes);
    }
    commit_copies();
    if (first > last + kWarpTokens - 1) continue;
    const unsigned keys = shared_address(shared + stage * kStageBytes);
    float s[kChunk / 8][4];
    multiply_keys(rows, keys, lane, s);
    mask(first, last, lane, s);
    unsigned high[kChunk / 16][4];
    unsigned low[kChunk / 16][4];
    float old[2];
    softmax(rows, s, high, low, old);
    add_values(rows, high, low, old, keys + kTensorBytes, lane);
  }

  __syncthreads();
  auto* const results = reinterpret_cast<float(*)[kResultStride]>(shared);
  store_results(rows, warp, lane, results);
  __syncthreads();
  store_heads<kThreads, kRows>(operands, results, place.kv_head, place.first_token);
}

}  // namespace

void prefill_attention_mma(const Stream& stream, const AttentionShape& shape, const float* q,
                           const std::uint16_t* k, const std::uint16_t* v,
                           const std::int32_t* position, std::size_t num_tokens, float* y,
                           const TensorActivations& quantized) {
  CHECK(has_prefill_attention(stream, shape));
  launch_attention(stream, attention_tensor_kernel, kSharedBytes, shape,
                   attention_operands(shape, q, k, v, position, num_tokens, y, quantized));
}

void prefill_attention_tensor(const Stream& stream, const AttentionShape& shape, const float* q,
                              const std::uint16_t* k, const std::uint16_t* v,
                              const std::int32_t* position, std::size_t num_tokens, float* y,
                              const TensorActivations& quantized) {
  const auto attend = has_wgmma() ? prefill_attention_wgmma : prefill_attention_mma;
  attend(stream, shape, q, k, v, position, num_tokens, y, quantized);
}

}  // namespace refute::cuda
