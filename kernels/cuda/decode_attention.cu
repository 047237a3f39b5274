// Attention of one decoded token: head norms, rope, cache, attention, quantization. Contract:
// kernels/attention.h; attention.cu checks it bit for bit.
//
// Any shape: a head a block of 128 threads, chunk after chunk.
// head_dim 128 and thread block clusters: four heads of one group a cluster of eight blocks of 512
// threads, which share out the chunks; partial results meet in global memory, in order. Shared: 150
// KiB. Moves: the cache once for each four heads of a group, from device memory for the first of
// them, on its way before the kernel in front has ended. Bound by memory for long contexts, by
// latency for short ones.
#include <cooperative_groups.h>
#include <cuda_pipeline.h>

#include <cmath>

#include "kernels/check.h"
#include "kernels/cuda/attention.cuh"
#include "kernels/cuda/decode_attention.cuh"
#include "kernels/cuda/decode_ops.h"
#include "kernels/cuda/decode_parts.cuh"
#include "kernels/cuda/launch.cuh"

namespace refute::cuda {
namespace {

struct AttentionArguments : CallHeads {
  float epsilon = 0.0f;
  DecodeState* state = nullptr;
  Partials partials = {};
  std::int8_t* out_q = nullptr;
  ActivationMeta* out_meta = nullptr;
  std::size_t stride = 0;  // Of the cache.
  int group_size = 0;
  int head_dim = 0;
  float scale = 0.0f;

  __device__ void norm_and_rope_at(int position, const float* weight, float* x) const {
    const std::size_t row = static_cast<std::size_t>(position * (head_dim / 2));
    norm_and_rope(weight, cosines + row, sines + row, epsilon, head_dim, x);
  }
  // The new row of the cache is also kept where this kernel reads it.
  __device__ void store(std::size_t at, std::uint16_t key, std::uint16_t value) const {
    store_cached(key, state, k_cache + at);
    store_cached(value, state, v_cache + at);
  }
};

template <int kColumns>
__global__ void __launch_bounds__(kAttentionThreads) decode_attention_kernel(AttentionArguments a) {
  start_next();
  const int i = static_cast<int>(threadIdx.x);
  const int warp = i / kWarp;
  const int size = a.head_dim;
  const int head = static_cast<int>(blockIdx.x);
  const int kv_head = head / a.group_size;
  float* const q = reinterpret_cast<float*>(dynamic_shared());
  float* const k = q + size;
  auto* const last_k = reinterpret_cast<std::uint16_t*>(k + size);
  std::uint16_t* const last_v = last_k + size;
  wait_for_previous();
  const int position = a.state->position;
  for (int c = i; c < size; c += kAttentionThreads) {
    q[c] = a.q[head * size + c];
    k[c] = a.k[kv_head * size + c];
  }
  __syncthreads();
  if (warp == 0) a.norm_and_rope_at(position, a.q_norm, q);
  if (warp == 1) a.norm_and_rope_at(position, a.k_norm, k);
  __syncthreads();
  const auto offset = static_cast<std::size_t>(kv_head * size);
  const std::size_t row = static_cast<std::size_t>(position) * a.stride + offset;
  for (int c = i; c < size; c += kAttentionThreads) {
    last_k[c] = half_bits(k[c]);
    last_v[c] = half_bits(a.v[kv_head * size + c]);
    if (head % a.group_size == 0) a.store(row + static_cast<std::size_t>(c), last_k[c], last_v[c]);
  }
  __syncthreads();
  const HeadCache cache{a.k_cache + offset, a.v_cache + offset, last_k,  last_v,
                        a.stride,           position + 1,       position};
  attention_head<kColumns>(q, cache, size, a.scale, [&](int c, float y) {
    // The columns of a warp are a block: head_dim is a multiple of 32.
    const int block = (head * size + c) / 32;
    quantize_block(y, a.out_q + 32 * block, a.out_meta + block);
  });
}

constexpr int kClusterBlocks = 8;
constexpr int kStages = 2;

struct ClusterShared {
  ChunkRows rows[kStages];
  FourHeads work;
};

// grid: (kClusterBlocks, heads / kFastHeads), clusters of a row.
__global__ void __launch_bounds__(kFastThreads, 1)
    clustered_attention_kernel(AttentionArguments a) {
#if __CUDA_ARCH__ >= 900
  ClusterShared& shared = *reinterpret_cast<ClusterShared*>(dynamic_shared());
  FourHeads& work = shared.work;
  start_next();
  const int i = static_cast<int>(threadIdx.x);
  const int warp = i / kWarp;
  const int lane = i % kWarp;
  const int rank = static_cast<int>(blockIdx.x);
  const int first_head = kFastHeads * static_cast<int>(blockIdx.y);
  const int kv_head = first_head / a.group_size;
  const auto offset = static_cast<std::size_t>(kv_head * kHeadDim);

  // The position and the rows of earlier tokens were there before this token's first kernel.
  const int position = a.state->position;
  const int num_chunks = position / kAttentionChunk + 1;
  const bool has_new = (num_chunks - 1) % kClusterBlocks == rank;
  const HeadCache cache{a.k_cache + offset, a.v_cache + offset, nullptr, nullptr,
                        a.stride,           position + 1,       position};
  for (int n = 0; n < kStages; ++n) {
    const int chunk = rank + kClusterBlocks * n;
    if (chunk < num_chunks) copy_chunk(cache, chunk, shared.rows[n]);
    __pipeline_commit();
  }
  wait_for_previous();
  if (num_chunks == 1 && !has_new) return;  // No partial results, no one waits.

  std::uint16_t new_row = 0;  // Of the key by the first 128 threads, of the value by the next.
  if (rank < num_chunks) {
    if (warp < kFastHeads) {
#pragma unroll
      for (int c = lane; c < kHeadDim; c += kWarp) {
        work.q[warp][c] = a.q[(first_head + warp) * kHeadDim + c];
      }
      __syncwarp();
      a.norm_and_rope_at(position, a.q_norm, work.q[warp]);
    } else if (warp == kFastHeads && has_new) {
#pragma unroll
      for (int c = lane; c < kHeadDim; c += kWarp) {
        work.new_k[c] = a.k[kv_head * kHeadDim + c];
      }
      __syncwarp();
      a.norm_and_rope_at(position, a.k_norm, work.new_k);
    }
    __syncthreads();
    if (has_new && i < kHeadDim) {
      new_row = half_bits(work.new_k[i]);
      const std::uint16_t value = half_bits(a.v[kv_head * kHeadDim + i]);
      if (first_head % a.group_size == 0) {
        a.store(
            static_cast<std::size_t>(position) * a.stride + offset + static_cast<std::size_t>(i),
            new_row, value);
      }
    } else if (has_new && i < 2 * kHeadDim) {
      new_row = half_bits(a.v[kv_head * kHeadDim + i - kHeadDim]);
    }
  }

  int stage = 0;
  for (int chunk = rank; chunk < num_chunks; chunk += kClusterBlocks) {
    const int count = min(kAttentionChunk, position + 1 - kAttentionChunk * chunk);
    if (chunk == num_chunks - 1) {
      const int r = position % kAttentionChunk;
      if (i < kHeadDim) {
        shared.rows[stage].k[r * kKeyStride + i] = new_row;
      } else if (i < 2 * kHeadDim) {
        shared.rows[stage].v[r * kHeadDim + i - kHeadDim] = new_row;
      }
    }
    __pipeline_wait_prior(kStages - 1);
    __syncthreads();
    four_head_chunk(work, shared.rows[stage], count, a.scale);
    const int next = chunk + kStages * kClusterBlocks;
    if (next < num_chunks) copy_chunk(cache, next, shared.rows[stage]);
    __pipeline_commit();
    const int head = i / kHeadDim;
    const int column = i % kHeadDim;
    const float y = chunk_result(work, count, head, column);
    if (num_chunks == 1) {
      const int block = ((first_head + head) * kHeadDim + column) / 32;
      quantize_block(__fdiv_rn(y, work.chunk[head].sum), a.out_q + 32 * block, a.out_meta + block);
      return;
    }
    a.partials.store(work, first_head, chunk, head, column, y);
    stage = (stage + 1) % kStages;
  }
  cooperative_groups::this_cluster().sync();
  // A block has a share of one head's columns.
  constexpr int kShare = kFastHeads * kHeadDim / kClusterBlocks;
  if (i >= kShare) return;
  const int head = first_head + rank * kShare / kHeadDim;
  const int column = rank * kShare % kHeadDim + i;
  const int block = (head * kHeadDim + column) / 32;
  quantize_block(merge_chunks(a.partials, head, column, num_chunks), a.out_q + 32 * block,
                 a.out_meta + block);
#endif
}

}  // namespace

std::size_t attention_scratch(const AttentionShape& shape, std::size_t capacity) {
  const std::size_t chunks = (capacity + kAttentionChunk - 1) / kAttentionChunk;
  return shape.num_attention_heads * chunks * (shape.head_dim + 2);
}

void decode_attention(const Stream& stream, const DecodeShape& shape, const DeviceLayer& layer,
                      const LayerCache& cache, const DecodeBuffers& buffers) {
  const AttentionShape& heads = shape.heads;
  AttentionArguments a{{buffers.q, buffers.k, buffers.v, layer.q_norm, layer.k_norm,
                        buffers.cosines, buffers.sines, cache.k, cache.v}};
  a.epsilon = shape.rms_norm_eps;
  a.state = buffers.state;
  a.out_q = buffers.heads.q;
  a.out_meta = buffers.heads.meta;
  a.stride = heads.key_value_size();
  a.partials = {buffers.scratch, static_cast<int>(heads.num_attention_heads),
                static_cast<int>((shape.capacity + kAttentionChunk - 1) / kAttentionChunk)};
  a.group_size = static_cast<int>(heads.num_attention_heads / heads.num_key_value_heads);
  a.head_dim = static_cast<int>(heads.head_dim);
  a.scale = 1.0f / std::sqrt(static_cast<float>(heads.head_dim));
  const auto num_heads = static_cast<unsigned>(heads.num_attention_heads);
  if (stream.has_clusters && a.head_dim == kHeadDim && a.group_size % kFastHeads == 0) {
    Launch{dim3(kClusterBlocks, num_heads / kFastHeads),
           dim3(kFastThreads),
           sizeof(ClusterShared),
           true,
           true,
           kClusterBlocks}(stream, clustered_attention_kernel, a);
    return;
  }
  const Launch launch{dim3(num_heads), dim3(kAttentionThreads), heads.head_dim * 12, true};
  if (heads.head_dim <= kAttentionThreads) {
    launch(stream, decode_attention_kernel<1>, a);
  } else {
    launch(stream, decode_attention_kernel<kMaxHeadDim / kAttentionThreads>, a);
  }
}

}  // namespace refute::cuda
