// All layers of one decoded token in one kernel that stays: a block a multiprocessor, all at once.
// Where the fused kernels of decode.cu have a launch, a block waits for the words that it needs, each
// of which says of which layer it is (exchange.cuh); there is no barrier of the grid. Instructions
// stay cached. Contracts: kernels/*.h; the fused and the plain kernels check it bit for bit.
//
//   1 qkv       norm, quantization, q_proj, k_proj, v_proj       at most 5 row groups a block
//   2 attention four heads and a chunk of positions an item; more than one chunk: merged by
//               whoever has a block of 32 columns
//   3 o_proj    and the residual                                  2 row groups a block
//   4 router    norm, a row of logits; every block quantizes for itself
//   5 gate_up   top-k, gate, up, SwiGLU, quantization             at most 2 x 32 rows a block
//   6 down      all chosen experts, weighted sum, residual        2 row groups a block
//
// A word is written anew one layer later. By then it has been read: down waits for every unit of
// gate_up, every block has one, and before it that block has read all that it reads of its layer up
// to the logits; what down reads, gate_up of the next layer writes, behind the router, which waits
// for the next o_proj of every block that has rows of down.
//
// Block: 512 threads. Shared: 216 KiB, a plan of what is where when: see Plan. Moves: every weight
// once. Bound by memory and by how long a word takes to the next block, six times a layer.
// Numerics: bitwise equal to cpu::.
#include <algorithm>
#include <cmath>

#include "kernels/check.h"
#include "kernels/cuda/decode_attention.cuh"
#include "kernels/cuda/decode_ops.h"
#include "kernels/cuda/decode_parts.cuh"
#include "kernels/cuda/exchange.cuh"
#include "kernels/cuda/fragment.cuh"
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
constexpr int kRowsEach = 8 * kOutGroups;  // Of hidden, whose block has those of o_proj and down.
static_assert(kOutGroups == kDownGroups);
constexpr int kUnits = 2;       // Of gate_up: 32 rows of one expert.
constexpr int kUnitGroups = 4;  // Of gate_proj, and as many of up_proj.
constexpr int kMaxRanks = 8;
constexpr int kMaxExperts = 128;
constexpr int kMaxSums = 1024;
constexpr int kMaxInnerBlocks = 272;  // Of 32, of all experts.
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
//   gate_up  unit 0 | unit 1
//   down     group 0 behind the units, group 1 in place of unit 0; meanwhile the next layer's qkv
//            in place of unit 1
//   qkv      the next o_proj in place of down's group 1
//   attention in place of qkv
// The router's row has a place of its own.
struct Plan {
  unsigned unit_bytes;
  unsigned router;
};

// What blocks hand to each other, in words (exchange.cuh).
struct Exchange {
  Word* launches;  // An untagged one, of launches before this one.
  Word* hidden;    // [hidden_size], behind a layer,
  Word* attended;  // and behind its attention.
  Word* qkv[3];    // [query_size], [key_value_size] twice.
  QuantizedWords heads;  // [query_size]
  Word* logits;          // [num_experts]
  QuantizedWords inner;  // [num_experts_per_tok, moe_intermediate_size]
  Word* values;          // [heads, max_chunks, head_dim]: Y_j of kernels/attention.h,
  Word* terms;           // [heads, max_chunks, 2]: m_j and l_j.
  int max_chunks;
};

struct PersistentArguments {
  const PersistentLayer* layers;
  int num_layers;
  Exchange exchange;
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
  DecodeState* state;
  float* hidden;  // Before the first layer, and behind the last.
};

// Quantized activations that were taken, in shared memory.
struct QuantizedRows {
  alignas(16) std::int8_t q[32 * kMaxInnerBlocks];
  alignas(16) ActivationMeta meta[kMaxInnerBlocks];

  // Two words of q, or the two of a block's meta, from `words` to their place.
  __device__ void store_q(int pair, const TwoWords& words) {
    reinterpret_cast<uint2*>(q)[pair] = {bits_of(words.first), bits_of(words.second)};
  }
  __device__ void store_meta(int block, const TwoWords& words) {
    reinterpret_cast<uint2*>(meta)[block] = {bits_of(words.first), bits_of(words.second)};
  }
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
    QuantizedRows taken;
  };
  float entered[kRowsEach];   // This block's rows of hidden before a layer,
  float attended[kRowsEach];  // and behind its attention.
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

// Copies to shared memory, by instructions that compute capability 9.0 brought: on older devices,
// where can_persist keeps this kernel from running, it is compiled without them. Every copy is
// started by a thread of its own, because one thread that starts them all takes microseconds.
class Copies {
 public:
  __device__ Copies(std::uint64_t* barriers) : barriers_(barriers) {}

  // One thread. arrivals: copies of a piece.
  __device__ void init(int piece, unsigned arrivals) const {
#if __CUDA_ARCH__ >= 900
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barriers_ + piece)),
                 "r"(arrivals));
#endif
  }
  __device__ void start(int piece, std::uint8_t* to, const void* from, unsigned bytes) const {
#if __CUDA_ARCH__ >= 900
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(
                     shared_address(barriers_ + piece)),
                 "r"(bytes)
                 : "memory");
    asm volatile(
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::
            "r"(shared_address(to)),
        "l"(from), "r"(bytes), "r"(shared_address(barriers_ + piece))
        : "memory");
#endif
  }
  // Row group g of some, a piece each, by thread g.
  __device__ void start_group(int piece, std::uint8_t* to, const PersistentMatrix& matrix,
                              const std::uint8_t* data, int first, int g) const {
    start(piece + g, to + g * matrix.group_bytes,
          data + static_cast<std::size_t>(first + g) * matrix.group_bytes, matrix.group_bytes);
  }
  // All threads that read the piece.
  __device__ void wait(int piece, unsigned parity) const {
#if __CUDA_ARCH__ >= 900
    asm volatile(
        "{\n"
        ".reg .pred done;\n"
        "again:\n"
        "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
        "@!done bra again;\n"
        "}\n" ::"r"(shared_address(barriers_ + piece)),
        "r"(parity)
        : "memory");
#endif
  }

 private:
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

// This thread's four elements of the norm of x, of which it has four; row.x is x.
__device__ inline void norm(const float4& x, const float* weight, float epsilon,
                            PersistentShared& shared, float y[4]) {
  const int i = static_cast<int>(threadIdx.x);
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

// Partial results of chunks on their way to whoever merges them.
struct TaggedPartials {
  const Exchange& exchange;
  unsigned tag;

  __device__ Word* values(int head, int chunk) const {
    return exchange.values +
           static_cast<std::size_t>(head * exchange.max_chunks + chunk) * kHeadDim;
  }
  __device__ Word* terms(int head, int chunk) const {
    return exchange.terms + 2 * (head * exchange.max_chunks + chunk);
  }
  __device__ void store(int head, int chunk, int column, float y, const ChunkTerms& of) const {
    put(values(head, chunk) + column, tagged(y, tag));
    if (column == 0) put_two(terms(head, chunk), tagged(of.max, tag), tagged(of.sum, tag));
  }
  __device__ float2 read_terms(int head, int chunk) const {
    TwoWords words[1];
    take_pairs(terms(head, chunk), 0, 1, tag, words);
    return {float_of(words[0].first), float_of(words[0].second)};
  }
  template <int kMost>
  __device__ void read_values(int head, int first_chunk, int count, int column,
                              float (&y)[kMost]) const {
    bool all;
    do {
      all = true;
#pragma unroll
      for (int j = 0; j < kMost; ++j) {
        if (j >= count) continue;
        const Word word = read_word(values(head, first_chunk + j) + column);
        y[j] = float_of(word);
        all = all && tag_of(word) == tag;
      }
    } while (!all);
  }
};

// One block of the kernel.
class Block {
 public:
  __device__ Block(const PersistentArguments& arguments, PersistentShared& block_shared)
      : a(arguments),
        shared(block_shared),
        copies(block_shared.barriers),
        first_tag(static_cast<unsigned>(*arguments.exchange.launches) *
                      static_cast<unsigned>(arguments.num_layers) +
                  1u) {}

  __device__ void run() {
    if (i < kPieces) {
      copies.init(i, i == kDownPiece || i == kDownPiece + 1
                         ? static_cast<unsigned>(a.num_experts_per_tok)
                     : i == kLayerPiece ? 3u
                                        : 1u);
#if __CUDA_ARCH__ >= 900
      asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
#endif
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
      tag = first_tag + static_cast<unsigned>(layer);
      qkv();
      attention();
      out();
      router();
      gate_up();
      down();
    }
    // All blocks have read it: down has waited for every unit.
    if (block == 0 && i == 0) *a.exchange.launches += 1;
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

  // Brings the next layer's weights that routing does not decide into the second-level cache while
  // device memory has little else to do.
  __device__ void prefetch_next() const {
    if (i < kStarter) return;
    const PersistentLayer& next = weights(layer + 1);
    const auto prefetch = [](const PersistentMatrix& matrix, int g) {
      const auto at = static_cast<std::size_t>(g) * matrix.group_bytes;
      prefetch_part(matrix.data + at, matrix.group_bytes, 0, 1);
    };
    if (lane < qkv_count()) prefetch(next.qkv[qkv_matrix()], qkv_first() + lane);
    const int out_first = kOutGroups * block;
    if (lane >= 8 && lane - 8 < pair_count(out_first)) prefetch(next.o_proj, out_first + lane - 8);
  }

  __device__ void qkv() {
    const float4 x_in = layer == 0 ? reinterpret_cast<const float4*>(a.hidden)[i]
                                   : take_four(a.exchange.hidden + 4 * i, tag - 1);
    keep_own(x_in, shared.entered);
    float y[4];
    norm(x_in, weights(layer).input_layernorm, a.epsilon, shared, y);
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
      put(a.exchange.qkv[which] + 8 * qkv_first() + i,
          tagged(ordered_sum(shared.sums, i / 8, i % 8, kSuperBlocks), tag));
    }
    if (block < num_items()) start_chunk(block);
  }

  __device__ static float4 take_four(const Word* at, unsigned tag) {
    TwoWords words[2];
    take_pairs(at, 2, 2, tag, words);
    return {float_of(words[0].first), float_of(words[0].second), float_of(words[1].first),
            float_of(words[1].second)};
  }
  // From this thread's four elements of hidden, those that are the block's own.
  __device__ void keep_own(const float4& x, float* own) const {
    const int first = 4 * i - kRowsEach * block;
    if (first >= 0 && first < kRowsEach) *reinterpret_cast<float4*>(own + first) = x;
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
#if __CUDA_ARCH__ >= 900
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
    __syncthreads();
    if (has_next()) {
      copies.wait(kLayerPiece, parity ^ 1u);
      prefetch_next();
    }
    if (num_chunks == 1 || warp != 0) return;
    for (int b = block; b < a.query_size / 32; b += static_cast<int>(gridDim.x)) {
      const TaggedPartials partials{a.exchange, tag};
      const int head = 32 * b / kHeadDim;
      a.exchange.heads.put_block(
          b, merge_chunks(partials, head, 32 * b % kHeadDim + lane, num_chunks), tag);
    }
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
    // Columns 2 lane and 2 lane + 1 of both halves of a head, by a warp.
    const auto take_head = [&](const Word* words, float* head) {
      TwoWords of[2];
      take_pairs(words + 2 * lane, kHeadDim / 2, 2, tag, of);
#pragma unroll
      for (int n = 0; n < 2; ++n) {
        *reinterpret_cast<float2*>(head + kHeadDim / 2 * n + 2 * lane) = {float_of(of[n].first),
                                                                          float_of(of[n].second)};
      }
      __syncwarp();
    };
    if (warp < kFastHeads) {
      take_head(a.exchange.qkv[0] + (first_head + warp) * kHeadDim, work.q[warp]);
      turn(shared.q_norm[layer & 1], work.q[warp]);
    } else if (has_new && warp < kFastHeads + 2) {
      const bool is_value = warp == kFastHeads + 1;
      float* const row = is_value ? work.new_v : work.new_k;
      take_head(a.exchange.qkv[is_value ? 2 : 1] + kv_head * kHeadDim, row);
      if (!is_value) turn(shared.k_norm[layer & 1], row);
      store_new(row, kv_head, first_head % a.group_size == 0, is_value);
    }
    __pipeline_wait_prior(0);
    __syncthreads();
    four_head_chunk(work, rows, count, a.scale);
    const int head = i / kHeadDim;
    const int column = i % kHeadDim;
    const float y = chunk_result(work, count, head, column);
    if (num_chunks == 1) {
      const int b = ((first_head + head) * kHeadDim + column) / 32;
      a.exchange.heads.put_block(b, __fdiv_rn(y, work.chunk[head].sum), tag);
    } else {
      const ChunkTerms of = work.chunk[head];
      TaggedPartials{a.exchange, tag}.store(first_head + head, chunk, column, y, of);
    }
    __syncthreads();  // Before the next item's rows and terms.
  }
  // The new key or value of a warp, as float16: to the rows of the chunk, and to the cache.
  __device__ void store_new(const float* row, int kv_head, bool to_cache, bool is_value) const {
    ChunkRows& rows = chunk_rows();
    const int r = position % kAttentionChunk;
    std::uint16_t* const near = is_value ? rows.v + r * kHeadDim : rows.k + r * kKeyStride;
    std::uint16_t* const cache = (is_value ? weights(layer).v_cache : weights(layer).k_cache) +
                                 static_cast<std::size_t>(position) *
                                     static_cast<std::size_t>(a.key_value_size) +
                                 static_cast<std::size_t>(kv_head * kHeadDim);
#pragma unroll
    for (int c = lane; c < kHeadDim; c += kWarp) {
      const std::uint16_t half = half_bits(row[c]);
      near[c] = half;
      if (!to_cache) continue;
      if (!is_finite_half(half)) a.state->cache_failed = 1;
      cache[c] = half;
    }
  }

  __device__ void out() {
    const PersistentMatrix& matrix = weights(layer).o_proj;
    const int super_blocks = a.query_size / 256;
    const int first = kOutGroups * block;
    const int count = pair_count(first);
    if (count > 0) {
      for (int s = warp; s < super_blocks; s += kWarps) {
        take_heads(s);
        ActivationLane x;
        x.load(shared.taken.q, shared.taken.meta, s, lane % 4);
        tile_products<kOutGroups, kOutGroups>(matrix.type, shared.tiles + s * matrix.tile_bytes,
                                              matrix.group_bytes, count, x,
                                              shared.sums + s * 8 + lane / 4, 8 * super_blocks,
                                              [&](int g) { copies.wait(kOutPiece + g, parity); });
      }
    }
    __syncthreads();
    if (i < 8 * count) {
      const float y =
          __fadd_rn(shared.entered[i], ordered_sum(shared.sums, i / 8, i % 8, super_blocks));
      put(a.exchange.attended + 8 * first + i, tagged(y, tag));
    }
  }
  // Super-block s of what attention gave, by a warp.
  __device__ void take_heads(int s) const {
    TwoWords q[1];
    take_pairs(a.exchange.heads.q + 64 * s + 2 * lane, 0, 1, tag, q);
    shared.taken.store_q(32 * s + lane, q[0]);
    TwoWords meta[1];
    take_pairs(a.exchange.heads.meta + 2 * (8 * s + lane), 0, lane < 8 ? 1 : 0, tag, meta);
    if (lane < 8) shared.taken.store_meta(8 * s + lane, meta[0]);
    __syncwarp();
  }

  __device__ void router() {
    const float4 x = take_four(a.exchange.attended + 4 * i, tag);
    keep_own(x, shared.attended);
    float y[4];
    norm(x, weights(layer).post_attention_layernorm, a.epsilon, shared, y);
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
      if (lane == 0) put(a.exchange.logits + block, tagged(logit, tag));
    }
    quantize_row(shared, y);
    if (has_next()) start_router(layer + 1);
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
      const float logit = i < a.num_experts ? float_of(take(a.exchange.logits + i, tag)) : 0.0f;
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
      // Behind all units' tiles, which are needed first.
      if (u == 0 && warp <= 1) start_down(warp);
      if (warp == 2 * u) {
        const float* const of_unit = shared.sums + 2 * u * kSumsEach;
        const float gate = ordered_sum(of_unit, lane / 8, lane % 8, kSuperBlocks);
        const float up = ordered_sum(of_unit + kSumsEach, lane / 8, lane % 8, kSuperBlocks);
        a.exchange.inner.put_block(unit(u), swiglu_device(gate, up), tag);
      }
    }
    __syncthreads();  // Before others are in place of these sums, rows and tiles.
    if (has_next()) start_qkv(layer + 1);
  }
  // The activations of all experts, by all threads.
  __device__ void take_inner() const {
    const int blocks = units_each() * a.num_experts_per_tok;
    constexpr int kEach = (5 * kMaxInnerBlocks + kThreads - 1) / kThreads;
    // Four pairs of q and one of meta a block.
    TwoWords words[kEach];
    const auto source = [&](int n) {
      const int pair = i + kThreads * n;
      return pair < 4 * blocks ? a.exchange.inner.q + 2 * pair
                               : a.exchange.inner.meta + 2 * (pair - 4 * blocks);
    };
    const int count = (5 * blocks - i + kThreads - 1) / kThreads;
    bool all;
    do {
      all = true;
#pragma unroll
      for (int n = 0; n < kEach; ++n) {
        if (n < count) words[n] = read_two(source(n));
      }
#pragma unroll
      for (int n = 0; n < kEach; ++n) all = all && (n >= count || words[n].has(tag));
    } while (!all);
#pragma unroll
    for (int n = 0; n < kEach; ++n) {
      const int pair = i + kThreads * n;
      if (n >= count) continue;
      if (pair < 4 * blocks) {
        shared.taken.store_q(pair, words[n]);
      } else {
        shared.taken.store_meta(pair - 4 * blocks, words[n]);
      }
    }
  }

  __device__ void down() {
    const PersistentMatrix& matrix = weights(layer).down_proj;
    const int super_blocks = a.moe_intermediate_size / 256;
    const int first = kDownGroups * block;
    const int count = pair_count(first);
    const int rank = warp % kMaxRanks;
    const int group = warp / kMaxRanks;
    const int ranks = a.num_experts_per_tok;
    if (count > 0) take_inner();
    __syncthreads();
    if (group < count && rank < ranks) {
      for (int s = 0; s < super_blocks; ++s) {
        ActivationLane x;
        x.load(shared.taken.q, shared.taken.meta, rank * super_blocks + s, lane % 4);
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
      const float y = __fadd_rn(shared.attended[i], sum);
      if (has_next()) {
        put(a.exchange.hidden + 8 * first + i, tagged(y, tag));
      } else {
        a.hidden[8 * first + i] = y;
      }
    }
    if (has_next()) start_out(layer + 1);
  }

  const PersistentArguments& a;
  PersistentShared& shared;
  const Copies copies;
  const unsigned first_tag;
  const int i = static_cast<int>(threadIdx.x);
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int block = static_cast<int>(blockIdx.x);
  int position = 0;
  int num_chunks = 0;
  int layer = 0;
  unsigned parity = 0;
  unsigned tag = 0;  // Of what this layer writes.
};

__global__ void __launch_bounds__(kThreads, 1)
    persistent_kernel(__grid_constant__ const PersistentArguments a) {
  Block(a, *reinterpret_cast<PersistentShared*>(dynamic_shared())).run();
}

PersistentMatrix persistent_matrix(const DeviceMatrix& matrix) {
  return {matrix.data, matrix.expert_stride, static_cast<unsigned>(8 * matrix.row_bytes),
          static_cast<unsigned>(8 * matrix.row_bytes / (matrix.columns / 256)), matrix.type};
}

std::size_t unit_bytes(const DeviceLayer& layer) {
  return kUnitGroups * 8 * (layer.gate_proj.row_bytes + layer.up_proj.row_bytes);
}

std::size_t ceil_divide(std::size_t a, std::size_t b) { return (a + b - 1) / b; }

// Where the words are from `base` on, and how many there are. Every part begins at a multiple of 16
// bytes.
std::pair<Exchange, std::size_t> exchange_of(const DecodeShape& shape, Word* base) {
  std::size_t used = 0;
  const auto part = [&](std::size_t count) {
    Word* const at = base + used;
    used += count + count % 2;
    return at;
  };
  const AttentionShape& heads = shape.heads;
  const auto quantized = [&](std::size_t size) {
    QuantizedWords words;
    words.q = part(size / 4);
    words.meta = part(size / 32 * 2);
    return words;
  };
  Exchange of;
  of.launches = part(1);
  of.hidden = part(shape.hidden_size);
  of.attended = part(shape.hidden_size);
  of.qkv[0] = part(heads.query_size());
  of.qkv[1] = part(heads.key_value_size());
  of.qkv[2] = part(heads.key_value_size());
  of.heads = quantized(heads.query_size());
  of.logits = part(shape.num_experts);
  of.inner = quantized(shape.num_experts_per_tok * shape.moe_intermediate_size);
  const std::size_t max_chunks = ceil_divide(shape.capacity, kAttentionChunk);
  of.max_chunks = static_cast<int>(max_chunks);
  of.values = part(heads.num_attention_heads * max_chunks * heads.head_dim);
  of.terms = part(heads.num_attention_heads * max_chunks * 2);
  return {of, used};
}

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
      kHidden / 8 > kOutGroups * blocks || units < blocks || units > kUnits * blocks ||
      units > kMaxInnerBlocks ||
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

std::size_t exchange_words(const DecodeShape& shape) { return exchange_of(shape, nullptr).second; }

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
                   std::uint64_t* exchange, const DecodeBuffers& buffers) {
  CHECK(can_persist(stream, shape, layers));
  const AttentionShape& heads = shape.heads;
  PersistentArguments a{};
  a.layers = on_device;
  a.num_layers = static_cast<int>(layers.size());
  a.exchange = exchange_of(shape, exchange).first;
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
  a.state = buffers.state;
  a.hidden = buffers.hidden;
  Launch launch{dim3(static_cast<unsigned>(stream.num_multiprocessors)), dim3(kThreads),
                sizeof(PersistentShared), false, true};
  launch.cooperative = true;
  launch(stream, persistent_kernel, a);
}

}  // namespace refute::cuda
