#include "engine/cuda_weights.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <thread>

#include "engine/faulty/device.h"
#include "engine/forward.h"
#include "kernels/check.h"
#include "kernels/cuda/tiles.h"
#include "kernels/faults.h"

namespace refute::cuda {
namespace {

constexpr std::size_t kAlignment = 256;
constexpr std::size_t kPieceBytes = std::size_t{4} << 20;
// Up to here one thread and pageable memory do; page-locking more costs more than it saves.
constexpr std::size_t kSmallBytes = std::size_t{32} << 20;
constexpr std::size_t kMaxThreads = 12;

std::size_t aligned(std::size_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

// The numbers of a layer's weights in an upload.
struct LayerNumbers {
  std::size_t input_layernorm, q_proj, k_proj, v_proj, o_proj, q_norm, k_norm;
  std::size_t post_attention_layernorm, router, gate_proj, up_proj, down_proj;
};

LayerNumbers add_layer(const LayerWeights& layer, WeightUpload& upload) {
  LayerNumbers numbers{};
  numbers.input_layernorm = upload.add(std::span(layer.input_layernorm));
  numbers.q_proj = upload.add(layer.q_proj);
  numbers.k_proj = upload.add(layer.k_proj);
  numbers.v_proj = upload.add(layer.v_proj);
  numbers.o_proj = upload.add(layer.o_proj);
  numbers.q_norm = upload.add(std::span(layer.q_norm));
  numbers.k_norm = upload.add(std::span(layer.k_norm));
  numbers.post_attention_layernorm = upload.add(std::span(layer.post_attention_layernorm));
  numbers.router = upload.add(layer.router);
  numbers.gate_proj = upload.add(layer.gate_proj);
  numbers.up_proj = upload.add(layer.up_proj);
  numbers.down_proj = upload.add(layer.down_proj);
  return numbers;
}

DeviceLayer device_layer(const DeviceWeights& weights, const LayerNumbers& numbers) {
  DeviceLayer layer;
  layer.input_layernorm = weights.vector(numbers.input_layernorm);
  layer.q_proj = weights.matrix(numbers.q_proj);
  layer.k_proj = weights.matrix(numbers.k_proj);
  layer.v_proj = weights.matrix(numbers.v_proj);
  layer.o_proj = weights.matrix(numbers.o_proj);
  layer.q_norm = weights.vector(numbers.q_norm);
  layer.k_norm = weights.vector(numbers.k_norm);
  layer.post_attention_layernorm = weights.vector(numbers.post_attention_layernorm);
  layer.router = weights.matrix(numbers.router);
  layer.gate_proj = weights.matrix(numbers.gate_proj);
  layer.up_proj = weights.matrix(numbers.up_proj);
  layer.down_proj = weights.matrix(numbers.down_proj);
  return layer;
}

// The numbers of a model's weights in an upload.
struct ModelNumbers {
  std::size_t embed_tokens, norm, lm_head;
  std::vector<LayerNumbers> layers;
};

ModelNumbers add_model(const Model& model, WeightUpload& upload) {
  ModelNumbers numbers{};
  numbers.embed_tokens = upload.add(model.embed_tokens());
  for (const LayerWeights& layer : model.layers()) {
    numbers.layers.push_back(add_layer(layer, upload));
  }
  numbers.norm = upload.add(std::span(model.norm()));
  // A tied lm_head is embed_tokens, in memory as in the file.
  const bool tied = model.lm_head().data == model.embed_tokens().data;
  numbers.lm_head = tied ? numbers.embed_tokens : upload.add(model.lm_head());
  return numbers;
}

}  // namespace

std::size_t WeightUpload::add(Item item) {
  const std::size_t expert_bytes = item.rows * row_bytes(item.type, item.columns);
  // Every expert's tiles must start at a multiple of 16 bytes.
  item.tiled =
      has_tiles(item.type, item.columns) && (item.experts.size() == 1 || expert_bytes % 16 == 0);
  item.offset = bytes_;
  bytes_ += aligned(item.experts.size() * expert_bytes);
  // Blocks of 224 bytes in place of 210.
  if (item.type == TensorType::kQ6_K && fault_seeded("F92", FaultHost::kCuda)) {
    bytes_ += aligned(item.experts.size() * expert_bytes / 15);
  }
  items_.push_back(std::move(item));
  return items_.size() - 1;
}

std::size_t WeightUpload::add(const WeightView& weight) {
  return add(Item{weight.type, weight.rows, weight.columns, {weight.data}, 0, false});
}

std::size_t WeightUpload::add(const ExpertStack& stack) {
  Item item{stack.type, stack.rows, stack.columns, {}, 0, false};
  for (std::size_t e = 0; e < stack.num_experts; ++e) {
    const auto bytes = refute::expert_byte_slice(stack, e);
    CHECK(bytes);
    item.experts.push_back(bytes->data());
  }
  return add(std::move(item));
}

std::size_t WeightUpload::add(std::span<const float> vector) {
  return add(Item{TensorType::kF32, 1, vector.size(), {std::as_bytes(vector).data()}, 0, false});
}

std::vector<WeightUpload::Piece> WeightUpload::pieces() const {
  std::vector<Piece> pieces;
  for (const Item& item : items_) {
    const std::size_t bytes_per_row = row_bytes(item.type, item.columns);
    // Whole row groups, at least one.
    const std::size_t at_a_time =
        std::max<std::size_t>(1, kPieceBytes / (kTileRows * bytes_per_row)) * kTileRows;
    for (std::size_t e = 0; e < item.experts.size(); ++e) {
      for (std::size_t row = 0; row < item.rows; row += at_a_time) {
        pieces.push_back({&item, item.experts[e] + row * bytes_per_row,
                          std::min(at_a_time, item.rows - row),
                          item.offset + (e * item.rows + row) * bytes_per_row});
      }
    }
  }
  return pieces;
}

void WeightUpload::copy_piece(const Piece& piece, std::byte* to) {
  const Item& item = *piece.item;
  if (item.tiled) {
    repack_rows(item.type, piece.rows, item.columns, piece.from, to);
  } else {
    std::memcpy(to, piece.from, piece.rows * row_bytes(item.type, item.columns));
  }
}

Result<void> WeightUpload::upload_small(const Context& context, std::uint8_t* memory) const {
  std::vector<std::uint8_t> host(bytes_);
  for (const Piece& piece : pieces()) {
    copy_piece(piece, reinterpret_cast<std::byte*>(host.data()) + piece.offset);
  }
  context.to_device(host.data(), host.size(), memory);
  return {};
}

Result<void> WeightUpload::upload_large(std::uint8_t* memory) const {
  const std::vector<Piece> all = pieces();
  std::size_t most = 0;
  for (const Piece& piece : all) {
    most = std::max(most, piece.rows * row_bytes(piece.item->type, piece.item->columns));
  }
  const std::size_t count =
      std::clamp<std::size_t>(std::thread::hardware_concurrency(), 1, kMaxThreads);
  auto staging = PinnedBuffer<std::byte>::allocate(2 * count * most, "staging of the weights");
  if (!staging) return staging.error();

  // Two buffers a thread: one is filled while the other one is on its way.
  std::atomic<std::size_t> next = 0;
  const auto work = [&](std::byte* buffers) {
    CUDA_CHECK(cudaSetDevice(0));
    cudaStream_t streams[2] = {};
    for (cudaStream_t& stream : streams) {
      CUDA_CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    }
    std::size_t turn = 0;
    for (std::size_t i = next.fetch_add(1); i < all.size(); i = next.fetch_add(1)) {
      const Piece& piece = all[i];
      std::byte* const buffer = buffers + turn * most;
      CUDA_CHECK(cudaStreamSynchronize(streams[turn]));
      copy_piece(piece, buffer);
      CUDA_CHECK(cudaMemcpyAsync(memory + piece.offset, buffer,
                                 piece.rows * row_bytes(piece.item->type, piece.item->columns),
                                 cudaMemcpyHostToDevice, streams[turn]));
      turn = 1 - turn;
    }
    for (cudaStream_t& stream : streams) {
      CUDA_CHECK(cudaStreamSynchronize(stream));
      CUDA_CHECK(cudaStreamDestroy(stream));
    }
  };
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < count; ++t) {
    threads.emplace_back(work, staging->data() + 2 * t * most);
  }
  for (std::thread& thread : threads) thread.join();
  return {};
}

Result<DeviceWeights> WeightUpload::run(const Context& context, const std::string& what) const {
  DeviceWeights weights;
  auto memory = DeviceBuffer<std::uint8_t>::allocate(bytes_, what);
  if (!memory) return memory.error();
  weights.memory_ = *std::move(memory);
  Result<void> done = bytes_ <= kSmallBytes ? upload_small(context, weights.memory_.data())
                                            : upload_large(weights.memory_.data());
  if (!done) return done.error();
  for (const Item& item : items_) {
    DeviceMatrix matrix;
    matrix.type = item.type;
    matrix.data = weights.memory_.data() + item.offset;
    matrix.rows = item.rows;
    matrix.columns = item.columns;
    matrix.tiled_rows = item.tiled ? item.rows / kTileRows * kTileRows : 0;
    matrix.row_bytes = row_bytes(item.type, item.columns);
    matrix.expert_stride = item.rows * matrix.row_bytes;
    weights.matrices_.push_back(matrix);
  }
  return weights;
}

std::size_t DeviceModel::bytes_for(const Model& model) {
  WeightUpload upload;
  add_model(model, upload);
  return upload.bytes();
}

Result<DeviceModel> DeviceModel::upload(const Context& context, const Model& model) {
  WeightUpload upload;
  const ModelNumbers numbers = add_model(model, upload);
  auto weights = upload.run(context, "weights of " + model.name());
  if (!weights) return weights.error();
  DeviceModel result;
  result.weights_ = *std::move(weights);
  if constexpr (kFaultSites) {
    if (fault_seeded("F84", FaultHost::kCuda)) {
      refute::faulty::arrive_late(context, result.weights_.memory());
    }
  }
  result.embed_tokens_ = result.weights_.matrix(numbers.embed_tokens);
  for (const LayerNumbers& layer : numbers.layers) {
    result.layers_.push_back(device_layer(result.weights_, layer));
  }
  result.norm_ = result.weights_.vector(numbers.norm);
  result.lm_head_ = result.weights_.matrix(numbers.lm_head);
  return result;
}

}  // namespace refute::cuda
