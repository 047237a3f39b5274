// What the kernels of one decoded token share: a normalised row, row groups of tiles and their
// products.
#pragma once

#include "kernels/cuda/fragment.cuh"
#include "kernels/cuda/staging.cuh"

namespace refute::cuda {
namespace {

// A normalised and quantized row in shared memory.
struct SharedRow {
  float* x;  // [size]
  std::int8_t* q;
  ActivationMeta* meta;

  __device__ SharedRow(std::uint8_t* at, int size)
      : x(reinterpret_cast<float*>(at)),
        q(reinterpret_cast<std::int8_t*>(at + 4 * size)),
        meta(reinterpret_cast<ActivationMeta*>(at + 5 * size)) {}
  __host__ __device__ static std::size_t bytes(std::size_t size) { return 5 * size + size / 4; }
};

// The gains of a norm that this thread needs, loaded before it waits, for rows of 2048: its j-th
// four elements are 4 * (thread + threads * j) and on. Other rows load theirs in time.
constexpr int kGainsRow = 2048;
template <int kBlock>
struct Gains {
  static constexpr int kQuads = kGainsRow / (4 * kBlock);
  float4 g[kQuads];

  __device__ Gains(const float* weight, int size) {
    if (size != kGainsRow) return;
#pragma unroll
    for (int j = 0; j < kQuads; ++j) {
      g[j] = reinterpret_cast<const float4*>(weight)[static_cast<int>(threadIdx.x) + kBlock * j];
    }
  }
};

// row.x = norm of hidden [size], or with kQuantize row.q and row.meta its quantization. size: a
// multiple of 256. Barriers inside and behind.
template <int kBlock, bool kQuantize = true>
__device__ inline void normalise(const float* hidden, const float* weight,
                                 const Gains<kBlock>& gains, int size, float epsilon,
                                 const SharedRow& row) {
  __shared__ float lanes[kLanes];
  const int i = static_cast<int>(threadIdx.x);
  const int warp = i / kWarp;
  if (size == kGainsRow) {
    constexpr int kQuads = Gains<kBlock>::kQuads;
    float4 x[kQuads];
#pragma unroll
    for (int j = 0; j < kQuads; ++j) {
      x[j] = reinterpret_cast<const float4*>(hidden)[i + kBlock * j];
    }
#pragma unroll
    for (int j = 0; j < kQuads; ++j) reinterpret_cast<float4*>(row.x)[i + kBlock * j] = x[j];
    __syncthreads();
    if (i < kLanes) {
      float squares[kGainsRow / kLanes];
#pragma unroll
      for (int j = 0; j < kGainsRow / kLanes; ++j) squares[j] = row.x[i + kLanes * j];
      float sum = 0.0f;
#pragma unroll
      for (int j = 0; j < kGainsRow / kLanes; ++j) sum = __fmaf_rn(squares[j], squares[j], sum);
      lanes[i] = sum;
    }
    __syncthreads();
    const float scale = rms_scale(halving_tree(lanes), size, epsilon);
#pragma unroll
    for (int j = 0; j < kQuads; ++j) {
      const float4 g = gains.g[j];
      const float y[4] = {
          __fmul_rn(__fmul_rn(x[j].x, scale), g.x), __fmul_rn(__fmul_rn(x[j].y, scale), g.y),
          __fmul_rn(__fmul_rn(x[j].z, scale), g.z), __fmul_rn(__fmul_rn(x[j].w, scale), g.w)};
      const int quad = i + kBlock * j;
      if constexpr (kQuantize) {
        reinterpret_cast<int*>(row.q)[quad] = quantize_quad(y, row.meta + quad / 8);
      } else {
        reinterpret_cast<float4*>(row.x)[quad] = {y[0], y[1], y[2], y[3]};
      }
    }
    __syncthreads();
    return;
  }
  for (int c = i; c < size; c += kBlock) row.x[c] = hidden[c];
  __syncthreads();
  if (i < kLanes) lanes[i] = square_chain(row.x, i, size);
  __syncthreads();
  const float scale = rms_scale(halving_tree(lanes), size, epsilon);
  for (int b = warp; b < size / 32; b += kBlock / kWarp) {
    const int c = 32 * b + i % kWarp;
    const float y = __fmul_rn(__fmul_rn(row.x[c], scale), weight[c]);
    if constexpr (kQuantize) {
      quantize_block(y, row.q + 32 * b, row.meta + b);
    } else {
      row.x[c] = y;
    }
  }
  __syncthreads();
}

// Row groups of one matrix, stored as tiles one after the other.
struct Groups {
  const std::uint8_t* tiles;  // Of the first group.
  int count;
  int super_blocks;
};

// Row groups on their way to shared memory, a piece each.
template <int kGroups>
struct StagedGroups {
  Groups groups;
  std::uint8_t* tiles;  // In shared memory.
  unsigned group_bytes;

  __host__ __device__ static std::size_t bytes(std::size_t row_bytes) {
    return kGroups * 8 * row_bytes;
  }
  __device__ StagedGroups(const Groups& of, std::size_t row_bytes, std::uint8_t* shared)
      : groups(of), tiles(shared), group_bytes(static_cast<unsigned>(8 * row_bytes)) {}

  template <int kPieces>
  __device__ void start(const Staging<kPieces>& staging, int first_piece) const {
    for (int g = 0; g < groups.count; ++g) {
      const std::size_t at = static_cast<std::size_t>(g) * group_bytes;
      staging.start(first_piece + g, tiles + at, groups.tiles + at, group_bytes);
    }
  }
};

// As multiply, from shared memory, for the groups [begin, end) of those staged; `rehearsal` takes
// them as they are.
template <TensorType kType, int kGroups, int kPieces>
__device__ inline void multiply_staged(const StagedGroups<kGroups>& staged,
                                       const Staging<kPieces>& staging, int first_piece, int begin,
                                       int end, int warp, int warps, bool rehearsal,
                                       const std::int8_t* q, const ActivationMeta* meta,
                                       float* sums) {
  constexpr int kTileBytes = 8 * Fragment<kType>::kBlockBytes;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int super_blocks = staged.groups.super_blocks;
  for (int s = warp; s < super_blocks; s += warps) {
    ActivationLane x;
    x.load(q, meta, s, lane % 4);
    const std::uint8_t* tile = staged.tiles + (begin * super_blocks + s) * kTileBytes;
    float* sum = sums + (begin * super_blocks + s) * 8 + lane / 4;
    for (int g = begin; g < min(end, staged.groups.count); ++g) {
      if (!rehearsal) staging.wait(first_piece + g);
      Fragment<kType> fragment;
      fragment.template load<FromShared>(tile, lane);
      const float of_tile = super_block_sum(Unpacked<kType>(fragment, lane % 4).dot(x));
      if (lane % 4 == 0) *sum = of_tile;
      tile += staged.group_bytes;
      sum += super_blocks * 8;
    }
  }
}

// ((0 + S[0]) + S[1]) + ... of row r of group g.
__device__ inline float ordered_sum(const float* sums, int g, int r, int super_blocks) {
  float y = 0.0f;
#pragma unroll 8
  for (int s = 0; s < super_blocks; ++s) y = __fadd_rn(y, sums[(g * super_blocks + s) * 8 + r]);
  return y;
}

// Calls body.operator()<type>().
template <typename Body>
__device__ inline void with_type(TensorType type, const Body& body) {
  switch (type) {
    case TensorType::kQ4_K:
      return body.template operator()<TensorType::kQ4_K>();
    case TensorType::kQ6_K:
      return body.template operator()<TensorType::kQ6_K>();
    case TensorType::kQ5_K:
      return body.template operator()<TensorType::kQ5_K>();
    default:
      return body.template operator()<TensorType::kQ8_0>();
  }
}

struct TypedMatrix {
  MatrixArgument w;
  TensorType type = TensorType::kF32;

  TypedMatrix() = default;
  explicit TypedMatrix(const DeviceMatrix& matrix) : w(matrix), type(matrix.type) {}

  // kGroups row groups from `first` on; `matrix` points at the expert's first byte.
  __device__ Groups groups(const std::uint8_t* matrix, int first, int most) const {
    return {matrix + static_cast<std::size_t>(first) * 8 * w.row_bytes,
            min(most, w.rows / 8 - first), w.super_blocks()};
  }
};

}  // namespace
}  // namespace refute::cuda
