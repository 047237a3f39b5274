// Attention of calls of many tokens. Contract: kernels/attention.h.
//
// Grid: (key-value heads, tiles of 16 tokens, the longest first). Block: 256 threads; its 128 rows
// are the 8 query heads of a key-value head for each of the 16 tokens. Shared: 200 KiB: the
// queries, a chunk's keys and then its values as float32, its scores. Moves: a chunk's keys and
// values once for 128 rows, from the second-level cache. Bound by float32 arithmetic, 272
// operations and a tenth more a row and position, and nearly so by shared memory. Numerics: float32
// against float16; bitwise equal to cpu::attention. Where scores are computed, a thread has the
// lanes i and i + 8 of the 16-lane dot for 8 rows, whose queries stay in registers; 8 threads add
// theirs up as the contract's tree does, each for another row.
#include "kernels/cuda/attention_prefill.cuh"

namespace refute::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kTokens = 16;  // Of a tile.
constexpr int kRows = kGroup * kTokens;
constexpr int kChunk = 128;
constexpr int kSubChunk = 32;
constexpr int kScoreStride = kRows + 8;
constexpr float kLowest = -3.402823466e+38f;

struct Shared {
  float q[kRows][kHeadDim];  // Permuted as keys are.
  // Keys: element i + 8 m of position p at 32 (m / 4) + 4 (i ^ (m / 4) ^ 4 (p % 2)) + m % 4, so
  // that eight threads of one p and m / 4 read from all banks; values as they are.
  float kv[kChunk][kHeadDim];
  float scores[kChunk][kScoreStride];  // Then exp32 of them; at the end the results.
  float half[kRows];                   // What one of a row's two threads hands to the other.
  float max[kRows];
  float sum[kRows];
  float old_factor[kRows];
  float new_factor[kRows];
};

__device__ inline float4 floats_of(uint2 halves) {
  const float2 a = __half22float2(*reinterpret_cast<const __half2*>(&halves.x));
  const float2 b = __half22float2(*reinterpret_cast<const __half2*>(&halves.y));
  return {a.x, a.y, b.x, b.y};
}

// A thread's share of a chunk's keys on their way from global memory: a quarter of two rows.
struct Keys {
  uint4 pieces[2][4];

  // Positions from `first` on, those behind kv_len as zeros.
  __device__ void fetch(const std::uint16_t* k, std::size_t stride, int first, int kv_len) {
    const int v = static_cast<int>(threadIdx.x) % 4;
#pragma unroll
    for (int step = 0; step < 2; ++step) {
      const int p = first + step * 64 + static_cast<int>(threadIdx.x) / 4;
#pragma unroll
      for (int u = 0; u < 4; ++u) {
        pieces[step][u] = {};
        if (p < kv_len) {
          pieces[step][u] = *reinterpret_cast<const uint4*>(
              k + static_cast<std::size_t>(p) * stride + static_cast<std::size_t>(32 * v + 8 * u));
        }
      }
    }
  }
  __device__ void store(Shared& shared) const {
    const int v = static_cast<int>(threadIdx.x) % 4;
#pragma unroll
    for (int step = 0; step < 2; ++step) {
      const int p = step * 64 + static_cast<int>(threadIdx.x) / 4;
      float of[4][8];
#pragma unroll
      for (int u = 0; u < 4; ++u) {
        const uint4 piece = pieces[step][u];
        const float4 low = floats_of({piece.x, piece.y});
        const float4 high = floats_of({piece.z, piece.w});
        of[u][0] = low.x;
        of[u][1] = low.y;
        of[u][2] = low.z;
        of[u][3] = low.w;
        of[u][4] = high.x;
        of[u][5] = high.y;
        of[u][6] = high.z;
        of[u][7] = high.w;
      }
      float* const row = shared.kv[p] + 32 * v;
      const int turn = v ^ (4 * (p & 1));
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        *reinterpret_cast<float4*>(row + 4 * (i ^ turn)) = {of[0][i], of[1][i], of[2][i], of[3][i]};
      }
    }
  }
};

__device__ inline void load_values(const std::uint16_t* v, std::size_t stride, int first,
                                   int kv_len, Shared& shared) {
#pragma unroll
  for (int step = 0; step < 8; ++step) {
    const int item = step * kThreads + static_cast<int>(threadIdx.x);
    const int p = item / 16;
    const int u = item % 16;
    uint4 piece{};
    if (first + p < kv_len) {
      piece = *reinterpret_cast<const uint4*>(v + static_cast<std::size_t>(first + p) * stride +
                                              8 * static_cast<std::size_t>(u));
    }
    auto* const to = reinterpret_cast<float4*>(shared.kv[p] + 8 * u);
    to[0] = floats_of({piece.x, piece.y});
    to[1] = floats_of({piece.z, piece.w});
  }
}

// The scores of the 8 rows of one token, by a warp: eight threads a position, four positions at a
// time.
__device__ inline void score_token(int token, float scale, Shared& shared) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int i = lane % 8;
  const int of_four = lane / 8;
  // Place n is row n ^ i, so that the sums go to the threads without a choice.
  float4 q[8][4];
#pragma unroll
  for (int n = 0; n < 8; ++n) {
    const float* const row = shared.q[kGroup * token + (n ^ i)];
#pragma unroll
    for (int v = 0; v < 4; ++v) q[n][v] = *reinterpret_cast<const float4*>(row + 32 * v + 4 * i);
  }
  const int turned = i ^ (4 * (of_four & 1));
  // Two positions at a time, so that one's sums hide behind the other's products.
#pragma unroll 1
  for (int p = of_four; p < kChunk; p += 8) {
    float even[2][8];  // Lane i, c = i + 16 k
    float odd[2][8];   // Lane i + 8
#pragma unroll
    for (int v = 0; v < 4; ++v) {
#pragma unroll
      for (int two = 0; two < 2; ++two) {
        const float4 k =
            *reinterpret_cast<const float4*>(shared.kv[p + 4 * two] + 32 * v + 4 * (turned ^ v));
#pragma unroll
        for (int n = 0; n < 8; ++n) {
          even[two][n] = __fmaf_rn(q[n][v].x, k.x, v == 0 ? 0.0f : even[two][n]);
          odd[two][n] = __fmaf_rn(q[n][v].y, k.y, v == 0 ? 0.0f : odd[two][n]);
        }
#pragma unroll
        for (int n = 0; n < 8; ++n) {
          even[two][n] = __fmaf_rn(q[n][v].z, k.z, even[two][n]);
          odd[two][n] = __fmaf_rn(q[n][v].w, k.w, odd[two][n]);
        }
      }
    }
#pragma unroll
    for (int two = 0; two < 2; ++two) {
#pragma unroll
      for (int n = 0; n < 8; ++n) even[two][n] = __fadd_rn(even[two][n], odd[two][n]);
    }
#pragma unroll
    for (int h = 4; h > 0; h /= 2) {
      float other[2][4];
#pragma unroll
      for (int two = 0; two < 2; ++two) {
#pragma unroll
        for (int n = 0; n < h; ++n) {
          other[two][n] = __shfl_xor_sync(kAllLanes, even[two][n + h], h);
        }
      }
#pragma unroll
      for (int two = 0; two < 2; ++two) {
#pragma unroll
        for (int n = 0; n < h; ++n) even[two][n] = __fadd_rn(even[two][n], other[two][n]);
      }
    }
#pragma unroll
    for (int two = 0; two < 2; ++two) {
      shared.scores[p + 4 * two][kGroup * token + i] = __fmul_rn(even[two][0], scale);
    }
  }
}

// A_h[i] of the halving tree over the exponentials: A_h[i] = A_2h[i] + A_2h[i + h], A_128 = e.
template <int kStep>
__device__ inline float exponentials(int i, int seen, float max, float (*column)[kScoreStride]) {
  if constexpr (kStep == kChunk) {
    // What is not seen is computed too, so that no branch stands between one and the next.
    const float of_any = exp32_device(__fsub_rn(column[i][0], max));
    const float e = i < seen ? of_any : 0.0f;
    column[i][0] = e;
    return e;
  } else {
    const float first = exponentials<2 * kStep>(i, seen, max, column);
    return __fadd_rn(first, exponentials<2 * kStep>(i + kStep, seen, max, column));
  }
}

// Two threads a row: the even positions and the odd ones.
__device__ inline void softmax(int chunk, int seen, Shared& shared) {
  const int row = static_cast<int>(threadIdx.x) % kRows;
  const int parity = static_cast<int>(threadIdx.x) / kRows;
  auto* const column = reinterpret_cast<float(*)[kScoreStride]>(&shared.scores[0][row]);
  float max = kLowest;
  for (int p = parity; p < seen; p += 2) max = fmaxf(max, column[p][0]);
  if (parity == 1) shared.half[row] = max;
  __syncthreads();
  if (parity == 0) shared.half[row] = max = fmaxf(max, shared.half[row]);
  __syncthreads();
  max = shared.half[row];
  __syncthreads();
  const float sum = exponentials<2>(parity, seen, max, column);
  if (parity == 1) shared.half[row] = sum;
  __syncthreads();
  if (parity == 1 || seen <= 0) return;
  const float total = __fadd_rn(sum, shared.half[row]);
  if (chunk == 0) {
    shared.max[row] = max;
    shared.sum[row] = total;
    return;
  }
  const float held = shared.max[row];
  const float merged = fmaxf(held, max);
  const float a = exp32_device(__fsub_rn(held, merged));
  const float b = exp32_device(__fsub_rn(max, merged));
  shared.old_factor[row] = a;
  shared.new_factor[row] = b;
  shared.sum[row] = __fmaf_rn(shared.sum[row], a, __fmul_rn(total, b));
  shared.max[row] = merged;
}

// z[n][c] += e v over positions [begin, end), 8 rows x 8 columns a thread.
__device__ inline void add_position(const Shared& shared, int p, int first_row, int first_column,
                                    float (*z)[8]) {
  const float4 e0 = *reinterpret_cast<const float4*>(&shared.scores[p][first_row]);
  const float4 e1 = *reinterpret_cast<const float4*>(&shared.scores[p][first_row + 4]);
  const float4 v0 = *reinterpret_cast<const float4*>(&shared.kv[p][first_column]);
  const float4 v1 = *reinterpret_cast<const float4*>(&shared.kv[p][first_column + 64]);
  const float e[8] = {e0.x, e0.y, e0.z, e0.w, e1.x, e1.y, e1.z, e1.w};
  const float v[8] = {v0.x, v0.y, v0.z, v0.w, v1.x, v1.y, v1.z, v1.w};
#pragma unroll
  for (int n = 0; n < 8; ++n) {
#pragma unroll
    for (int c = 0; c < 8; ++c) z[n][c] = __fmaf_rn(e[n], v[c], z[n][c]);
  }
}

__global__ void __launch_bounds__(kThreads, 1)
    attention_prefill_kernel(AttentionOperands operands) {
  extern __shared__ __align__(16) std::uint8_t dynamic[];
  Shared& shared = *reinterpret_cast<Shared*>(dynamic);
  const int kv_head = static_cast<int>(blockIdx.x);
  const int tile = static_cast<int>(gridDim.y - 1 - blockIdx.y);
  const int first_token = kTokens * tile;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const std::uint16_t* const k = operands.k + kHeadDim * kv_head;
  const std::uint16_t* const v = operands.v + kHeadDim * kv_head;
  const std::size_t stride = operands.stride;
  const int num_tokens = operands.num_tokens;
  const int before = *operands.position + first_token;  // Token t of the tile sees before + t + 1.
  const int longest = before + min(kTokens, num_tokens - first_token);

  Keys keys;
  keys.fetch(k, stride, 0, longest);
  // Rows past the last token are zeros.
#pragma unroll 8
  for (int step = 0; step < kRows * kHeadDim / 4 / kThreads; ++step) {
    const int item = step * kThreads + static_cast<int>(threadIdx.x);
    const int row = item / (kHeadDim / 4);
    const int c = item % (kHeadDim / 4) * 4;
    const int t = first_token + row / kGroup;
    float4 value{};
    if (t < num_tokens) {
      value = *reinterpret_cast<const float4*>(
          operands.q + operands.row_at(t, kv_head, row % kGroup) + static_cast<std::size_t>(c));
    }
    const int m = c / 8;
    float* const to = shared.q[row] + 32 * (m / 4) + 4 * (c % 8) + m % 4;
    to[0] = value.x;
    to[4] = value.y;
    to[8] = value.z;
    to[12] = value.w;
  }

  const int row_token = static_cast<int>(threadIdx.x) / 16;  // Its 8 rows here,
  const int first_row = kGroup * row_token;
  const int first_column = 4 * (static_cast<int>(threadIdx.x) % 16);  // and 4 + 4 columns.
  // This thread's results, which take more registers than the scores leave.
  const bool has_rows = first_token + row_token < num_tokens;
  float* const mine = operands.y + operands.row_at(first_token + row_token, kv_head, 0) +
                      static_cast<std::size_t>(first_column);
  for (int chunk = 0; chunk * kChunk < longest; ++chunk) {
    const int first = chunk * kChunk;
    __syncthreads();
    keys.store(shared);
    __syncthreads();
    score_token(warp, operands.scale, shared);
    score_token(warp + 8, operands.scale, shared);
    __syncthreads();
    load_values(v, stride, first, longest, shared);
    const auto seen_by = [&](int token) { return min(before + token + 1 - first, kChunk); };
    softmax(chunk, seen_by(static_cast<int>(threadIdx.x) % kRows / kGroup), shared);
    __syncthreads();
    keys.fetch(k, stride, first + kChunk, longest);

    const int seen = seen_by(row_token);
    if (seen <= 0 || !has_rows) continue;
    float total[8][8];
#pragma unroll 1
    for (int part = 0; part * kSubChunk < seen; ++part) {
      float z[8][8] = {};
      const int begin = part * kSubChunk;
      if (begin + kSubChunk <= seen) {
#pragma unroll 2
        for (int p = begin; p < begin + kSubChunk; ++p) {
          add_position(shared, p, first_row, first_column, z);
        }
      } else {
#pragma unroll 1
        for (int p = begin; p < seen; ++p) add_position(shared, p, first_row, first_column, z);
      }
#pragma unroll
      for (int n = 0; n < 8; ++n) {
#pragma unroll
        for (int c = 0; c < 8; ++c) {
          total[n][c] = part == 0 ? z[n][c] : __fadd_rn(total[n][c], z[n][c]);
        }
      }
    }
#pragma unroll
    for (int n = 0; n < 8; ++n) {
      const float a = shared.old_factor[first_row + n];
      const float b = shared.new_factor[first_row + n];
#pragma unroll
      for (int c = 0; c < 8; c += 4) {
        auto* const at = reinterpret_cast<float4*>(mine + kHeadDim * n + 16 * c);
        float* const of = total[n] + c;
        if (chunk > 0) {
          const float4 held = *at;
          of[0] = __fmaf_rn(held.x, a, __fmul_rn(of[0], b));
          of[1] = __fmaf_rn(held.y, a, __fmul_rn(of[1], b));
          of[2] = __fmaf_rn(held.z, a, __fmul_rn(of[2], b));
          of[3] = __fmaf_rn(held.w, a, __fmul_rn(of[3], b));
        }
        *at = {of[0], of[1], of[2], of[3]};
      }
    }
  }

  // Results by rows.
  __syncthreads();
  auto* const results = reinterpret_cast<float(*)[kHeadDim + 4]>(shared.scores);
  static_assert(sizeof(shared.scores) >= kRows * (kHeadDim + 4) * sizeof(float));
  if (has_rows) {
#pragma unroll
    for (int n = 0; n < 8; ++n) {
      const float sum = shared.sum[first_row + n];
#pragma unroll
      for (int c = 0; c < 8; c += 4) {
        const float4 of = *reinterpret_cast<const float4*>(mine + kHeadDim * n + 16 * c);
        *reinterpret_cast<float4*>(&results[first_row + n][first_column + 16 * c]) = {
            __fdiv_rn(of.x, sum), __fdiv_rn(of.y, sum), __fdiv_rn(of.z, sum), __fdiv_rn(of.w, sum)};
      }
    }
  }
  __syncthreads();
  store_heads<kThreads, kRows>(operands, results, kv_head, first_token);
}

}  // namespace

bool has_prefill_attention(const Stream& stream, const AttentionShape& shape) {
  return sizeof(Shared) <= stream.max_shared_bytes && shape.head_dim == kHeadDim &&
         shape.num_key_value_heads > 0 &&
         shape.num_attention_heads == kGroup * shape.num_key_value_heads;
}

void prefill_attention(const Stream& stream, const AttentionShape& shape, const float* q,
                       const std::uint16_t* k, const std::uint16_t* v, const std::int32_t* position,
                       std::size_t num_tokens, float* y, const TensorActivations& quantized) {
  CHECK(has_prefill_attention(stream, shape));
  const dim3 grid(static_cast<unsigned>(shape.num_key_value_heads),
                  blocks_for(num_tokens, kTokens));
  Launch{grid, dim3(kThreads), sizeof(Shared), false, true}(
      stream, attention_prefill_kernel,
      attention_operands(shape, q, k, v, position, num_tokens, y, quantized));
}

}  // namespace refute::cuda
