// All of decoding in one kernel that stays: a block a multiprocessor, all at once.
// Where the fused kernels of decode.cu have a launch, a block waits for the words that it needs,
// each of which says of which layer it is (exchange.cuh); there is no barrier of the grid.
// Contracts: kernels/*.h; the fused and the plain kernels check it bit for bit.
//
//   1 qkv       norm, quantization, q_proj, k_proj, v_proj       at most 5 row groups a block
//   2 attention a head, or four, and a chunk of positions an item; more than one chunk: merged by
//               whoever has a block of 32 columns
//   3 out       o_proj and the residual                          2 row groups a block
//   4 router    norm, a row of logits; every block quantizes for itself
//   5 experts   top-k, gate_up: gate, up, SwiGLU, quantization   3 x 32 rows two blocks
//               down: all chosen experts, weighted sum, residual 2 row groups a block
//   6 head      behind all layers: norm, quantization, logits    as many row groups as others
//               the likeliest of them, whose embedding is the next token's hidden
//
// A word is written anew one layer later, when it has been read: a block reads only for what it
// writes itself, and all of a layer's words are waited for, by way of others, before the next
// layer's words of the same kind are written. What down reads, gate_up of the next layer writes:
// behind the router, and so behind o_proj of every block with rows of hidden, which then has done
// its down. Every block takes the likeliest of every other, so no block is ahead by a token.
//
// Block: 512 threads. Shared: 225 KiB, a plan of what is where when: see Plan. Moves: every weight
// once. Bound by memory while experts' weights come, else by how long a block's longest warp takes
// and a word to the next block, six times a layer. Numerics: bitwise equal to cpu::.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <utility>

#include "kernels/check.h"
#include "kernels/cuda/decode_attention.cuh"
#include "kernels/cuda/decode_ops.h"
#include "kernels/cuda/decode_parts.cuh"
#include "kernels/cuda/exchange.cuh"
#include "kernels/cuda/fragment.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/route.cuh"
#include "kernels/cuda/tile_pair.cuh"

namespace refute::cuda {
namespace {

constexpr int kThreads = 512;
constexpr int kWarps = kThreads / kWarp;

// The shape it is for, Qwen3-30B-A3B's: known at compile time, because what is counted, divided or
// branched on at run time costs most where all others wait for one warp.
constexpr int kHidden = 2048;
static_assert(kHidden == 4 * kThreads);  // Four elements a thread.
constexpr int kNumHeads = 32;
constexpr int kNumKeyValueHeads = 4;
constexpr int kGroupSize = kNumHeads / kNumKeyValueHeads;
constexpr int kQuerySize = kNumHeads * kHeadDim;
constexpr int kKeyValueSize = kNumKeyValueHeads * kHeadDim;
constexpr int kNumExperts = 128;
constexpr int kRanks = 8;  // num_experts_per_tok
constexpr int kInner = 768;
// Super-blocks of a row of q_proj, o_proj, down_proj.
constexpr int kHiddenBlocks = kHidden / 256;
constexpr int kQueryBlocks = kQuerySize / 256;
constexpr int kInnerBlocks = kInner / 256;

// How it is shared out.
constexpr int kQkvGroups = 5;
constexpr int kValueGroups = 4;  // Of v_proj, whose type may take longer.
// The first blocks of k_proj and v_proj, and those of all three.
constexpr int kKeyBlock = (kQuerySize / 8 + kQkvGroups - 1) / kQkvGroups;
constexpr int kValueBlock = kKeyBlock + (kKeyValueSize / 8 + kQkvGroups - 1) / kQkvGroups;
constexpr int kQkvBlocks = kValueBlock + (kKeyValueSize / 8 + kValueGroups - 1) / kValueGroups;
// A pair of tiles of rows of hidden, whose block has those of o_proj and down.
constexpr int kRowGroups = 2;
constexpr int kRowsEach = 8 * kRowGroups;
constexpr int kWorkers = kHidden / kRowsEach;  // Blocks that have rows of hidden and units.
static_assert(kWorkers == kNumExperts);        // A row of the router each.
constexpr int kUnitGroups = 4;  // A unit of gate_up: 32 rows of one expert's gate_proj and up_proj.
constexpr int kHalfGroups = 2;  // Half of one, a pair of tiles.
constexpr int kPairUnits = 3;   // Of two blocks: one each, and half of the third.
constexpr int kUnitsEach = kInner / 32;
constexpr int kNumUnits = kRanks * kUnitsEach;
static_assert(2 * kNumUnits == kPairUnits * kWorkers);
// From the sums of a row's super-blocks to those of the next row, in floats: a multiple of 16 bytes
// that puts eight rows in different banks.
constexpr int sum_stride(int super_blocks) { return (super_blocks + 3) / 4 * 4 + 4; }
constexpr int kHiddenStride = sum_stride(kHiddenBlocks);
constexpr int kQueryStride = sum_stride(kQueryBlocks);
constexpr int kInnerStride = sum_stride(kRanks * kInnerBlocks);
static_assert(kHiddenStride % 8 == 4 && kQueryStride % 8 == 4 && kInnerStride % 8 == 4);
constexpr int kUnitRows = 8 * kUnitGroups;
constexpr int kHalfRows = 8 * kHalfGroups;
// Of half a unit and of a unit, gate_proj and up_proj.
constexpr int kSums = 2 * (kHalfRows + kUnitRows) * kHiddenStride;
static_assert(kSums >= 8 * kQkvGroups * kHiddenStride && kSums >= kRowsEach * kQueryStride &&
              kSums >= kRowsEach * kInnerStride);
constexpr std::size_t kTileBytes = 195 * 1024;
// Of lm_head: a slot has 32 rows, two pairs of tiles; one is multiplied while two are on their way.
constexpr int kSlotGroups = 4;
constexpr int kSlotRows = 8 * kSlotGroups;
constexpr int kSlots = 3;
constexpr int kSlotSums = kSlotRows * kHiddenStride;
static_assert(kSlotRows == kWarp && kWarps == kSlotGroups / 2 * kHiddenBlocks);
static_assert(2 * kSlotSums <= kSums);
// Of embed_tokens: a quarter of a super-block a lane, four elements of it a warp.
constexpr int kQuarter = 64;
static_assert(kHidden == kWarp * kQuarter && kQuarter == 4 * kWarps);
constexpr int kMaxBlocks = 512;
// Tags begin anew behind so many layers, and none is 0, which words have that nobody wrote.
constexpr unsigned kTags = 0xffff0000u;

// Copies that are waited for, each once a layer.
enum Piece : int {
  kQkvPiece,
  kOutPiece,
  kRouterPiece,
  kHalfPiece,                   // Of gate_proj and of up_proj: the half unit,
  kUnitPiece = kHalfPiece + 2,  // and both halves of the unit.
  kUnitEndPiece = kUnitPiece + 2,
  kDownPiece = kUnitEndPiece + 2,
  kLayerPiece = kDownPiece + kRanks,
  kSlotPiece,  // Not once a layer, but for each slot's share of lm_head.
  kPieces = kSlotPiece + kSlots,
};

// Where weights are in shared memory, in bytes of PersistentShared::tiles, one after the other:
//   gate_up    the half unit, the unit, and behind them down
//   qkv        the next layer's in place of the units, o_proj behind it
//   attention  keys and values in place of down and of qkv
//   head       slots of lm_head from the beginning on, two of them in front of down
// The router's row has a place of its own.
struct Plan {
  unsigned unit;  // Behind half a unit.
  unsigned down;
  unsigned out;
  unsigned router;
  unsigned slot;  // Bytes of one.
};

// What blocks hand to each other, in words (exchange.cuh).
struct Exchange {
  Word* last_tag;        // Of the launch before; itself without a tag.
  Word* hidden;          // [hidden_size], behind a layer,
  Word* attended;        // and behind its attention.
  Word* qkv[3];          // [query_size], [key_value_size] twice.
  QuantizedWords heads;  // [query_size]
  Word* logits;          // [num_experts]
  Word* halves;          // [pairs of blocks, 16]: the second half of their third unit.
  QuantizedWords inner;  // [num_experts_per_tok, moe_intermediate_size]
  Word* values;          // [heads, max_chunks, head_dim]: Y_j of kernels/attention.h,
  Word* terms;           // [heads, max_chunks, 2]: m_j and l_j.
  Word* likeliest;       // [2, blocks, 2]: ArgmaxPartial, of every other token.
  int max_chunks;
};

// What is before the layers and behind them.
struct Ends {
  MatrixArgument embed_tokens;
  TensorType embed_type = TensorType::kQ4_K;
  const float* norm = nullptr;
  PersistentMatrix lm_head;  // No data: hidden is what comes of it.
  int groups = 0;            // Of lm_head.
  float* logits = nullptr;   // [vocab_size]
  std::int32_t* chosen = nullptr;
};

struct PersistentArguments {
  const PersistentLayer* layers;
  int num_layers;
  Exchange exchange;
  Plan plan;
  bool norm_topk_prob;
  float epsilon;
  float scale;
  const float* cosines;  // [positions, head_dim / 2]
  const float* sines;
  DecodeState* state;
  float* hidden;  // Before the first layer; behind the last where there is no lm_head.
  Ends ends;
  int num_tokens;
};

// Quantized activations in shared memory.
struct QuantizedRows {
  alignas(16) std::int8_t q[32 * kNumUnits];
  alignas(16) ActivationMeta meta[kNumUnits];

  // Pair `pair` of those that QuantizedWords hands on.
  __device__ void store(int pair, const TwoWords& words) {
    const int block = pair / QuantizedWords::kPairs;
    const int part = pair % QuantizedWords::kPairs;
    uint2* const to =
        part == QuantizedWords::kPairs - 1
            ? reinterpret_cast<uint2*>(meta + block)
            : reinterpret_cast<uint2*>(q) + (QuantizedWords::kPairs - 1) * block + part;
    *to = {bits_of(words.first), bits_of(words.second)};
  }
};

// What is merged of a head's chunks, so many at once.
constexpr int kMergeAtOnce = 64;
struct MergedChunks {
  float values[kMergeAtOnce][32];
  alignas(16) float4 terms[kMergeAtOnce];  // How the ones before and this one are scaled, and l_j.
};

struct PersistentShared {
  alignas(128) std::uint8_t tiles[kTileBytes];
  union {
    FourHeads heads;
    alignas(16) float x[kHidden];
    MergedChunks chunks;
  };
  QuantizedRows activations;              // Of the products.
  float entered[kRowsEach];               // This block's rows of hidden before a layer,
  float attended[kRowsEach];              // and behind its attention.
  alignas(16) PersistentLayer layers[2];  // This one and the next.
  std::uint64_t barriers[kPieces];
  alignas(16) float q_norm[2][kHeadDim];  // Of this layer and the next.
  alignas(16) float k_norm[2][kHeadDim];
  float cosines[kHeadDim / 2];  // Of the position.
  float sines[kHeadDim / 2];
  alignas(16) float sums[kSums];
  float lanes[kLanes];
  float logits[kNumExperts];
  alignas(16) unsigned bits[kNumExperts];
  std::int32_t ids[kRanks];
  ArgmaxPartial likeliest[kWarps];
  std::int32_t slots[kSlots + 1];  // Of lm_head: the n-th one of this block at n % (kSlots + 1).
  unsigned slot_parities;       // Of their copies in the next token, a bit a slot of shared memory.
  std::int32_t first_position;  // Of this launch,
  std::int32_t first_step;      // and DecodeState::step in front of it.
  alignas(16) float shares[kRanks];
};

static_assert(sizeof(PersistentShared) <= 227 * 1024);  // Of compute capability 9.0.

__device__ inline PersistentShared& shared_memory() {
  return *reinterpret_cast<PersistentShared*>(dynamic_shared());
}

// Copies to shared memory, by instructions that compute capability 9.0 brought: on older devices,
// where can_persist keeps this kernel from running, it is compiled without them. Every copy is
// started by a thread of its own, because one thread that starts them all takes microseconds.
class Copies {
 public:
  __device__ Copies(std::uint64_t* barriers) : barriers_(barriers) {}

  // One thread. arrivals: copies that make the piece.
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
        "{\n"
        ".reg .b64 once;\n"
        "createpolicy.fractional.L2::evict_first.b64 once, 1.0;\n"
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint "
        "[%0], [%1], %2, [%3], once;\n"
        "}\n" ::"r"(shared_address(to)),
        "l"(from), "r"(bytes), "r"(shared_address(barriers_ + piece))
        : "memory");
#endif
  }
  // `count` row groups from group `first` on.
  __device__ void start_groups(int piece, std::uint8_t* to, const PersistentMatrix& matrix,
                               std::size_t expert, int first, int count) const {
    start(piece, to,
          matrix.data + expert * matrix.expert_stride +
              static_cast<std::size_t>(first) * matrix.group_bytes,
          static_cast<unsigned>(count) * matrix.group_bytes);
  }
  // All threads that read the piece.
  __device__ void wait(int piece, unsigned parity) const {
    wait_for_barrier(shared_address(barriers_ + piece), parity);
  }

 private:
  std::uint64_t* barriers_;
};

// Two tiles that a warp multiplies with a super-block of the activations.
struct Pair {
  unsigned tile;    // Where in PersistentShared::tiles, in bytes,
  unsigned stride;  // and how far behind it the second one is.
  int s;
  int sum;         // Where in PersistentShared::sums the first row's S[s] is to be,
  int sum_stride;  // and how far behind it the next row's.
  bool has_second = true;
};
template <TensorType kType>
__device__ inline RowPair dots_of(const Pair& pair) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const PersistentShared& shared = shared_memory();
  const std::uint8_t* const tile = shared.tiles + pair.tile;
  Fragment<kType> first;
  Fragment<kType> second;
  first.template load<FromShared>(tile, lane);
  second.template load<FromShared>(tile + pair.stride, lane);
  TokenLane x;
  x.load(shared.activations.q, shared.activations.meta, pair.s, lane);
  return pair_dots<kType>(first, second, x, lane);
}
// S[s] of the 8 rows of each tile, to their sums.
__device__ inline void multiply(TensorType type, const Pair& pair) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const RowPair u = type == TensorType::kQ4_K ? dots_of<TensorType::kQ4_K>(pair)
                                              : dots_of<TensorType::kQ6_K>(pair);
  const float first = super_block_sum(u.first);
  const float second = super_block_sum(u.second);
  if (lane % 4 != 0) return;
  float* const to = shared_memory().sums + pair.sum + pair.sum_stride * (lane / 4);
  to[0] = first;
  if (pair.has_second) to[8 * pair.sum_stride] = second;
}

// ((0 + S[0]) + S[1]) + ... of a row, from its sums, which begin at a multiple of 16 bytes.
template <int kSuperBlocks>
__device__ inline float row_sum(int at) {
  const float* const sums = shared_memory().sums + at;
  float y = 0.0f;
#pragma unroll
  for (int s = 0; s < kSuperBlocks; s += 4) {
    const float4 of = *reinterpret_cast<const float4*>(sums + s);
    y = __fadd_rn(__fadd_rn(__fadd_rn(__fadd_rn(y, of.x), of.y), of.z), of.w);
  }
  return y;
}
// silu(gate) * up of row `lane` of both, from the sums of their rows.
__device__ inline float swiglu_of(int gate, int up, int lane) {
  return swiglu_device(row_sum<kHiddenBlocks>(gate + kHiddenStride * lane),
                       row_sum<kHiddenBlocks>(up + kHiddenStride * lane));
}

// This thread's four elements of the norm of x, of which it has four; shared.x is x.
__device__ inline float4 norm(float4 x, float4 gain, float epsilon) {
  PersistentShared& shared = shared_memory();
  const int i = static_cast<int>(threadIdx.x);
  reinterpret_cast<float4*>(shared.x)[i] = x;
  __syncthreads();
  if (i < kLanes) {
    float sum = 0.0f;
#pragma unroll
    for (int j = 0; j < kHidden / kLanes; ++j) {
      const float of = shared.x[i + kLanes * j];
      sum = __fmaf_rn(of, of, sum);
    }
    shared.lanes[i] = sum;
  }
  __syncthreads();
  const float scale = rms_scale(halving_tree(shared.lanes), kHidden, epsilon);
  return {__fmul_rn(__fmul_rn(x.x, scale), gain.x), __fmul_rn(__fmul_rn(x.y, scale), gain.y),
          __fmul_rn(__fmul_rn(x.z, scale), gain.z), __fmul_rn(__fmul_rn(x.w, scale), gain.w)};
}

// shared.activations from all threads' four elements.
__device__ inline void quantize_row(float4 of) {
  QuantizedRows& to = shared_memory().activations;
  const int i = static_cast<int>(threadIdx.x);
  const float y[4] = {of.x, of.y, of.z, of.w};
  reinterpret_cast<int*>(to.q)[i] = quantize_quad(y, to.meta + i / 8);
}

// Partial results of one head's chunks on their way to whoever merges them.
struct TaggedPartials {
  const Exchange& exchange;
  int head;
  unsigned tag;

  __device__ std::size_t place(int chunk) const {
    return static_cast<std::size_t>(head * exchange.max_chunks + chunk);
  }
  __device__ void store(int chunk, int column, float y, const ChunkTerms& of) const {
    put(exchange.values + place(chunk) * kHeadDim + column, tagged(y, tag));
    if (column == 0)
      put_two(exchange.terms + 2 * place(chunk), tagged(of.max, tag), tagged(of.sum, tag));
  }
  __device__ float value(int chunk, int column) const {
    return float_of(take(exchange.values + place(chunk) * kHeadDim + column, tag));
  }
  // m_j and l_j
  __device__ float2 terms_of(int chunk) const {
    TwoWords words[1];
    take_pairs(exchange.terms + 2 * place(chunk), 0, 1, tag, words);
    return {float_of(words[0].first), float_of(words[0].second)};
  }
};

// What a block does of attention at a time.
struct Item {
  int first_head;
  int kv_head;
  int chunk;
};

// One block of the kernel.
class Block {
 public:
  __device__ Block(const PersistentArguments& arguments, PersistentShared& block_shared)
      : a(arguments),
        shared(block_shared),
        copies(block_shared.barriers),
        position(arguments.state->position),
        tag(static_cast<unsigned>(*arguments.exchange.last_tag) | 1u) {}

  __device__ void run() {
    if (i < kPieces) {
      copies.init(i, i == kLayerPiece ? 3u : 1u);
#if __CUDA_ARCH__ >= 900
      asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
#endif
    }
    if (i == 0) {
      shared.first_position = position;
      shared.first_step = a.state->step;
      shared.slot_parities = 0;
    }
    __syncthreads();
    start_layer(0, 0);
    load_angles(position);
    wait_for_layer(0);
    start_qkv(0);
    start_router(0);
    do {
      if (tag >= kTags) tag &= 1u;
      for (layer = 0; layer < a.num_layers; ++layer) {
        ++tag;
        compute_anew();
        qkv();
        compute_anew();
        attention();
        compute_anew();
        out();
        compute_anew();
        router();
        compute_anew();
        experts();
      }
      compute_anew();
    } while (has_head() && head());
    // All blocks have read it: down has waited for every unit.
    if (block == 0 && i == 0) *a.exchange.last_tag = tag;
  }

 private:
  // What follows from these is the same in all layers: the compiler would compute it once, keep it
  // in local memory, for which the first-level cache has little room beside shared memory, and read
  // it where all others wait for it.
  __device__ void compute_anew() {
    asm volatile("" : "+r"(i), "+r"(warp), "+r"(lane), "+r"(block));
  }

  // Of the layers in front of this one in this launch: its first one has an even tag.
  __device__ unsigned parity() const { return tag & 1u; }
  // Of this layer; of one of that parity.
  __device__ const PersistentLayer& weights() const { return weights(parity()); }
  __device__ const PersistentLayer& weights(unsigned of) const { return shared.layers[of]; }
  __device__ bool is_last_layer() const { return layer + 1 == a.num_layers; }
  // Whether another layer follows, of this token or the next one.
  __device__ bool has_next() const { return !is_last_layer() || number() + 1 < a.num_tokens; }
  // Of tokens in front of this one in this launch.
  __device__ int number() const { return position - shared.first_position; }
  __device__ bool has_head() const { return a.ends.lm_head.data != nullptr; }

  // By warps that have nothing else to do where the next position's are asked for.
  __device__ void load_angles(int of_position) const {
    const int c = i - kThreads / 2;
    if (c >= 0 && c < kHeadDim / 2) {
      const std::size_t row = static_cast<std::size_t>(of_position) * (kHeadDim / 2);
      shared.cosines[c] = a.cosines[row + static_cast<std::size_t>(c)];
      shared.sines[c] = a.sines[row + static_cast<std::size_t>(c)];
    }
  }

  // What a layer is, and the gains of its heads; `of`: its parity, here and below. The three copies
  // are of one piece.
  __device__ void start_layer(int index, unsigned of) const {
    static_assert(sizeof(PersistentLayer) % 16 == 0);
    PersistentLayer* const to = shared.layers + of;
    const PersistentLayer* const from = a.layers + index;
    constexpr unsigned kGains = kHeadDim * sizeof(float);
    // Warps that have little else to do.
    if (i == 8 * kWarp) {
      copies.start(kLayerPiece, reinterpret_cast<std::uint8_t*>(to), from, sizeof(*to));
    }
    if (i == 9 * kWarp || i == 10 * kWarp) {
      const bool is_key = i == 10 * kWarp;
      const float* const gains = is_key ? from->k_norm : from->q_norm;
      float* const at = is_key ? shared.k_norm[of] : shared.q_norm[of];
      copies.start(kLayerPiece, reinterpret_cast<std::uint8_t*>(at), gains, kGains);
    }
  }

  // A block without rows has no barrier until its next wait: no warp of it may start what another
  // has not seen the end of.
  __device__ void wait_for_layer(unsigned of) const {
    copies.wait(kLayerPiece, of);
    if (qkv_count() == 0 && !is_worker()) __syncthreads();
  }

  // q_proj, k_proj or v_proj: which, and this block's groups of it.
  __device__ int qkv_matrix() const {
    return block >= kValueBlock ? 2 : block >= kKeyBlock ? 1 : 0;
  }
  __device__ int first_block() const {
    const int which = qkv_matrix();
    return which == 0 ? 0 : which == 1 ? kKeyBlock : kValueBlock;
  }
  __device__ int qkv_each() const { return qkv_matrix() == 2 ? kValueGroups : kQkvGroups; }
  __device__ int qkv_first() const { return (block - first_block()) * qkv_each(); }
  __device__ int qkv_count() const {
    const int groups = (qkv_matrix() == 0 ? kQuerySize : kKeyValueSize) / 8;
    return max(0, min(qkv_each(), groups - qkv_first()));
  }

  __device__ std::uint8_t* qkv_tiles() const { return shared.tiles; }
  __device__ std::uint8_t* out_tiles() const { return shared.tiles + a.plan.out; }
  __device__ std::uint8_t* down_tiles() const { return shared.tiles + a.plan.down; }
  // Of every other item of attention.
  __device__ ChunkRows& chunk_rows(int n) const {
    return *reinterpret_cast<ChunkRows*>(n % 2 == 0 ? down_tiles() : qkv_tiles());
  }

  // Copies of another layer's weights, each by the first thread of a warp that has little else to
  // do: one thread that starts them all takes microseconds.
  __device__ bool starts(int of_warp) const { return i == of_warp * kWarp; }
  __device__ void start_qkv(unsigned of) const {
    if (!starts(kWarps - 1) || qkv_count() == 0) return;
    copies.start_groups(kQkvPiece, qkv_tiles(), weights(of).qkv[qkv_matrix()], 0, qkv_first(),
                        qkv_count());
  }
  __device__ void start_out(unsigned of) const {
    if (!starts(kWarps - 2) || !is_worker()) return;
    copies.start_groups(kOutPiece, out_tiles(), weights(of).o_proj, 0, kRowGroups * block,
                        kRowGroups);
  }
  __device__ void start_router(unsigned of) const {
    if (!starts(kWarps - 1) || !is_worker()) return;
    copies.start(kRouterPiece, shared.tiles + a.plan.router,
                 weights(of).router + static_cast<std::size_t>(block) * kHidden,
                 kHidden * sizeof(float));
  }

  __device__ float4 gain_of(const float* weight) const {
    return __ldg(reinterpret_cast<const float4*>(weight) + i);
  }

  __device__ void qkv() {
    start_item(0);
    if (qkv_count() == 0 && !is_worker()) return;
    const float4 gain = gain_of(weights().input_layernorm);
    const float4 x = layer > 0      ? take_four(a.exchange.hidden, tag - 1)
                     : number() > 0 ? reinterpret_cast<const float4*>(shared.x)[i]
                                    : reinterpret_cast<const float4*>(a.hidden)[i];
    // Copies delay what blocks hand to each other: these are there before q, k and v are put.
    start_out(parity());
    keep_own(x, shared.entered);
    quantize_row(norm(x, gain, a.epsilon));
    __syncthreads();
    if (qkv_count() == 0) return;
    const int which = qkv_matrix();
    const PersistentMatrix& matrix = weights().qkv[which];
    const int s = warp % kHiddenBlocks;
    // Half of the warps for the first groups, half for the others.
    const int half = (qkv_each() + 1) / 2;
    const int begin = warp < kHiddenBlocks ? 0 : half;
    copies.wait(kQkvPiece, parity());
    const int end = begin + min(half, qkv_count() - begin);
#pragma unroll 1
    for (int g = begin; g < end; g += 2) {
      // A tile past the end is the first one once more: no branch between the loads.
      const bool has_second = g + 1 < end;
      multiply(matrix.type, {g * matrix.group_bytes + s * matrix.tile_bytes,
                             has_second ? matrix.group_bytes : 0u, s, 8 * g * kHiddenStride + s,
                             kHiddenStride, has_second});
    }
    __syncthreads();
    if (i < 8 * qkv_count()) {
      put(a.exchange.qkv[which] + 8 * qkv_first() + i,
          tagged(row_sum<kHiddenBlocks>(kHiddenStride * i), tag));
    }
  }

  // Where element `row` is of what take_four reads: what a warp reads at once lies side by side,
  // and of no 32 bytes only half.
  __device__ static int place_of(int row) {
    const int thread = row / 4;
    return thread / kWarp * 4 * kWarp + row % 4 / 2 * 2 * kWarp + thread % kWarp * 2 + row % 2;
  }
  // This thread's four elements of a row of hidden.
  __device__ float4 take_four(const Word* row, unsigned of_tag) const {
    TwoWords words[2];
    take_pairs(row + 4 * kWarp * warp + 2 * lane, 2 * kWarp, 2, of_tag, words);
    return {float_of(words[0].first), float_of(words[0].second), float_of(words[1].first),
            float_of(words[1].second)};
  }
  // From this thread's four elements of hidden, those that are the block's own.
  __device__ void keep_own(const float4& x, float* own) const {
    const int first = 4 * i - kRowsEach * block;
    if (first >= 0 && first < kRowsEach) *reinterpret_cast<float4*>(own + first) = x;
  }

  __device__ int num_chunks() const { return position / kAttentionChunk + 1; }
  // Of attention: a chunk of one head where every head and chunk can have a block, else of four.
  __device__ int heads_each() const {
    return kNumHeads * num_chunks() <= static_cast<int>(gridDim.x) ? 1 : kFastHeads;
  }
  __device__ int num_items() const { return kNumHeads / heads_each() * num_chunks(); }
  __device__ Item item_of(int n) const {
    const int each = heads_each();
    // Without a division by what is known at run time alone.
    const int first_head = each == 1 ? n % kNumHeads : n % (kNumHeads / kFastHeads) * kFastHeads;
    const int chunk = each == 1 ? n / kNumHeads : n / (kNumHeads / kFastHeads);
    return {first_head, first_head / kGroupSize, chunk};
  }
  __device__ HeadCache cache_of(const Item& item) const {
    const int kv_head = item.kv_head;
    const auto offset = static_cast<std::size_t>(kv_head * kHeadDim);
    return {weights().k_cache + offset,
            weights().v_cache + offset,
            nullptr,
            nullptr,
            static_cast<std::size_t>(kKeyValueSize),
            position + 1,
            position};
  }
  // The n-th item of this block, where there is one: whether there is.
  __device__ bool start_item(int n) const {
    const int at = block + n * static_cast<int>(gridDim.x);
    if (at >= num_items()) return false;
    const Item item = item_of(at);
    copy_chunk(cache_of(item), item.chunk, chunk_rows(n));
    __pipeline_commit();
    return true;
  }

  __device__ void attention() {
    if (has_next()) start_layer(is_last_layer() ? 0 : layer + 1, parity() ^ 1u);
    const int each = static_cast<int>(gridDim.x);
    bool has_more = start_item(1);
#pragma unroll 1
    for (int n = 0; block + n * each < num_items(); ++n) {
      attend(item_of(block + n * each), chunk_rows(n), has_more);
      has_more = start_item(n + 2);
    }
    // The copies that come next write where these threads wrote.
#if __CUDA_ARCH__ >= 900
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
    __syncthreads();
    if (has_next()) wait_for_layer(parity() ^ 1u);
    if (num_chunks() == 1) return;
#pragma unroll 1
    for (int b = block; b < kQuerySize / 32; b += each) merge(b);
  }

  // The results of all chunks for block b of 32 columns: all warps read, the first one merges.
  __device__ void merge(int b) {
    MergedChunks& of = shared.chunks;
    const int head = 32 * b / kHeadDim;
    const TaggedPartials partials{a.exchange, head, tag};
    float y = 0.0f;
    float sum = 0.0f;
    float max = kLowestScore;
#pragma unroll 1
    for (int first = 0; first < num_chunks(); first += kMergeAtOnce) {
      const int count = min(kMergeAtOnce, num_chunks() - first);
      if (warp == 0) {
        max = merge_scales(partials, first, count, max, of);
      } else {
#pragma unroll 1
        for (int c = warp - 1; c < count; c += kWarps - 1) {
          of.values[c][lane] = partials.value(first + c, 32 * b % kHeadDim + lane);
        }
      }
      __syncthreads();
      if (warp == 0) {
#pragma unroll 4
        for (int c = 0; c < count; ++c) {
          const float4 terms = of.terms[c];
          y = __fmaf_rn(y, terms.x, __fmul_rn(of.values[c][lane], terms.y));
          sum = __fmaf_rn(sum, terms.x, __fmul_rn(terms.z, terms.y));
          if (first + c == 0) {
            y = of.values[0][lane];
            sum = terms.z;
          }
        }
      }
      __syncthreads();
    }
    if (warp == 0) a.exchange.heads.put_block(b, __fdiv_rn(y, sum), tag);
  }
  // of.terms of `count` chunks, by a full warp; max: the largest score of the chunks before.
  // Returns that of these, too.
  __device__ float merge_scales(const TaggedPartials& partials, int first, int count, float max,
                                MergedChunks& of) const {
#pragma unroll 1
    for (int begin = 0; begin < count; begin += kWarp) {
      const int c = begin + lane;
      const float2 mine = c < count ? partials.terms_of(first + c) : float2{kLowestScore, 0.0f};
      const MergeScales scales = merge_scales_of(mine.x, max);
      if (c < count) of.terms[c] = {scales.merged, scales.next, mine.y, 0.0f};
    }
    return max;
  }

  // has_more: the copies of the next item are under way, too.
  __device__ void attend(const Item& item, ChunkRows& rows, bool has_more) {
    FourHeads& work = shared.heads;
    const int heads = heads_each();
    const int first_head = item.first_head;
    const int chunk = item.chunk;
    const int kv_head = item.kv_head;
    const bool has_new = chunk == num_chunks() - 1;
    const int count = min(kAttentionChunk, position + 1 - kAttentionChunk * chunk);
    // A row a warp: queries, the new key and the new value.
    const int which = warp < kFastHeads ? 0 : warp - kFastHeads + 1;
    if (which == 0 ? warp < heads : has_new && which <= 2) {
      static_assert(offsetof(FourHeads, new_k) == kFastHeads * kHeadDim * sizeof(float));
      static_assert(offsetof(FourHeads, new_v) == (kFastHeads + 1) * kHeadDim * sizeof(float));
      float* const row = work.q[0] + kHeadDim * warp;
      const Word* const words =
          a.exchange.qkv[which] + (which == 0 ? first_head + warp : kv_head) * kHeadDim;
      const float* const gains = which == 0 ? shared.q_norm[parity()] : shared.k_norm[parity()];
      take_head(words, which < 2, gains, row);
      if (which > 0) store_new(rows, row, kv_head, first_head % kGroupSize == 0, which == 2);
    }
    __pipeline_wait_prior(has_more ? 1 : 0);
    __syncthreads();
    if (heads == 1) {
      one_head_chunk(work, rows, count, a.scale);
    } else {
      four_head_chunk(work, rows, count, a.scale);
    }
    const int head = i / kHeadDim;
    const int column = i % kHeadDim;
    if (head < heads) {
      const float y = chunk_result(work, count, head, column);
      const ChunkTerms of = work.chunk[head];
      if (num_chunks() == 1) {
        a.exchange.heads.put_block(((first_head + head) * kHeadDim + column) / 32,
                                   __fdiv_rn(y, of.sum), tag);
      } else {
        TaggedPartials{a.exchange, first_head + head, tag}.store(chunk, column, y, of);
      }
    }
    __syncthreads();  // Before the next item's rows and terms.
  }
  // A head, to `row`, by a warp; `turned`: behind its norm and rope. A thread has the columns
  // lane + 32 j, as the halving tree of the norm and the halves of rope need them.
  __device__ void take_head(const Word* words, bool turned, const float* gains, float* row) const {
    float x[4];
    bool all;
    do {
      all = true;
      Word of[4];
#pragma unroll
      for (int j = 0; j < 4; ++j) of[j] = read_word(words + lane + kWarp * j);
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        x[j] = float_of(of[j]);
        all = all && tag_of(of[j]) == tag;
      }
    } while (!all);
    if (turned) {
      float squares[4];
#pragma unroll
      for (int j = 0; j < 4; ++j) squares[j] = __fmaf_rn(x[j], x[j], 0.0f);
      const float scale = rms_scale(halving_tree(squares[0], squares[1], squares[2], squares[3]),
                                    kHeadDim, a.epsilon);
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        x[j] = __fmul_rn(__fmul_rn(x[j], scale), gains[lane + kWarp * j]);
      }
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        const int c = lane + kWarp * j;
        const float2 pair = rotate(x[j], x[j + 2], shared.cosines[c], shared.sines[c]);
        x[j] = pair.x;
        x[j + 2] = pair.y;
      }
    }
#pragma unroll
    for (int j = 0; j < 4; ++j) row[lane + kWarp * j] = x[j];
    __syncwarp();
  }
  // The new key or value of a warp, as float16: to the rows of the chunk, and to the cache.
  __device__ void store_new(ChunkRows& rows, const float* row, int kv_head, bool to_cache,
                            bool is_value) const {
    const int r = position % kAttentionChunk;
    std::uint16_t* const near = is_value ? rows.v + r * kHeadDim : rows.k + r * kKeyStride;
    std::uint16_t* const cache = (is_value ? weights().v_cache : weights().k_cache) +
                                 static_cast<std::size_t>(position) * kKeyValueSize +
                                 static_cast<std::size_t>(kv_head * kHeadDim);
#pragma unroll 1
    for (int c = lane; c < kHeadDim; c += kWarp) {
      const std::uint16_t half = half_bits(row[c]);
      near[c] = half;
      if (to_cache) store_cached(half, a.state, cache + c);
    }
  }

  __device__ void out() {
    if (!is_worker()) return;
    const PersistentMatrix& matrix = weights().o_proj;
    static_assert(kQueryBlocks == kWarps);
    copies.wait(kOutPiece, parity());
    take_heads(warp);
    multiply(matrix.type,
             {a.plan.out + warp * matrix.tile_bytes, matrix.group_bytes, warp, warp, kQueryStride});
    __syncthreads();
    if (i < kRowsEach) {
      const float y = __fadd_rn(shared.entered[i], row_sum<kQueryBlocks>(kQueryStride * i));
      put(a.exchange.attended + place_of(kRowsEach * block + i), tagged(y, tag));
    }
    __syncthreads();  // What others ask for next would be in front of that.
  }
  // Super-block s of what attention gave, by a warp: eight blocks of two heads.
  __device__ void take_heads(int s) const {
    constexpr int kPairs = 8 * QuantizedWords::kPairs;
    take_quantized<kWarp, kPairs>(a.exchange.heads, kPairs * s, lane);
    __syncwarp();
  }
  // kPairs pairs of words from `first` on to shared.activations, by kTakers threads, of which this
  // one is number n: one or two each.
  template <int kTakers, int kPairs>
  __device__ void take_quantized(const QuantizedWords& from, int first, int n) const {
    static_assert(kTakers <= kPairs && kPairs <= 2 * kTakers);
    const int count = kTakers + n < kPairs ? 2 : 1;
    TwoWords words[2];
    take_pairs(from.pair(first + n), 2 * kTakers, count, tag, words);
    shared.activations.store(first + n, words[0]);
    if (count == 2) shared.activations.store(first + n + kTakers, words[1]);
  }

  __device__ void router() {
    if (!is_worker()) return;
    const float4 gain = gain_of(weights().post_attention_layernorm);
    const float4 x = take_four(a.exchange.attended, tag);
    keep_own(x, shared.attended);
    const float4 y = norm(x, gain, a.epsilon);
    reinterpret_cast<float4*>(shared.x)[i] = y;
    __syncthreads();
    if (i < kLanes) {
      copies.wait(kRouterPiece, parity());
      const auto* const row = reinterpret_cast<const float*>(shared.tiles + a.plan.router);
      float sum = 0.0f;
#pragma unroll 8
      for (int c = i; c < kHidden; c += kLanes) sum = __fmaf_rn(row[c], shared.x[c], sum);
      shared.lanes[i] = sum;
    }
    __syncthreads();
    if (warp == 0) {
      const float logit = halving_tree(shared.lanes);
      if (lane == 0) put(a.exchange.logits + block, tagged(logit, tag));
    }
    quantize_row(y);
    if (has_next()) start_router(parity() ^ 1u);
  }

  __device__ bool is_worker() const { return block < kWorkers; }
  // Units of gate_up: this block's own, and the one it shares with its neighbour, whose first half
  // the even block has.
  __device__ int own_unit() const { return kPairUnits * (block / 2) + block % 2; }
  __device__ int third_unit() const { return kPairUnits * (block / 2) + 2; }

  // gate_proj (m = 0) and up_proj of some parts: the half unit, the unit's first half, its second.
  enum Part : int { kHalfUnit, kUnitBegin, kUnitRest, kParts };
  __device__ void start_units(int first_part, int end_part) const {
    static_assert(kUnitGroups == 2 * kHalfGroups);
    const int part = warp / 2;
    const int m = warp % 2;
    if (lane != 0 || part < first_part || part >= end_part) return;
    const bool is_half = part == kHalfUnit;
    const int unit = is_half ? third_unit() : own_unit();
    const PersistentMatrix& matrix = weights().gate_up[m];
    const int rest = part == kUnitRest ? kHalfGroups : 0;
    copies.start_groups(
        kHalfPiece + warp,
        shared.tiles + unit_tile(is_half, m) + static_cast<unsigned>(rest) * matrix.group_bytes,
        matrix, static_cast<std::size_t>(shared.ids[unit / kUnitsEach]),
        unit % kUnitsEach * kUnitGroups + (is_half ? block % 2 * kHalfGroups : rest), kHalfGroups);
  }
  // Offsets in shared.tiles.
  __device__ unsigned unit_tile(bool is_half, int m) const {
    const unsigned groups = is_half ? kHalfGroups : kUnitGroups;
    return (is_half ? 0 : a.plan.unit) +
           static_cast<unsigned>(m) * groups * weights().gate_up[0].group_bytes;
  }
  __device__ unsigned down_tile(int rank) const {
    return a.plan.down + static_cast<unsigned>(rank * kRowGroups) * weights().down_proj.group_bytes;
  }
  // When halves of the unit are there, so that device memory sends the units of all blocks first.
  __device__ void start_down(int first_rank, int end_rank) const {
    const int rank = warp - kRanks;
    if (lane != 0 || rank < first_rank || rank >= end_rank) return;
    const PersistentMatrix& matrix = weights().down_proj;
    copies.start_groups(kDownPiece + rank, shared.tiles + down_tile(rank), matrix,
                        static_cast<std::size_t>(shared.ids[rank]), kRowGroups * block, kRowGroups);
  }

  // shared.ids and shared.logits, as find_rank for all ranks at once. Barriers inside and behind.
  __device__ void choose() {
    if (i < kNumExperts) {
      const float logit = float_of(take(a.exchange.logits + i, tag));
      shared.logits[i] = logit;
      shared.bits[i] = ordered_bits(logit);
    }
    __syncthreads();
    const int before = count_before(shared.bits);
    const int e = i / 4;
    if (i % 4 == 0 && before < kRanks) shared.ids[before] = e;
    __syncthreads();
  }

  // Products of the experts, by one piece of code, so that only its first run waits for
  // instructions: a rehearsal, with down's type, while weights are on their way.
  enum Step : int { kRehearsal, kHalf, kUnit, kUnitEnd, kDown, kDownEnd, kSteps };
  // The super-block of all ranks' inner activations that this warp multiplies with down, in the
  // order in which its weights come.
  __device__ int down_product(int step) const { return warp + kWarps * (step - kDown); }
  // What this warp does in a step.
  __device__ Pair pair_of(int step) const {
    const PersistentMatrix& matrix =
        step < kDown ? weights().gate_up[warp / kHiddenBlocks] : weights().down_proj;
    if (step >= kDown) {
      const int n = down_product(step);
      return {down_tile(n / kInnerBlocks) + n % kInnerBlocks * matrix.tile_bytes,
              matrix.group_bytes, n, n, kInnerStride};
    }
    static_assert(kWarps == 2 * kHiddenBlocks);
    const int s = warp % kHiddenBlocks;
    const int m = warp / kHiddenBlocks;
    const int rows = step == kHalf      ? m * kHalfRows
                     : step == kUnitEnd ? 2 * kHalfRows + m * kUnitRows + kUnitRows / 2
                                        : 2 * kHalfRows + m * kUnitRows;
    const int sum = rows * kHiddenStride + s;
    if (step == kRehearsal) {  // Of what is there, to where the unit's sums will be.
      constexpr auto kThere =
          static_cast<unsigned>(offsetof(PersistentShared, x) - offsetof(PersistentShared, tiles));
      return {kThere, 0, s, sum, kHiddenStride};
    }
    const unsigned group = step == kUnitEnd ? kUnitGroups / 2 : 0;
    return {unit_tile(step == kHalf, m) + group * matrix.group_bytes + s * matrix.tile_bytes,
            matrix.group_bytes, s, sum, kHiddenStride};
  }
  static constexpr int kUnitSums = 2 * kHalfRows * kHiddenStride;  // Behind those of the half.

  // What is multiplied behind the experts, in place of their units.
  __device__ void start_next() const {
    if (!is_last_layer()) {
      start_qkv(parity() ^ 1u);
    } else if (has_head()) {
      if (starts(kWarps - 1)) start_slot(0, own_slot(0));
    }
  }

  __device__ void experts() {
    if (!is_worker()) {
      start_next();
      return;
    }
    choose();
    start_units(kHalfUnit, kUnitRest);
    if (warp == kWarps - 2) {
      routing_weights(shared.logits, kNumExperts, shared.ids, kRanks, a.norm_topk_prob,
                      shared.shares);
      const int bad = first_not_finite(shared.logits, kNumExperts);
      if (block == 0 && lane == 0 && bad < kNumExperts) {
        atomicMin(reinterpret_cast<unsigned long long*>(&a.state->router_error),
                  static_cast<unsigned long long>((static_cast<std::uint64_t>(layer) << 48) |
                                                  static_cast<unsigned>(bad)));
      }
    }
    const int m = warp / kHiddenBlocks;
    float half = 0.0f;
#pragma unroll 1
    for (int step = kRehearsal; step < kSteps; ++step) {
      if (step == kHalf) {
        copies.wait(kHalfPiece + m, parity());
        start_units(kUnitRest, kParts);
      }
      if (step == kUnit) {
        copies.wait(kUnitPiece + m, parity());
        start_down(0, kRanks / 2);
      }
      if (step == kUnitEnd) {
        copies.wait(kUnitEndPiece + m, parity());
        start_down(kRanks / 2, kRanks);
      }
      if (step == kDown) {
        hand_on_units(half);
        take_quantized<kThreads, QuantizedWords::kPairs * kNumUnits>(a.exchange.inner, 0, i);
        __syncthreads();
        start_next();
      }
      if (step >= kDown) {
        const int n = down_product(step);
        if (n >= kRanks * kInnerBlocks) break;
        copies.wait(kDownPiece + n / kInnerBlocks, parity());
      }
      const bool is_down = step == kRehearsal || step >= kDown;
      multiply(is_down ? weights().down_proj.type : weights().gate_up[m].type, pair_of(step));
      if (step == kHalf) {
        __syncthreads();
        half = hand_on_half();
      }
    }
    down_sums();
  }
  // This block's half of the third unit, a row a thread; the odd block hands it on.
  __device__ float hand_on_half() const {
    if (warp != 0 || lane >= kHalfRows) return 0.0f;
    const float half = swiglu_of(0, kHalfRows * kHiddenStride, lane);
    if (block % 2 != 0) {
      put(a.exchange.halves + kHalfRows * (block / 2) + lane, tagged(half, tag));
    }
    return half;
  }
  // half: hand_on_half's.
  __device__ void hand_on_units(float half) const {
    __syncthreads();
    if (warp == 1) {
      a.exchange.inner.put_block(
          own_unit(), swiglu_of(kUnitSums, kUnitSums + kUnitRows * kHiddenStride, lane), tag);
    }
    // The neighbour began with its half, too.
    if (warp != 0 || block % 2 != 0) return;
    const Word* const halves = a.exchange.halves + kHalfRows * (block / 2);
    const float y = lane >= kHalfRows ? float_of(take(halves + lane - kHalfRows, tag)) : half;
    a.exchange.inner.put_block(third_unit(), y, tag);
  }
  // Weighted sums and the residual, from the sums of all products of down.
  __device__ void down_sums() const {
    __syncthreads();
    if (i >= kRowsEach) return;
    const float* const sums = shared.sums + kInnerStride * i;
    float of[kRanks * kInnerBlocks];
#pragma unroll
    for (int n = 0; n < kRanks * kInnerBlocks; n += 4) {
      const float4 four = *reinterpret_cast<const float4*>(sums + n);
      of[n] = four.x, of[n + 1] = four.y, of[n + 2] = four.z, of[n + 3] = four.w;
    }
    float sum = 0.0f;
#pragma unroll
    for (int r = 0; r < kRanks; ++r) {
      float y = 0.0f;
#pragma unroll
      for (int n = 0; n < kInnerBlocks; ++n) y = __fadd_rn(y, of[r * kInnerBlocks + n]);
      sum = __fmaf_rn(shared.shares[r], y, sum);
    }
    const float y = __fadd_rn(shared.attended[i], sum);
    const int row = kRowsEach * block + i;
    if (!is_last_layer() || has_head()) {
      put(a.exchange.hidden + place_of(row), tagged(y, tag));
    } else {
      a.hidden[row] = y;
    }
  }

  // Slots of lm_head. A block has three of its own, and then whichever is next: device memory does
  // not send all blocks as much.
  __device__ int num_slots() const { return (a.ends.groups + kSlotGroups - 1) / kSlotGroups; }
  __device__ int own_slot(int n) const { return block + n * static_cast<int>(gridDim.x); }
  __device__ int groups_of(int slot) const {
    return min(kSlotGroups, a.ends.groups - kSlotGroups * slot);
  }
  // One thread; n: how many this block had before.
  __device__ void start_slot(int n, int slot) const {
    shared.slots[n % (kSlots + 1)] = slot;
    if (slot >= num_slots()) return;
    copies.start_groups(kSlotPiece + n % kSlots, shared.tiles + n % kSlots * a.plan.slot,
                        a.ends.lm_head, 0, kSlotGroups * slot, groups_of(slot));
  }
  // One thread: the next one of no block.
  __device__ int next_slot() const {
    return own_slot(kSlots) - block +
           static_cast<int>(atomicAdd(a.state->slots_taken + position % 2, 1u));
  }

  // The token is done: its logits, and the likeliest of them. Whether another one follows.
  __device__ bool head() {
    const float4 gain = gain_of(a.ends.norm);
    const float4 x = take_four(a.exchange.hidden, tag);
    int next = 0;  // Of the thread that starts them.
    if (starts(kWarps - 1)) {
      start_slot(1, own_slot(1));
      start_slot(2, own_slot(2));
      next = next_slot();
    }
    // Of the token before, with which all are done, and of the next one.
    if (block == 0 && i == 0) a.state->slots_taken[(position + 1) % 2] = 0;
    quantize_row(norm(x, gain, a.epsilon));
    __syncthreads();
    ArgmaxPartial best = no_argmax();  // Of what this thread has seen, in the first warp.
    int n = 0;
#pragma unroll 1
    for (;; ++n) {
      const int slot = shared.slots[n % (kSlots + 1)];
      if (slot >= num_slots()) break;
      const auto use = static_cast<unsigned>(n / kSlots);
      copies.wait(kSlotPiece + n % kSlots, (shared.slot_parities >> n % kSlots ^ use) & 1u);
      const int sums = n % 2 * kSlotSums;
      multiply_slot(n % kSlots, groups_of(slot), sums);
      __syncthreads();
      if (starts(kWarps - 1)) {
        start_slot(n + kSlots, next);
        next = next_slot();
      }
      if (warp == 0 && lane < 8 * groups_of(slot)) {
        const float logit = row_sum<kHiddenBlocks>(sums + kHiddenStride * lane);
        const int row = kSlotRows * slot + lane;
        a.ends.logits[row] = logit;
        best = better(best, argmax_of(logit, row));
      }
      // Now, while slots are on their way, because it takes a microsecond.
      if (n == 0 && i == 0) best = better(best, conclude());
    }
    if (n == 0 && i == 0) best = conclude();
    ++tag;
    if (warp == 0) put_likeliest(warp_best(best));
    const bool has_more = number() + 1 < a.num_tokens;
    if (has_more) load_angles(position + 1);
    if (i == 0) {
      for (int m = 0; m < kSlots; ++m) {
        const int uses = (n - m + kSlots - 1) / kSlots;
        shared.slot_parities ^= static_cast<unsigned>(uses & 1) << m;
      }
    }
    const int token = take_likeliest();
    if (block == 0 && i == 0) step(token);
    ++position;
    if (!has_more) return false;
    if (token < 0) {
      // Nothing may be on its way when the block ends.
      if (is_worker()) copies.wait(kRouterPiece, parity());
      return false;
    }
    embed(token);
    ++tag;  // So that the next layer's is the next parity.
    return true;
  }
  // Two tiles of the slot's four and one super-block a warp.
  __device__ void multiply_slot(int at, int groups, int sums) const {
    const PersistentMatrix& matrix = a.ends.lm_head;
    const int s = warp % kHiddenBlocks;
    const int group = warp / kHiddenBlocks * 2;
    if (group >= groups) return;
    // As in qkv.
    const bool has_second = group + 1 < groups;
    multiply(matrix.type, {static_cast<unsigned>(at) * a.plan.slot +
                               static_cast<unsigned>(group) * matrix.group_bytes +
                               static_cast<unsigned>(s) * matrix.tile_bytes,
                           has_second ? matrix.group_bytes : 0u, s,
                           sums + 8 * group * kHiddenStride + s, kHiddenStride, has_second});
  }
  // Thread 0. What this block has written to the cache is there for whoever takes what it puts
  // next. Not finite where something of the token was not.
  __device__ ArgmaxPartial conclude() const {
    const volatile DecodeState& state = *a.state;
    // The launch behind one that failed gives its slots out from where that one ended.
    const bool failed =
        state.failed != 0 || state.router_error != kNoError || state.cache_failed != 0;
    release();
    return failed ? ArgmaxPartial{0.0f, -1} : no_argmax();
  }
  __device__ Word* likeliest_of(int of_block) const {
    return a.exchange.likeliest + 2 * (position % 2 * kMaxBlocks + of_block);
  }
  __device__ void put_likeliest(const ArgmaxPartial& best) const {
    if (lane == 0) {
      put_two(likeliest_of(block), tagged(best.value, tag),
              tagged(static_cast<unsigned>(best.index), tag));
    }
    // Its embedding, should it be the likeliest of all.
    const MatrixArgument& rows = a.ends.embed_tokens;
    if (best.index >= 0 && best.index < rows.tiled_rows) {
      const std::size_t bytes = 8 * rows.row_bytes;
      const std::uint8_t* const group =
          rows.data + static_cast<std::size_t>(best.index / 8) * bytes;
      for (std::size_t at = 128 * static_cast<std::size_t>(lane); at < bytes; at += 128 * kWarp) {
        asm volatile("prefetch.global.L2 [%0];" ::"l"(group + at));
      }
    }
  }
  // Of all blocks; negative where something was not finite. Behind it, this block sees what all
  // have written to the cache.
  __device__ int take_likeliest() const {
    ArgmaxPartial best = no_argmax();
    if (i < static_cast<int>(gridDim.x)) {
      TwoWords words = acquire_two(likeliest_of(i));
      while (!words.has(tag)) words = acquire_two(likeliest_of(i));
      best = {float_of(words.first), static_cast<std::int32_t>(bits_of(words.second))};
    }
    return block_best<kWarps>(best, shared.likeliest, i).index;
  }
  // One thread of all.
  __device__ void step(int token) const {
    if (token < 0) {
      a.state->failed = 1;
      return;
    }
    const int steps = shared.first_step + number();
    a.ends.chosen[steps] = token;
    a.state->token = token;
    a.state->step = steps + 1;
    a.state->position = position + 1;
  }
  // The embedding of a token, to shared.x; every warp takes four elements of each quarter. Behind
  // its reads the next q_proj, k_proj and v_proj are asked for: before, they would have delayed
  // these, and what blocks hand to each other.
  __device__ void embed(int token) const {
    if (a.ends.embed_type == TensorType::kQ4_K) {
      embed_as<TensorType::kQ4_K>(token);
    } else {
      embed_as<TensorType::kQ6_K>(token);
    }
    __syncthreads();
  }
  template <TensorType kType>
  __device__ void embed_as(int token) const {
    const int p = lane % 4;
    const Fragment<kType> fragment =
        load_fragment<kType>(a.ends.embed_tokens, a.ends.embed_tokens.data, token, lane / 4, p);
    start_qkv(parity());
    const Unpacked<kType> weights(fragment, p);
    float4 y = {};
#pragma unroll
    for (int w = 0; w < kWarps; ++w) {
      if (w != warp) continue;
      const int b = w / (kWarps / 2);
      const int l = w % (kWarps / 2) * 4;
      y = {weights.element(b, l), weights.element(b, l + 1), weights.element(b, l + 2),
           weights.element(b, l + 3)};
    }
    reinterpret_cast<float4*>(shared.x)[lane * kWarps + warp] = y;
  }

  const PersistentArguments& a;
  PersistentShared& shared;
  const Copies copies;
  int i = static_cast<int>(threadIdx.x);
  int warp = static_cast<int>(threadIdx.x) / kWarp;
  int lane = static_cast<int>(threadIdx.x) % kWarp;
  int block = static_cast<int>(blockIdx.x);
  int position;
  int layer = 0;
  unsigned tag;  // Of what this layer writes.
};

__global__ void __launch_bounds__(kThreads, 1)
    persistent_kernel(__grid_constant__ const PersistentArguments a) {
  Block(a, shared_memory()).run();
}

PersistentMatrix persistent_matrix(const DeviceMatrix& matrix) {
  return {matrix.data, matrix.expert_stride, static_cast<unsigned>(8 * matrix.row_bytes),
          static_cast<unsigned>(8 * matrix.row_bytes / (matrix.columns / 256)), matrix.type};
}

// Quantized as this kernel multiplies it, all of it in tiles.
bool is_tiled_k(const DeviceMatrix& matrix) {
  return (matrix.type == TensorType::kQ4_K || matrix.type == TensorType::kQ6_K) &&
         matrix.tiled_rows == matrix.rows;
}

std::size_t ceil_divide(std::size_t a, std::size_t b) { return (a + b - 1) / b; }

// The plan for all layers, and the bytes it takes.
std::pair<Plan, std::size_t> plan_of(std::span<const DeviceLayer> layers) {
  std::size_t half = 0;
  std::size_t qkv = sizeof(ChunkRows);
  std::size_t out = 0;
  std::size_t down = sizeof(ChunkRows);
  for (const DeviceLayer& layer : layers) {
    half = std::max(half, 2 * kHalfGroups * 8 * layer.gate_proj.row_bytes);
    qkv = std::max(qkv, kQkvGroups * 8 *
                            std::max({layer.q_proj.row_bytes, layer.k_proj.row_bytes,
                                      layer.v_proj.row_bytes}));
    out = std::max(out, kRowsEach * layer.o_proj.row_bytes);
    down = std::max(down, kRanks * kRowsEach * layer.down_proj.row_bytes);
  }
  constexpr std::size_t kAlignment = 128;
  const auto align = [](std::size_t at) { return ceil_divide(at, kAlignment) * kAlignment; };
  Plan plan{};
  plan.unit = static_cast<unsigned>(align(half));
  plan.out = static_cast<unsigned>(align(qkv));
  plan.down = static_cast<unsigned>(align(std::max(plan.unit + 2 * half, plan.out + out)));
  plan.router = static_cast<unsigned>(align(plan.down + down));
  return {plan, plan.router + kHidden * sizeof(float)};
}

// Where the words are from `base` on, and how many there are. Every part begins at a multiple of 16
// bytes.
std::pair<Exchange, std::size_t> exchange_of(std::size_t capacity, Word* base) {
  std::size_t used = 0;
  const auto part = [&](std::size_t count) {
    Word* const at = base + used;
    used += count + count % 2;
    return at;
  };
  const auto quantized = [&](std::size_t size) {
    QuantizedWords words;
    words.words = part(size / 32 * 2 * QuantizedWords::kPairs);
    return words;
  };
  Exchange of;
  of.last_tag = part(1);
  of.hidden = part(kHidden);
  of.attended = part(kHidden);
  of.qkv[0] = part(kQuerySize);
  of.qkv[1] = part(kKeyValueSize);
  of.qkv[2] = part(kKeyValueSize);
  of.heads = quantized(kQuerySize);
  of.logits = part(kNumExperts);
  of.halves = part(kWorkers / 2 * kHalfRows);
  of.inner = quantized(kRanks * kInner);
  const std::size_t max_chunks = ceil_divide(capacity, kAttentionChunk);
  of.max_chunks = static_cast<int>(max_chunks);
  of.values = part(kNumHeads * max_chunks * kHeadDim);
  of.terms = part(kNumHeads * max_chunks * 2);
  of.likeliest = part(2 * kMaxBlocks * 2);
  return {of, used};
}

}  // namespace

bool can_persist(const Stream& stream, const DecodeShape& shape,
                 std::span<const DeviceLayer> layers) {
  const AttentionShape& heads = shape.heads;
  if (layers.empty() || layers.size() > ~kTags || !stream.has_clusters ||
      shape.hidden_size != kHidden || heads.num_attention_heads != kNumHeads ||
      heads.num_key_value_heads != kNumKeyValueHeads || heads.head_dim != kHeadDim ||
      shape.num_experts != kNumExperts || shape.num_experts_per_tok != kRanks ||
      shape.moe_intermediate_size != kInner ||
      stream.num_multiprocessors < std::max(kQkvBlocks, kWorkers) ||
      stream.num_multiprocessors > kMaxBlocks ||
      sizeof(PersistentShared) > stream.max_shared_bytes) {
    return false;
  }
  return std::ranges::all_of(layers,
                             [&](const DeviceLayer& layer) {
                               for (const DeviceMatrix* matrix :
                                    {&layer.q_proj, &layer.k_proj, &layer.v_proj, &layer.o_proj,
                                     &layer.gate_proj, &layer.up_proj, &layer.down_proj}) {
                                 if (!is_tiled_k(*matrix)) return false;
                               }
                               return layer.router.type == TensorType::kF32 &&
                                      layer.gate_proj.row_bytes == layer.up_proj.row_bytes;
                             }) &&
         plan_of(layers).second <= kTileBytes;
}

std::size_t exchange_words(const DecodeShape& shape) {
  return exchange_of(shape.capacity, nullptr).second;
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

std::size_t most_persistent_tokens(const Stream& stream, const DecodeShape& shape,
                                   std::span<const DeviceLayer> layers, const DecodeEnds& ends) {
  const DeviceMatrix& lm_head = ends.lm_head;
  const DeviceMatrix& embed_tokens = ends.embed_tokens;
  if (!can_persist(stream, shape, layers) || !is_tiled_k(lm_head)) return 0;
  const Plan plan = plan_of(layers).first;
  const unsigned slot = kSlotGroups * persistent_matrix(lm_head).group_bytes;
  // The first two are on their way beside down, all of them beside the router's next row.
  if (2 * slot > plan.down || kSlots * slot > plan.router) return 0;
  const bool embeds =
      embed_tokens.type == TensorType::kQ4_K || embed_tokens.type == TensorType::kQ6_K;
  return embeds ? shape.capacity : 1;
}

namespace {

void launch_persistent(const Stream& stream, const DecodeShape& shape,
                       std::span<const DeviceLayer> layers, const PersistentLayer* on_device,
                       std::uint64_t* exchange, const DecodeBuffers& buffers, const Ends& ends,
                       std::size_t num_tokens) {
  PersistentArguments a{};
  a.layers = on_device;
  a.num_layers = static_cast<int>(layers.size());
  a.exchange = exchange_of(shape.capacity, exchange).first;
  a.plan = plan_of(layers).first;
  a.plan.slot = kSlotGroups * ends.lm_head.group_bytes;
  a.norm_topk_prob = shape.norm_topk_prob;
  a.epsilon = shape.rms_norm_eps;
  a.scale = 1.0f / std::sqrt(static_cast<float>(kHeadDim));
  a.cosines = buffers.cosines;
  a.sines = buffers.sines;
  a.state = buffers.state;
  a.hidden = buffers.hidden;
  a.ends = ends;
  a.num_tokens = static_cast<int>(num_tokens);
  Launch launch{dim3(static_cast<unsigned>(stream.num_multiprocessors)), dim3(kThreads),
                sizeof(PersistentShared), false, true};
  launch.cooperative = true;
  launch(stream, persistent_kernel, a);
}

}  // namespace

void decode_layers(const Stream& stream, const DecodeShape& shape,
                   std::span<const DeviceLayer> layers, const PersistentLayer* on_device,
                   std::uint64_t* exchange, const DecodeBuffers& buffers) {
  CHECK(can_persist(stream, shape, layers));
  launch_persistent(stream, shape, layers, on_device, exchange, buffers, {}, 1);
}

void decode_tokens(const Stream& stream, const DecodeShape& shape,
                   std::span<const DeviceLayer> layers, const PersistentLayer* on_device,
                   std::uint64_t* exchange, const DecodeBuffers& buffers, const DecodeEnds& ends,
                   std::size_t num_tokens) {
  CHECK(num_tokens > 0);
  CHECK(num_tokens <= most_persistent_tokens(stream, shape, layers, ends));
  const Ends of{MatrixArgument(ends.embed_tokens),
                ends.embed_tokens.type,
                ends.norm,
                persistent_matrix(ends.lm_head),
                static_cast<int>(ends.lm_head.rows / 8),
                buffers.logits,
                ends.chosen};
  launch_persistent(stream, shape, layers, on_device, exchange, buffers, of, num_tokens);
}

}  // namespace refute::cuda
