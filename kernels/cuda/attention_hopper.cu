// Attention of calls of many tokens on Hopper's tensor cores (wgmma, compute capability 9.0 alone):
// class B, as attention_tensor.cu, which has its grid. attention_tensor.cuh has the numerics.
//
// Block: 2 warpgroups of 64 rows, the 8 query heads of 8 tokens. Shared: 129 KiB: four stages of 64
// positions' keys and values as float16, 128 bytes a row, as the products read them; at the end the
// results. Moves: a chunk's keys and values once for 128 rows, from the second-level cache. Bound
// by the tensor cores, 512 multiplications a row and position. A warpgroup may be a chunk ahead of
// the other, so that one's softmax runs beside the other's products.
#include "kernels/cuda/attention_tensor.cuh"

namespace refute::cuda {
namespace {

constexpr int kStages = 4;
constexpr int kHalfBytes = kTensorBytes / 2;  // 64 dimensions of a chunk's keys, or values.
constexpr int kBarriers = 2;
constexpr int kAlignment = 1024;  // Of the products' operands.
constexpr int kSharedBytes = kStages * kStageBytes + kBarriers * 8 + kAlignment;
static_assert(kResultBytes <= kStages * kStageBytes);

// Piece u of position p: rows of 128 bytes, whose pieces change places by p % 8.
__device__ inline int piece_at(int p, int u) {
  return kHalfBytes * (u / 8) + 128 * p + 16 * ((u % 8) ^ (p & 7));
}

// A right operand in shared memory: rows of 128 bytes in groups of 8, swizzled.
__device__ inline std::uint64_t operand_at(unsigned address) {
  constexpr std::uint64_t kSwizzle128 = std::uint64_t{1} << 62;
  constexpr std::uint64_t kGroupStride = std::uint64_t{1024 / 16} << 32;
  constexpr std::uint64_t kUnused = std::uint64_t{1} << 16;
  return kSwizzle128 | kGroupStride | kUnused | ((address & 0x3ffffu) >> 4);
}

#ifdef __CUDA_ARCH_FEAT_SM90_ALL
// c = a b or, with kAdd, c + a b, for 64 rows x 64 columns x 16. kTransposed: b's rows in memory
// are what is summed over.
template <bool kAdd, bool kTransposed>
__device__ inline void start_product(const unsigned* a, std::uint64_t b, float (*c)[4]) {
  asm volatile(
      "{\n"
      ".reg .pred add;\n"
      "setp.ne.b32 add, %37, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 "
      "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, "
      "{%32, %33, %34, %35}, %36, add, 1, 1, %38;\n"
      "}\n"
      : "+f"(c[0][0]), "+f"(c[0][1]), "+f"(c[0][2]), "+f"(c[0][3]), "+f"(c[1][0]), "+f"(c[1][1]),
        "+f"(c[1][2]), "+f"(c[1][3]), "+f"(c[2][0]), "+f"(c[2][1]), "+f"(c[2][2]), "+f"(c[2][3]),
        "+f"(c[3][0]), "+f"(c[3][1]), "+f"(c[3][2]), "+f"(c[3][3]), "+f"(c[4][0]), "+f"(c[4][1]),
        "+f"(c[4][2]), "+f"(c[4][3]), "+f"(c[5][0]), "+f"(c[5][1]), "+f"(c[5][2]), "+f"(c[5][3]),
        "+f"(c[6][0]), "+f"(c[6][1]), "+f"(c[6][2]), "+f"(c[6][3]), "+f"(c[7][0]), "+f"(c[7][1]),
        "+f"(c[7][2]), "+f"(c[7][3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(kAdd ? 1 : 0),
        "n"(kTransposed ? 1 : 0)
      : "memory");
}
__device__ inline void open_products() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ inline void finish_products() {
  asm volatile("wgmma.commit_group.sync.aligned;\nwgmma.wait_group.sync.aligned 0;" ::: "memory");
}
// Keeps the compiler from touching a product's registers before it is finished.
template <int kCount>
__device__ inline void keep(float (*values)[4]) {
#pragma unroll
  for (int n = 0; n < kCount; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) asm volatile("" : "+f"(values[n][i])::"memory");
  }
}

// s[n]: rows x positions 8 n .. 8 n + 7 of the chunk. The small parts first, while sums are small.
__device__ inline void multiply_keys(const WarpRows& rows, unsigned keys, float (*s)[4]) {
  keep<8>(s);
  open_products();
#pragma unroll
  for (int c = 0; c < kHeadDim / 16; ++c) {
    const std::uint64_t b =
        operand_at(keys + static_cast<unsigned>(kHalfBytes * (c / 4) + 32 * (c % 4)));
    if (c == 0) {
      start_product<false, false>(rows.q_low[c], b, s);
    } else {
      start_product<true, false>(rows.q_low[c], b, s);
    }
  }
#pragma unroll
  for (int c = 0; c < kHeadDim / 16; ++c) {
    start_product<true, false>(
        rows.q_high[c],
        operand_at(keys + static_cast<unsigned>(kHalfBytes * (c / 4) + 32 * (c % 4))), s);
  }
  finish_products();
  keep<8>(s);
}

// y = y old + exponentials x values.
__device__ inline void add_values(WarpRows& rows, const unsigned (*high)[4],
                                  const unsigned (*low)[4], const float* old, unsigned values) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float sum[8][4];
    keep<8>(sum);
    open_products();
#pragma unroll
    for (int c = 0; c < kChunk / 16; ++c) {
      const std::uint64_t b =
          operand_at(values + static_cast<unsigned>(kHalfBytes * half + 16 * 128 * c));
      if (c == 0) {
        start_product<false, true>(low[c], b, sum);
      } else {
        start_product<true, true>(low[c], b, sum);
      }
    }
#pragma unroll
    for (int c = 0; c < kChunk / 16; ++c) {
      start_product<true, true>(
          high[c], operand_at(values + static_cast<unsigned>(kHalfBytes * half + 16 * 128 * c)),
          sum);
    }
    finish_products();
    keep<8>(sum);
#pragma unroll
    for (int n = 0; n < 8; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        float& y = rows.y[8 * half + n][i];
        y = __fmaf_rn(y, old[i / 2], sum[n][i]);
      }
    }
  }
}

__device__ inline void arrive(unsigned barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}

#endif

__global__ void __launch_bounds__(kThreads, 1) attention_hopper_kernel(AttentionOperands operands) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  extern __shared__ __align__(16) std::uint8_t dynamic[];
  std::uint8_t* const shared =
      dynamic + (kAlignment - shared_address(dynamic) % kAlignment) % kAlignment;
  const unsigned barriers = shared_address(shared + kStages * kStageBytes);
  const BlockPlace place(operands);
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  if (threadIdx.x < kBarriers) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barriers + 8 * threadIdx.x),
                 "r"(kThreads)
                 : "memory");
  }
  __syncthreads();

  // Barrier j % 2 opens for chunk j when every thread's share of it is there; a thread says so
  // behind its chunk j - 2, whose stage, and all before, may then be written again.
  const auto copy = [&](int chunk) {
    if (chunk * kChunk < place.longest) {
      copy_chunk<piece_at>(operands, place, chunk * kChunk, shared + chunk % kStages * kStageBytes);
    }
    commit_copies();
  };
  const auto arrive_for = [&](int chunk) {
    wait_for_copies<0>();
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    arrive(barriers + 8 * static_cast<unsigned>(chunk % kBarriers));
  };
  copy(0);
  WarpRows rows;
  load_queries(operands, place.kv_head, place.first_token + kWarpTokens * warp, lane, rows);
  rows.clear();
  arrive_for(0);
  copy(1);
  const int last = place.before + kWarpTokens * warp;  // Position that the warp's first token sees.
  // And the last one of its warpgroup.
  const int last_of_all = place.before + kWarpTokens * (warp / 4 * 4 + 4) - 1;
#pragma unroll 1
  for (int chunk = 0; chunk * kChunk < place.longest; ++chunk) {
    wait_for_barrier(barriers + 8 * static_cast<unsigned>(chunk % kBarriers),
                     static_cast<unsigned>(chunk / kBarriers % 2));
    arrive_for(chunk + 1);
    copy(chunk + 2);
    const int first = chunk * kChunk;
    if (first > last_of_all) continue;
    const unsigned keys = shared_address(shared + chunk % kStages * kStageBytes);
    float s[kChunk / 8][4];
    multiply_keys(rows, keys, s);
    mask(first, last, lane, s);
    unsigned high[kChunk / 16][4];
    unsigned low[kChunk / 16][4];
    float old[2];
    softmax(rows, s, high, low, old);
    add_values(rows, high, low, old, keys + kTensorBytes);
  }

  wait_for_copies<0>();
  __syncthreads();
  auto* const results = reinterpret_cast<float(*)[kResultStride]>(shared);
  store_results(rows, warp, lane, results);
  __syncthreads();
  store_heads<kThreads, kRows>(operands, results, place.kv_head, place.first_token);
#else
  __trap();  // has_wgmma() says no.
#endif
}

}  // namespace

bool has_wgmma() {
  // What is compiled when a program starts has no such products.
  constexpr int kHopper = 90;
  cudaFuncAttributes attributes{};
  if (cudaFuncGetAttributes(&attributes, attention_hopper_kernel) != cudaSuccess) {
    (void)cudaGetLastError();
    return false;
  }
  return attributes.binaryVersion == kHopper && attributes.ptxVersion == kHopper;
}

void prefill_attention_wgmma(const Stream& stream, const AttentionShape& shape, const float* q,
                             const std::uint16_t* k, const std::uint16_t* v,
                             const std::int32_t* position, std::size_t num_tokens, float* y,
                             const TensorActivations& quantized) {
  CHECK(has_prefill_attention(stream, shape));
  launch_attention(stream, attention_hopper_kernel, kSharedBytes, shape,
                   attention_operands(shape, q, k, v, position, num_tokens, y, quantized));
}

}  // namespace refute::cuda
