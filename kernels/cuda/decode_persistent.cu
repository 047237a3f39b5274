// All layers of one decoded token in one kernel that stays: a block a multiprocessor, all at once,
// with a barrier of the whole grid where the fused kernels of decode.cu have a launch. Instructions
// stay cached, and weights that routing does not decide are on their way to shared memory long
// before they are needed. Contracts: kernels/*.h; the fused and the plain kernels check it bit for
// bit.
//
//   1 qkv       norm, quantization, q_proj, k_proj, v_proj       at most 5 row groups a block
//   2 attention four heads and a chunk of positions an item; more than one chunk: merged behind
//               another barrier
//   3 o_proj    and the residual                                  2 row groups a block
//   4 router    norm, a row of logits; every block quantizes for itself
//   5 gate_up   top-k, gate, up, SwiGLU, quantization             at most 2 x 32 rows a block
//   6 down      all chosen experts, weighted sum, residual        2 row groups a block
//
// Block: 512 threads. Shared: 216 KiB, a plan of what is where when: see Plan. Moves: every weight
// once. Bound by memory and by the barriers, about 1 us each. Numerics: bitwise equal to cpu::.
#include <algorithm>
#include <cmath>

#include "kernels/check.h"
#include "kernels/cuda/decode_attention.cuh"
#include "kernels/cuda/decode_ops.h"
#include "kernels/cuda/decode_parts.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/route.cuh"

namespace refute::cuda {
namespace {

constexpr int kThreads = 512;
constexpr int kWarps = kThreads / kWarp;
constexpr int kHidden = 4 * kThreads;  // Four elements a thread.
constexpr int kQkvGroups = 5;
constexpr int kOutGroups = 2;
constexpr int kDownGroups = 2;
constexpr int kUnits = 2;       // Of gate_up: 32 rows of one expert.
constexpr int kUnitGroups = 4;  // Of gate_proj, and as many of up_proj.
constexpr int kMaxRanks = 8;
constexpr int kMaxExperts = 128;
constexpr int kMaxSums = 1024;
constexpr std::size_t kTileBytes = 192 * 1024;

// Pieces that are waited for, each once a layer.
enum Piece : int {
  kQkvPiece = 0,
  kOutPiece = kQkvPiece + kQkvGroups,
  kRouterPiece = kOutPiece + kOutGroups,
  kUnitPiece = kRouterPiece + 1,
  kDownPiece = kUnitPiece + kUnits * 2 * kUnitGroups,
  kLayerPiece = kDownPiece + kDownGroups,
  kPieces,
};

// Where weights are in shared memory, in bytes of PersistentShared::tiles. One after the other:
//   gate_up  unit 0 | unit 1 | down's group 0, once its experts are known
//   down     group 1 in place of unit 0; meanwhile the next layer's qkv in place of unit 1
//   qkv      the next o_proj in place of down's group 1
//   attention in place of qkv
// The router's row has a place of its own.
struct Plan {
  unsigned unit_bytes;
  unsigned router;
};

struct PersistentArguments {
  const PersistentLayer* layers;
  int num_layers;
  std::uint64_t* arrivals;
  Plan plan;
  int first_block[3];  // Of q_proj, k_proj, v_proj.
  int query_size;
  int key_value_size;
  int group_size;
  int num_quads;  // Four heads each.
  int num_experts;
  int num_experts_per_tok;
  int moe_intermediate_size;
  bool norm_topk_prob;
  float epsilon;
  float scale;
  const float* cosines;  // [positions, head_dim / 2]
  const float* sines;
  Partials partials;
  DecodeState* state;
  float* hidden;
  float* qkv[3];
  std::int8_t* heads_q;
  ActivationMeta* heads_meta;
  float* logits;
  std::int8_t* inner_q;
  ActivationMeta* inner_meta;
  std::size_t inner_stride;
};

struct PersistentShared {
  alignas(128) std::uint8_t tiles[kTileBytes];
  union {
    FourHeads heads;
    struct {
      alignas(16) float x[kHidden];
      alignas(16) std::int8_t q[kHidden];
      alignas(16) ActivationMeta meta[kHidden / 32];
    } row;
  };
  alignas(16) PersistentLayer layers[2];  // This one and the next.
  std::uint64_t barriers[kPieces];
  alignas(16) float q_norm[2][kHeadDim];  // Of this layer and the next.
  alignas(16) float k_norm[2][kHeadDim];
  float cosines[kHeadDim / 2];  // Of the position.
  float sines[kHeadDim / 2];
  float sums[kMaxSums];
  float outs[kDownGroups * kMaxRanks * 8];
  float lanes[kLanes];
  float logits[kMaxExperts];
  unsigned bits[kMaxExperts];
  std::int32_t ids[kMaxRanks];
  float shares[kMaxRanks];
};

// Waits until every block of the grid is here; what they wrote is seen through the second-level
// cache. Between arriving and waiting a block may work on what no other block needs. The first
// thread does both, so it should have no copies of its own under way, which the fence waits for.
class GridBarrier {
 public:
  // arrivals: counts all arrivals ever. Of earlier launches all blocks have arrived; some of this
  // one's may be at their first barrier already.
  __device__ explicit GridBarrier(std::uint64_t* arrivals)
      : arrivals_(arrivals),
        target_(*static_cast<volatile const std::uint64_t*>(arrivals) / gridDim.x * gridDim.x) {}

  __device__ void arrive() {
    target_ += gridDim.x;
    __syncthreads();
    if (threadIdx.x != 0) return;
    // Nothing comes back from the addition, so that reading can start at once.
    asm volatile(
        "fence.acq_rel.gpu;\n"
        "red.add.relaxed.gpu.global.u64 [%0], 1;" ::"l"(arrivals_)
        : "memory");
  }
  __device__ void wait() const {
    if (threadIdx.x == 0) {
      std::uint64_t now;
      do {
        asm volatile("ld.acquire.gpu.global.u64 %0, [%1];" : "=l"(now) : "l"(arrivals_) : "memory");
      } while (now < target_);
    }
    __syncthreads();
  }
  __device__ void arrive_and_wait() {
    arrive();
    wait();
  }

 private:
  std::uint64_t* arrivals_;
  std::uint64_t target_;
};

// Copies to shared memory. Every copy is started by a thread of its own, because one thread that
// starts them all takes microseconds.
class Copies {
 public:
  __device__ Copies(std::uint64_t* barriers) : barriers_(barriers) {}

  // One thread. arrivals: copies of a piece.
  __device__ void init(int piece, unsigned arrivals) const {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(address(barriers_ + piece)),
                 "r"(arrivals));
  }
  __device__ void start(int piece, std::uint8_t* to, const void* from, unsigned bytes) const {
    asm volatile(
        "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(address(barriers_ + piece)),
        "r"(bytes)
        : "memory");
    asm volatile(
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::
            "r"(address(to)),
        "l"(from), "r"(bytes), "r"(address(barriers_ + piece))
        : "memory");
  }
  // Row group g of some, a piece each, by thread g.
  __device__ void start_group(int piece, std::uint8_t* to, const PersistentMatrix& matrix,
                              const std::uint8_t* data, int first, int g) const {
    start(piece + g, to + g * matrix.group_bytes,
          data + static_cast<std::size_t>(first + g) * matrix.group_bytes, matrix.group_bytes);
  }
  // All threads that read the piece.
  __device__ void wait(int piece, unsigned parity) const {
    asm volatile(
        "{\n"
        ".reg .pred done;\n"
        "again:\n"
        "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
        "@!done bra again;\n"
        "}\n" ::"r"(address(barriers_ + piece)),
        "r"(parity)
        : "memory");
  }

 private:
  __device__ static unsigned address(const void* at) {
    return static_cast<unsigned>(__cvta_generic_to_shared(at));
  }
  std::uint64_t* barriers_;
};

// sums[n * sum_stride] = S[s] of 8 rows for `count` <= kMost tiles `stride` bytes apart; the first
// thread of each row writes. wait(n) comes before tile n is read. kTogether at once, so that the
// steps of one tile hide behind the others'.
template <TensorType kType, int kMost, int kTogether, typename Wait>
__device__ inline void typed_products(const std::uint8_t* tile, unsigned stride, int count,
                                      const ActivationLane& x, float* sums, int sum_stride,
                                      const Wait& wait) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
#pragma unroll
  for (int first = 0; first < kMost; first += kTogether) {
    // Tiles past the end are the last one once more: no branch between the loads.
    const int last = count - 1;
    if (first > last) break;
#pragma unroll
    for (int j = 0; j < kTogether; ++j) wait(min(first + j, last));
    float u[kTogether];
#pragma unroll
    for (int j = 0; j < kTogether; ++j) {
      Fragment<kType> fragment;
      fragment.template load<FromShared>(
          tile + static_cast<unsigned>(min(first + j, last)) * stride, lane);
      u[j] = Unpacked<kType>(fragment, lane % 4).dot(x);
    }
#pragma unroll
    for (int j = 0; j < kTogether; ++j) {
      const float sum = super_block_sum(u[j]);
      if (lane % 4 == 0 && first + j <= last) sums[(first + j) * sum_stride] = sum;
    }
  }
}

template <int kMost, int kTogether, typename Wait>
__device__ inline void tile_products(TensorType type, const std::uint8_t* tile, unsigned stride,
                                     int count, const ActivationLane& x, float* sums,
                                     int sum_stride, const Wait& wait) {
  if (type == TensorType::kQ4_K) {
    typed_products<TensorType::kQ4_K, kMost, kTogether>(tile, stride, count, x, sums, sum_stride,
                                                        wait);
  } else {
    typed_products<TensorType::kQ6_K, kMost, kTogether>(tile, stride, count, x, sums, sum_stride,
                                                        wait);
  }
}

// This thread's four elements of the norm of hidden; row.x is the norm, too, behind a barrier.
__device__ inline void norm(const float* hidden, const float* weight, float epsilon,
                            PersistentShared& shared, float y[4]) {
  const int i = static_cast<int>(threadIdx.x);
  const float4 x = __ldcg(reinterpret_cast<const float4*>(hidden) + i);
  const float4 gain = __ldg(reinterpret_cast<const float4*>(weight) + i);
  reinterpret_cast<float4*>(shared.row.x)[i] = x;
  __syncthreads();
  if (i < kLanes) {
    float squares[kHidden / kLanes];
#pragma unroll
    for (int j = 0; j < kHidden / kLanes; ++j) squares[j] = shared.row.x[i + kLanes * j];
    float sum = 0.0f;
#pragma unroll
    for (int j = 0; j < kHidden / kLanes; ++j) sum = __fmaf_rn(squares[j], squares[j], sum);
    shared.lanes[i] = sum;
  }
  __syncthreads();
  const float scale = rms_scale(halving_tree(shared.lanes), kHidden, epsilon);
  y[0] = __fmul_rn(__fmul_rn(x.x, scale), gain.x);
  y[1] = __fmul_rn(__fmul_rn(x.y, scale), gain.y);
  y[2] = __fmul_rn(__fmul_rn(x.z, scale), gain.z);
  y[3] = __fmul_rn(__fmul_rn(x.w, scale), gain.w);
}

// row.q and row.meta from all threads' four elements.
__device__ inline void quantize_row(PersistentShared& shared, const float y[4]) {
  const int i = static_cast<int>(threadIdx.x);
  reinterpret_cast<int*>(shared.row.q)[i] = quantize_quad(y, shared.row.meta + i / 8);
}

// One block of the kernel.
class Block {
 public:
  __device__ Block(const PersistentArguments& arguments, PersistentShared& block_shared)
      : a(arguments),
        shared(block_shared),
        copies(block_shared.barriers),
        barrier(arguments.arrivals) {}

  __device__ void run() {
    if (i < kPieces) {
      copies.init(i, i == kDownPiece || i == kDownPiece + 1
                         ? static_cast<unsigned>(a.num_experts_per_tok)
                     : i == kLayerPiece ? 3u
                                        : 1u);
      asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    }
    __syncthreads();
    position = a.state->position;
    num_chunks = position / kAttentionChunk + 1;
    start_layer(0);
    for (int c = i; c < kHeadDim / 2; c += kThreads) {
      const std::size_t row = static_cast<std::size_t>(position) * (kHeadDim / 2);
      shared.cosines[c] = a.cosines[row + static_cast<std::size_t>(c)];
      shared.sines[c] = a.sines[row + static_cast<std::size_t>(c)];
    }
    copies.wait(kLayerPiece, 0);
    start_qkv(0);
    start_out(0);
    start_router(0);
    for (layer = 0; layer < a.num_layers; ++layer) {
      parity = static_cast<unsigned>(layer) & 1u;
      qkv();
      attention();
      out();
      router();
      gate_up();
      down();
    }
  }

 private:
  __device__ const PersistentLayer& weights(int of) const { return shared.layers[of & 1]; }
  __device__ bool has_next() const { return layer + 1 < a.num_layers; }

  // What a layer is, and the gains of its heads. The three copies are of one piece.
  __device__ void start_layer(int of) const {
    static_assert(sizeof(PersistentLayer) % 16 == 0);
    PersistentLayer* const to = shared.layers + (of & 1);
    const PersistentLayer* const from = a.layers + of;
    constexpr unsigned kGains = kHeadDim * sizeof(float);
    // Warps that have little else to do.
    if (i == 8 * kWarp) {
      copies.start(kLayerPiece, reinterpret_cast<std::uint8_t*>(to), from, sizeof(*to));
    }
    if (i == 9 * kWarp || i == 10 * kWarp) {
      const bool is_key = i == 10 * kWarp;
      const float* const gains = is_key ? from->k_norm : from->q_norm;
      float* const at = is_key ? shared.k_norm[of & 1] : shared.q_norm[of & 1];
      copies.start(kLayerPiece, reinterpret_cast<std::uint8_t*>(at), gains, kGains);
    }
  }

  // q_proj, k_proj or v_proj: which, and this block's groups of it.
  __device__ int qkv_matrix() const {
    return block >= a.first_block[2] ? 2 : block >= a.first_block[1] ? 1 : 0;
  }
  __device__ int qkv_first() const { return (block - a.first_block[qkv_matrix()]) * kQkvGroups; }
  __device__ int qkv_count() const {
    const int groups = (qkv_matrix() == 0 ? a.query_size : a.key_value_size) / 8;
    return max(0, min(kQkvGroups, groups - qkv_first()));
  }
  __device__ static int pair_count(int first) { return max(0, min(2, kHidden / 8 - first)); }

  __device__ std::uint8_t* qkv_tiles() const { return shared.tiles + a.plan.unit_bytes; }
  __device__ ChunkRows& chunk_rows() const { return *reinterpret_cast<ChunkRows*>(qkv_tiles()); }
  __device__ std::uint8_t* down_tiles(int group) const {
    return shared.tiles + (group == 0 ? 2 * a.plan.unit_bytes : 0);
  }

  // Copies of another layer's weights; all threads call, some of the last warp start them.
  static constexpr int kStarter = kThreads - kWarp;
  __device__ void start_qkv(int of) const {
    const int g = i - kStarter;
    if (g < 0 || g >= qkv_count()) return;
    const PersistentMatrix& matrix = weights(of).qkv[qkv_matrix()];
    copies.start_group(kQkvPiece, qkv_tiles(), matrix, matrix.data, qkv_first(), g);
  }
  __device__ void start_out(int of) const {
    const int first = kOutGroups * block;
    const int g = i - kStarter;
    if (g < 0 || g >= pair_count(first)) return;
    const PersistentMatrix& matrix = weights(of).o_proj;
    copies.start_group(kOutPiece, shared.tiles, matrix, matrix.data, first, g);
  }
  __device__ void start_router(int of) const {
    if (block >= a.num_experts || i != kStarter) return;
    copies.start(kRouterPiece, shared.tiles + a.plan.router,
                 weights(of).router + static_cast<std::size_t>(block) * kHidden,
                 kHidden * sizeof(float));
  }

  __device__ void qkv() {
    float y[4];
    norm(a.hidden, weights(layer).input_layernorm, a.epsilon, shared, y);
    quantize_row(shared, y);
    __syncthreads();
    constexpr int kSuperBlocks = kHidden / 256;
    const int which = qkv_matrix();
    const PersistentMatrix& matrix = weights(layer).qkv[which];
    const int s = warp % kSuperBlocks;
    ActivationLane x;
    x.load(shared.row.q, shared.row.meta, s, lane % 4);
    // Half of the warps for the first three groups, half for the others.
    constexpr int kHalf = (kQkvGroups + 1) / 2;
    const int begin = warp < kSuperBlocks ? 0 : kHalf;
    tile_products<kHalf, kHalf>(
        matrix.type, qkv_tiles() + begin * matrix.group_bytes + s * matrix.tile_bytes,
        matrix.group_bytes, min(kHalf, qkv_count() - begin), x,
        shared.sums + (begin * kSuperBlocks + s) * 8 + lane / 4, 8 * kSuperBlocks,
        [&](int g) { copies.wait(kQkvPiece + begin + g, parity); });
    __syncthreads();
    if (i < 8 * qkv_count()) {
      a.qkv[which][8 * qkv_first() + i] = ordered_sum(shared.sums, i / 8, i % 8, kSuperBlocks);
    }
    barrier.arrive();
    if (block < num_items()) start_chunk(block);
    barrier.wait();
  }

  // Four heads and a chunk.
  __device__ int num_items() const { return a.num_quads * num_chunks; }
  __device__ HeadCache cache_of(int item) const {
    const int kv_head = kFastHeads * (item % a.num_quads) / a.group_size;
    const auto offset = static_cast<std::size_t>(kv_head * kHeadDim);
    return {weights(layer).k_cache + offset,
            weights(layer).v_cache + offset,
            nullptr,
            nullptr,
            static_cast<std::size_t>(a.key_value_size),
            position + 1,
            position};
  }
  __device__ void start_chunk(int item) const {
    copy_chunk(cache_of(item), item / a.num_quads, chunk_rows());
    __pipeline_commit();
  }

  __device__ void attention() {
    if (has_next()) start_layer(layer + 1);
    for (int item = block; item < num_items(); item += static_cast<int>(gridDim.x)) {
      if (item != block) start_chunk(item);
      attend(item);
    }
    // The copies that come next write where these threads wrote.
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    barrier.arrive_and_wait();
    if (num_chunks == 1) return;
    for (int b = block; b < a.query_size / 32; b += static_cast<int>(gridDim.x)) {
      if (warp != 0) break;
      const int head = 32 * b / kHeadDim;
      const float y = merge_chunks(a.partials, head, 32 * b % kHeadDim + lane, num_chunks);
      quantize_block(y, a.heads_q + 32 * b, a.heads_meta + b);
    }
    barrier.arrive_and_wait();
  }

  __device__ void turn(const float* gains, float* head) const {
    norm_and_rope(gains, shared.cosines, shared.sines, a.epsilon, kHeadDim, head);
  }
  __device__ void attend(int item) {
    FourHeads& work = shared.heads;
    ChunkRows& rows = chunk_rows();
    const int first_head = kFastHeads * (item % a.num_quads);
    const int chunk = item / a.num_quads;
    const int kv_head = first_head / a.group_size;
    const bool has_new = chunk == num_chunks - 1;
    const int count = min(kAttentionChunk, position + 1 - kAttentionChunk * chunk);
    if (warp < kFastHeads) {
#pragma unroll
      for (int c = lane; c < kHeadDim; c += kWarp) {
        work.q[warp][c] = __ldcg(a.qkv[0] + (first_head + warp) * kHeadDim + c);
      }
      __syncwarp();
      turn(shared.q_norm[layer & 1], work.q[warp]);
    } else if (warp == kFastHeads && has_new) {
#pragma unroll
      for (int c = lane; c < kHeadDim; c += kWarp) {
        work.new_k[c] = __ldcg(a.qkv[1] + kv_head * kHeadDim + c);
      }
      __syncwarp();
      turn(shared.k_norm[layer & 1], work.new_k);
    }
    __syncthreads();
    if (has_new && i < kHeadDim) {
      const std::uint16_t key = half_bits(work.new_k[i]);
      const std::uint16_t value = half_bits(__ldcg(a.qkv[2] + kv_head * kHeadDim + i));
      const int r = position % kAttentionChunk;
      rows.k[r * kKeyStride + i] = key;
      rows.v[r * kHeadDim + i] = value;
      if (first_head % a.group_size == 0) {
        if (!is_finite_half(key) || !is_finite_half(value)) a.state->cache_failed = 1;
        const std::size_t at =
            static_cast<std::size_t>(position) * static_cast<std::size_t>(a.key_value_size) +
            static_cast<std::size_t>(kv_head * kHeadDim + i);
        weights(layer).k_cache[at] = key;
        weights(layer).v_cache[at] = value;
      }
    }
    __pipeline_wait_prior(0);
    __syncthreads();
    four_head_chunk(work, rows, count, a.scale);
    const int head = i / kHeadDim;
    const int column = i % kHeadDim;
    const float y = chunk_result(work, count, head, column);
    if (num_chunks == 1) {
      const int b = ((first_head + head) * kHeadDim + column) / 32;
      quantize_block(__fdiv_rn(y, work.chunk[head].sum), a.heads_q + 32 * b, a.heads_meta + b);
    } else {
      a.partials.store(work, first_head, chunk, head, column, y);
    }
    __syncthreads();  // Before the next item's rows and terms.
  }

  __device__ void out() {
    const PersistentMatrix& matrix = weights(layer).o_proj;
    const int super_blocks = a.query_size / 256;
    const int first = kOutGroups * block;
    const int count = pair_count(first);
    float residual = 0.0f;
    if (i < 8 * count) residual = __ldcg(a.hidden + 8 * first + i);
    if (count > 0) {
      for (int s = warp; s < super_blocks; s += kWarps) {
        ActivationLane x;
        x.load<true>(a.heads_q, a.heads_meta, s, lane % 4);
        tile_products<kOutGroups, kOutGroups>(matrix.type, shared.tiles + s * matrix.tile_bytes,
                                              matrix.group_bytes, count, x,
                                              shared.sums + s * 8 + lane / 4, 8 * super_blocks,
                                              [&](int g) { copies.wait(kOutPiece + g, parity); });
      }
    }
    __syncthreads();
    if (i < 8 * count) {
      a.hidden[8 * first + i] =
          __fadd_rn(residual, ordered_sum(shared.sums, i / 8, i % 8, super_blocks));
    }
    barrier.arrive_and_wait();
  }

  __device__ void router() {
    float y[4];
    norm(a.hidden, weights(layer).post_attention_layernorm, a.epsilon, shared, y);
    reinterpret_cast<float4*>(shared.row.x)[i] = {y[0], y[1], y[2], y[3]};
    __syncthreads();
    if (block < a.num_experts && i < kLanes) {
      copies.wait(kRouterPiece, parity);
      const auto* const row = reinterpret_cast<const float*>(shared.tiles + a.plan.router);
      float sum = 0.0f;
#pragma unroll
      for (int c = 0; c < kHidden; c += kLanes) {
        sum = __fmaf_rn(row[c + i], shared.row.x[c + i], sum);
      }
      shared.lanes[i] = sum;
    }
    __syncthreads();
    if (block < a.num_experts && warp == 0) {
      const float logit = halving_tree(shared.lanes);
      if (lane == 0) a.logits[block] = logit;
    }
    barrier.arrive();
    quantize_row(shared, y);
    if (has_next()) {
      copies.wait(kLayerPiece, parity ^ 1u);
      start_router(layer + 1);
    }
    barrier.wait();
  }

  // Unit u of this block: 32 rows of gate_proj and up_proj of the expert of some rank.
  __device__ int unit(int u) const { return block + u * static_cast<int>(gridDim.x); }
  __device__ int units_each() const { return a.moe_intermediate_size / 32; }  // Of an expert.
  __device__ bool has_unit(int u) const { return unit(u) < units_each() * a.num_experts_per_tok; }

  // All threads call: a thread a copy.
  __device__ void start_units() const {
    constexpr int kGroups = 2 * kUnitGroups;
    const int n = i - kStarter;
    const int u = n / kGroups;
    if (n < 0 || u >= kUnits || !has_unit(u)) return;
    const int m = n / kUnitGroups % 2;
    const PersistentLayer& of = weights(layer);
    const PersistentMatrix& matrix = of.gate_up[m];
    const auto expert = static_cast<std::size_t>(shared.ids[unit(u) / units_each()]);
    copies.start_group(kUnitPiece + (2 * u + m) * kUnitGroups, unit_tiles(u, m), matrix,
                       matrix.data + expert * matrix.expert_stride,
                       unit(u) % units_each() * kUnitGroups, n % kUnitGroups);
  }
  __device__ std::uint8_t* unit_tiles(int u, int m) const {
    return shared.tiles + u * a.plan.unit_bytes +
           m * kUnitGroups * weights(layer).gate_up[0].group_bytes;
  }
  // By the first threads of a warp.
  __device__ void start_down(int group) const {
    const PersistentMatrix& matrix = weights(layer).down_proj;
    const int first = kDownGroups * block + group;
    if (group >= pair_count(kDownGroups * block) || lane >= a.num_experts_per_tok) return;
    const auto expert = static_cast<std::size_t>(shared.ids[lane]);
    copies.start(kDownPiece + group, down_tiles(group) + lane * matrix.group_bytes,
                 matrix.data + expert * matrix.expert_stride +
                     static_cast<std::size_t>(first) * matrix.group_bytes,
                 matrix.group_bytes);
  }

  // shared.ids and shared.logits, as find_rank for all ranks at once. Barriers inside and behind.
  __device__ void choose() {
    if (i < kMaxExperts) {
      const float logit = i < a.num_experts ? __ldcg(a.logits + i) : 0.0f;
      shared.logits[i] = logit;
      shared.bits[i] = i < a.num_experts ? ordered_bits(logit) : 0u;
    }
    __syncthreads();
    const int e = i / 4;
    const unsigned mine = shared.bits[e];
    int before = 0;
#pragma unroll 8
    for (int m = 0; m < kMaxExperts / 4; ++m) {
      const int other = 4 * m + i % 4;
      const unsigned its = shared.bits[other];
      before += (its > mine || (its == mine && other < e)) ? 1 : 0;
    }
    before += __shfl_xor_sync(kAllLanes, before, 1);
    before += __shfl_xor_sync(kAllLanes, before, 2);
    if (i % 4 == 0 && before < a.num_experts_per_tok) shared.ids[before] = e;
    __syncthreads();
  }

  __device__ void gate_up() {
    choose();
    start_units();
    if (warp == 1) start_down(0);
    if (warp == kWarps - 2) {
      routing_weights(shared.logits, a.num_experts, shared.ids, a.num_experts_per_tok,
                      a.norm_topk_prob, shared.shares);
      const int bad = first_not_finite(shared.logits, a.num_experts);
      if (block == 0 && lane == 0 && bad < a.num_experts) {
        atomicMin(reinterpret_cast<unsigned long long*>(&a.state->router_error),
                  static_cast<unsigned long long>((static_cast<std::uint64_t>(layer) << 48) |
                                                  static_cast<unsigned>(bad)));
      }
    }
    constexpr int kSuperBlocks = kHidden / 256;
    constexpr int kSumsEach = kUnitGroups * 8 * kSuperBlocks;
    const int s = warp % kSuperBlocks;
    const int m = warp / kSuperBlocks;
    ActivationLane x;
    x.load(shared.row.q, shared.row.meta, s, lane % 4);
    const PersistentMatrix& matrix = weights(layer).gate_up[m];
    for (int u = 0; u < kUnits && has_unit(u); ++u) {
      tile_products<kUnitGroups, 2>(
          matrix.type, unit_tiles(u, m) + s * matrix.tile_bytes, matrix.group_bytes, kUnitGroups, x,
          shared.sums + (2 * u + m) * kSumsEach + s * 8 + lane / 4, 8 * kSuperBlocks,
          [&](int g) { copies.wait(kUnitPiece + (2 * u + m) * kUnitGroups + g, parity); });
      __syncthreads();
      if (u == 0 && warp == 1) start_down(1);
      if (warp == 2 * u) {
        const float* const of_unit = shared.sums + 2 * u * kSumsEach;
        const float gate = ordered_sum(of_unit, lane / 8, lane % 8, kSuperBlocks);
        const float up = ordered_sum(of_unit + kSumsEach, lane / 8, lane % 8, kSuperBlocks);
        const std::size_t at = static_cast<std::size_t>(unit(u) / units_each()) * a.inner_stride +
                               static_cast<std::size_t>(32 * (unit(u) % units_each()));
        quantize_block(swiglu_device(gate, up), a.inner_q + at, a.inner_meta + at / 32);
      }
    }
    if (!has_unit(0) && warp == 1) start_down(1);
    barrier.arrive();
    if (has_next()) start_qkv(layer + 1);
    barrier.wait();
  }

  __device__ void down() {
    const PersistentMatrix& matrix = weights(layer).down_proj;
    const int super_blocks = a.moe_intermediate_size / 256;
    const int first = kDownGroups * block;
    const int count = pair_count(first);
    const int rank = warp % kMaxRanks;
    const int group = warp / kMaxRanks;
    const int ranks = a.num_experts_per_tok;
    float residual = 0.0f;
    if (i < 8 * count) residual = __ldcg(a.hidden + 8 * first + i);
    if (group < count && rank < ranks) {
      const std::size_t at = static_cast<std::size_t>(rank) * a.inner_stride;
      ActivationLane next;
      next.load<true>(a.inner_q + at, a.inner_meta + at / 32, 0, lane % 4);
      for (int s = 0; s < super_blocks; ++s) {
        const ActivationLane x = next;
        if (s + 1 < super_blocks) {
          next.load<true>(a.inner_q + at, a.inner_meta + at / 32, s + 1, lane % 4);
        }
        const int row = (group * kMaxRanks + rank) * super_blocks + s;
        tile_products<1, 1>(matrix.type,
                            down_tiles(group) + rank * matrix.group_bytes + s * matrix.tile_bytes,
                            0, 1, x, shared.sums + row * 8 + lane / 4, 0,
                            [&](int) { copies.wait(kDownPiece + group, parity); });
      }
    }
    __syncthreads();
    if (i < 8 * kMaxRanks * count) {
      shared.outs[i] = ordered_sum(shared.sums, i / 8, i % 8, super_blocks);
    }
    __syncthreads();
    if (i < 8 * count) {
      float sum = 0.0f;
#pragma unroll
      for (int r = 0; r < kMaxRanks; ++r) {
        if (r >= ranks) continue;
        sum = __fmaf_rn(shared.shares[r], shared.outs[(i / 8 * kMaxRanks + r) * 8 + i % 8], sum);
      }
      a.hidden[8 * first + i] = __fadd_rn(residual, sum);
    }
    if (!has_next()) return;
    barrier.arrive();
    start_out(layer + 1);
    barrier.wait();
  }

  const PersistentArguments& a;
  PersistentShared& shared;
  const Copies copies;
  GridBarrier barrier;
  const int i = static_cast<int>(threadIdx.x);
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int block = static_cast<int>(blockIdx.x);
  int position = 0;
  int num_chunks = 0;
  int layer = 0;
  unsigned parity = 0;
};

__global__ void __launch_bounds__(kThreads, 1)
    persistent_kernel(__grid_constant__ const PersistentArguments a) {
#if __CUDA_ARCH__ >= 900
  Block(a, *reinterpret_cast<PersistentShared*>(dynamic_shared())).run();
#endif
}

PersistentMatrix persistent_matrix(const DeviceMatrix& matrix) {
  return {matrix.data, matrix.expert_stride, static_cast<unsigned>(8 * matrix.row_bytes),
          static_cast<unsigned>(8 * matrix.row_bytes / (matrix.columns / 256)), matrix.type};
}

std::size_t unit_bytes(const DeviceLayer& layer) {
  return kUnitGroups * 8 * (layer.gate_proj.row_bytes + layer.up_proj.row_bytes);
}

std::size_t ceil_divide(std::size_t a, std::size_t b) { return (a + b - 1) / b; }

}  // namespace

bool can_persist(const Stream& stream, const DecodeShape& shape,
                 std::span<const DeviceLayer> layers) {
  const auto blocks = static_cast<std::size_t>(stream.num_multiprocessors);
  const AttentionShape& heads = shape.heads;
  const std::size_t qkv_blocks = ceil_divide(heads.query_size() / 8, kQkvGroups) +
                                 2 * ceil_divide(heads.key_value_size() / 8, kQkvGroups);
  const std::size_t units = shape.moe_intermediate_size / 32 * shape.num_experts_per_tok;
  if (layers.empty() || !stream.has_clusters || shape.hidden_size != kHidden ||
      heads.head_dim != kHeadDim ||
      heads.num_attention_heads / heads.num_key_value_heads % kFastHeads != 0 ||
      shape.num_experts > kMaxExperts || shape.num_experts > blocks ||
      shape.num_experts_per_tok > kMaxRanks || qkv_blocks > blocks ||
      kHidden / 8 > kOutGroups * blocks || units > kUnits * blocks ||
      heads.query_size() / 256 * 8 * kOutGroups > kMaxSums ||
      shape.moe_intermediate_size / 256 * 8 * kDownGroups * kMaxRanks > kMaxSums ||
      sizeof(PersistentShared) > stream.max_shared_bytes) {
    return false;
  }
  const std::size_t unit = unit_bytes(layers.front());
  constexpr std::size_t kRouterBytes = kHidden * sizeof(float);
  return std::ranges::all_of(layers, [&](const DeviceLayer& layer) {
    for (const DeviceMatrix* matrix : {&layer.q_proj, &layer.k_proj, &layer.v_proj, &layer.o_proj,
                                       &layer.gate_proj, &layer.up_proj, &layer.down_proj}) {
      const bool is_k = matrix->type == TensorType::kQ4_K || matrix->type == TensorType::kQ6_K;
      if (!is_k || matrix->columns % 256 != 0 || matrix->tiled_rows != matrix->rows) return false;
    }
    const std::size_t qkv_row =
        std::max({layer.q_proj.row_bytes, layer.k_proj.row_bytes, layer.v_proj.row_bytes});
    const std::size_t down = shape.num_experts_per_tok * 8 * layer.down_proj.row_bytes;
    return layer.router.type == TensorType::kF32 && unit_bytes(layer) == unit &&
           kQkvGroups * 8 * qkv_row <= unit && sizeof(ChunkRows) <= unit &&
           kOutGroups * 8 * layer.o_proj.row_bytes <= unit && down <= unit &&
           2 * unit + down + kRouterBytes <= kTileBytes;
  });
}

PersistentLayer persistent_layer(const DeviceLayer& layer, const LayerCache& cache) {
  PersistentLayer of;
  of.input_layernorm = layer.input_layernorm;
  of.post_attention_layernorm = layer.post_attention_layernorm;
  of.q_norm = layer.q_norm;
  of.k_norm = layer.k_norm;
  of.router = reinterpret_cast<const float*>(layer.router.data);
  of.k_cache = cache.k;
  of.v_cache = cache.v;
  of.qkv[0] = persistent_matrix(layer.q_proj);
  of.qkv[1] = persistent_matrix(layer.k_proj);
  of.qkv[2] = persistent_matrix(layer.v_proj);
  of.o_proj = persistent_matrix(layer.o_proj);
  of.gate_up[0] = persistent_matrix(layer.gate_proj);
  of.gate_up[1] = persistent_matrix(layer.up_proj);
  of.down_proj = persistent_matrix(layer.down_proj);
  return of;
}

void decode_layers(const Stream& stream, const DecodeShape& shape,
                   std::span<const DeviceLayer> layers, const PersistentLayer* on_device,
                   std::uint64_t* arrivals, const DecodeBuffers& buffers) {
  CHECK(can_persist(stream, shape, layers));
  const AttentionShape& heads = shape.heads;
  PersistentArguments a{};
  a.layers = on_device;
  a.num_layers = static_cast<int>(layers.size());
  a.arrivals = arrivals;
  a.plan.unit_bytes = static_cast<unsigned>(unit_bytes(layers.front()));
  a.plan.router = static_cast<unsigned>(kTileBytes - kHidden * sizeof(float));
  const auto qkv_blocks = [](std::size_t rows) {
    return static_cast<int>(ceil_divide(rows / 8, kQkvGroups));
  };
  a.first_block[1] = qkv_blocks(heads.query_size());
  a.first_block[2] = a.first_block[1] + qkv_blocks(heads.key_value_size());
  a.query_size = static_cast<int>(heads.query_size());
  a.key_value_size = static_cast<int>(heads.key_value_size());
  a.group_size = static_cast<int>(heads.num_attention_heads / heads.num_key_value_heads);
  a.num_quads = static_cast<int>(heads.num_attention_heads) / kFastHeads;
  a.num_experts = static_cast<int>(shape.num_experts);
  a.num_experts_per_tok = static_cast<int>(shape.num_experts_per_tok);
  a.moe_intermediate_size = static_cast<int>(shape.moe_intermediate_size);
  a.norm_topk_prob = shape.norm_topk_prob;
  a.epsilon = shape.rms_norm_eps;
  a.scale = 1.0f / std::sqrt(static_cast<float>(heads.head_dim));
  a.cosines = buffers.cosines;
  a.sines = buffers.sines;
  a.partials = {buffers.scratch, static_cast<int>(heads.num_attention_heads),
                static_cast<int>(ceil_divide(shape.capacity, kAttentionChunk))};
  a.state = buffers.state;
  a.hidden = buffers.hidden;
  a.qkv[0] = buffers.q;
  a.qkv[1] = buffers.k;
  a.qkv[2] = buffers.v;
  a.heads_q = buffers.heads.q;
  a.heads_meta = buffers.heads.meta;
  a.logits = buffers.router_logits;
  a.inner_q = buffers.inner.q;
  a.inner_meta = buffers.inner.meta;
  a.inner_stride = buffers.inner.stride;
  Launch launch{dim3(static_cast<unsigned>(stream.num_multiprocessors)), dim3(kThreads),
                sizeof(PersistentShared), false, true};
  launch.cooperative = true;
  launch(stream, persistent_kernel, a);
}

}  // namespace refute::cuda
