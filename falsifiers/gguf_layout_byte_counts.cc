// Claim: every tensor of the file is rows * ceil(columns / block) * block bytes long; the model
//   reads each of its matrices from exactly the tensor of that name; the experts' slices tile their
//   tensor in order; and a one-hot input through the backend's own product reads out the
//   dequantized column of every matrix, for the first, the last and a random expert, within 1e-6 of
//   the row's largest.
// Why it must hold: the format defines the bytes, and a product with e_c is column c.
// Catches: a block size or type taken from another tensor or layer, strides of padded blocks,
//   expert offsets that wrap or are off by one, matrices exchanged, embeddings of another row.
// Misses: two errors of dequantization that cancel because the product shares them (quantized
//   dequantization is tested on its own, byte by byte).
// Source: the GGUF format; a public engine that read 884,736-byte slabs as 1,290,240.
#include "falsifiers/gguf_layout_byte_counts.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "engine/backend.h"
#include "engine/gguf.h"
#include "engine/gguf_names.h"
#include "falsifiers/seeded_random.h"
#include "falsifiers/traced_run.h"
#include "kernels/quant/dequantize.h"

namespace refute {
namespace {

constexpr std::array<MetricInfo, 3> kMetrics = {{
    {"wrong_byte_counts",
     "tensors whose bytes, type or place are not those of the format; fewer than one", false, 0.5},
    {"misplaced_slices", "expert slices that do not tile their tensor; fewer than one", false, 0.5},
    {"readout_error", "|product with e_c - column c| over the largest of the row", false, 1e-6},
}};

// The format's own numbers, not those of the code under test.
struct BlockLayout {
  TensorType type;
  std::size_t elements;
  std::size_t bytes;
};
constexpr std::array<BlockLayout, 9> kLayouts = {{
    {TensorType::kF32, 1, 4},
    {TensorType::kF16, 1, 2},
    {TensorType::kBF16, 1, 2},
    {TensorType::kQ8_0, 32, 34},
    {TensorType::kQ4_K, 256, 144},
    {TensorType::kQ5_K, 256, 176},
    {TensorType::kQ6_K, 256, 210},
    {TensorType::kI32, 1, 4},
    {TensorType::kF64, 1, 8},
}};

std::size_t documented_bytes(TensorType type, std::size_t rows, std::size_t columns) {
  const auto layout = std::ranges::find(kLayouts, type, &BlockLayout::type);
  CHECK(layout != kLayouts.end());
  return rows * ((columns + layout->elements - 1) / layout->elements) * layout->bytes;
}

class LayoutCheck {
 public:
  LayoutCheck(const Subject& subject, const GgufFile& file, std::uint64_t seed, Judge* judge)
      : backend_(subject.backend),
        model_(*subject.model),
        file_(file),
        random_(seed),
        judge_(judge) {}

  void judge_all() {
    for (const GgufTensor& tensor : file_.tensors()) {
      const std::size_t columns = tensor.shape.back();
      const std::size_t rows = tensor.num_elements() / std::max<std::size_t>(columns, 1);
      measure_bytes(tensor.data.size() == documented_bytes(tensor.type, rows, columns),
                    tensor.name);
    }
    judge_matrix(TensorRole::kEmbedTokens, 0, model_.embed_tokens());
    judge_embeddings();
    for (std::size_t layer = 0; layer < model_.layers().size(); ++layer) judge_layer(layer);
    const bool tied = model_.config().tie_word_embeddings;
    judge_matrix(tied ? TensorRole::kEmbedTokens : TensorRole::kLmHead, 0, model_.lm_head());
  }

 private:
  void measure_bytes(bool right, const std::string& where) {
    const bool held = judge_->measure("wrong_byte_counts", right ? 0.0 : 1.0, where);
    judge_->count_case(!held);
  }

  // Whether `bytes` of the loaded model are the tensor's, in the file's own offsets.
  bool is_tensor(const GgufTensor* tensor, TensorType type, const std::byte* data,
                 std::size_t bytes) const {
    return tensor != nullptr && tensor->type == type && tensor->data.size() == bytes &&
           tensor->data.data() - file_.bytes().data() == data - model_.file_bytes().data();
  }

  void judge_layer(std::size_t layer) {
    const LayerWeights& weights = model_.layers()[layer];
    judge_matrix(TensorRole::kQProj, layer, weights.q_proj);
    judge_matrix(TensorRole::kKProj, layer, weights.k_proj);
    judge_matrix(TensorRole::kVProj, layer, weights.v_proj);
    judge_matrix(TensorRole::kOProj, layer, weights.o_proj);
    judge_matrix(TensorRole::kRouter, layer, weights.router);
    judge_stack(TensorRole::kGateProj, layer, weights.gate_proj);
    judge_stack(TensorRole::kUpProj, layer, weights.up_proj);
    judge_stack(TensorRole::kDownProj, layer, weights.down_proj);
  }

  void judge_matrix(TensorRole role, std::size_t layer, const WeightView& view) {
    const std::string name = gguf_tensor_name(role, layer);
    const std::size_t bytes = documented_bytes(view.type, view.rows, view.columns);
    measure_bytes(is_tensor(file_.find_tensor(name), view.type, view.data, bytes), name);
    judge_readout(name, view);
  }

  void judge_stack(TensorRole role, std::size_t layer, const ExpertStack& stack) {
    const std::string name = gguf_tensor_name(role, layer);
    measure_bytes(
        is_tensor(file_.find_tensor(name), stack.type, stack.data.data(), stack.data.size()), name);
    const std::size_t slice_bytes = documented_bytes(stack.type, stack.rows, stack.columns);
    for (const std::size_t expert :
         {std::size_t{0}, random_.below(stack.num_experts), stack.num_experts - 1}) {
      const std::string where = name + " expert " + std::to_string(expert);
      const auto slice = backend_.expert_byte_slice(stack, expert);
      if (!slice) {
        judge_subject_error(slice.error(), where, judge_);
        continue;
      }
      const bool tiles = slice->data() == stack.data.data() + expert * slice_bytes &&
                         slice->size() == slice_bytes &&
                         stack.data.size() == stack.num_experts * slice_bytes;
      const bool held = judge_->measure("misplaced_slices", tiles ? 0.0 : 1.0, where);
      judge_->count_case(!held);
      if (!held) continue;
      judge_readout(where, {stack.type, stack.rows, stack.columns, slice->data()});
    }
  }

  // One random column through the backend's product.
  void judge_readout(const std::string& where, const WeightView& view) {
    const std::size_t column = random_.below(view.columns);
    std::vector<double> x(view.columns);
    x[column] = 1.0;
    std::vector<double> y(view.rows);
    if (const auto ok = backend_.matvec(view, x, y); !ok) {
      return judge_subject_error(ok.error(), where, judge_);
    }
    double worst = 0.0;
    std::vector<double> row(view.columns);
    for (std::size_t r = 0; r < view.rows; ++r) {
      dequantize_row(view.type, view.row(r), row);
      worst = std::max(worst, relative_error(row, row[column], y[r]));
    }
    measure_readout(worst, where + " column " + std::to_string(column));
  }

  void judge_embeddings() {
    const WeightView& view = model_.embed_tokens();
    const auto last = static_cast<std::int32_t>(view.rows - 1);
    const std::array<std::int32_t, 3> tokens = {
        0, static_cast<std::int32_t>(random_.below(view.rows)), last};
    const auto found = backend_.embed(view, tokens);
    if (!found) return judge_subject_error(found.error(), "embed", judge_);
    std::vector<double> row(view.columns);
    for (std::size_t t = 0; t < tokens.size(); ++t) {
      dequantize_row(view.type, view.row(static_cast<std::size_t>(tokens[t])), row);
      double worst = 0.0;
      for (std::size_t c = 0; c < row.size(); ++c) {
        worst = std::max(worst, relative_error(row, row[c], (*found)(t, c)));
      }
      measure_readout(worst, "embedding of token " + std::to_string(tokens[t]));
    }
  }

  static double relative_error(const std::vector<double>& row, double expected, double found) {
    double largest = 0.0;
    for (const double value : row) largest = std::max(largest, std::abs(value));
    const double error = std::abs(found - expected);
    if (error == 0.0) return 0.0;
    return error / largest;
  }

  void measure_readout(double error, const std::string& where) {
    const bool held = judge_->measure("readout_error", error, where);
    judge_->count_case(!held);
  }

  const Backend& backend_;
  const Model& model_;
  const GgufFile& file_;
  SeededRandom random_;
  Judge* judge_;
};

}  // namespace

Verdict falsify_gguf_layout_byte_counts(const Subject& subject, const Criterion& criterion) {
  Judge judge(kMetrics, criterion);
  const auto file = GgufFile::open(subject.model->path());
  if (!file) return Verdict::error(file.error().message());
  LayoutCheck(subject, *file, criterion.seed, &judge).judge_all();
  return judge.verdict();
}

const FalsifierInfo& gguf_layout_byte_counts_info() {
  static constexpr FalsifierInfo kInfo = {
      .id = "gguf_layout.byte_counts",
      .claim =
          "Every tensor is rows * ceil(columns / block) * block bytes, expert slices tile "
          "their tensor, and a one-hot input reads out the dequantized column within 1e-6.",
      .why = "The format defines the bytes, and a product with e_c is column c.",
      .catches =
          "A block size or type taken from another tensor, wrong strides or offsets, "
          "matrices exchanged.",
      .misses = "Errors of dequantization that the product shares.",
      .source = "The GGUF format.",
      .metrics = kMetrics,
      .backends = kAllBackends,
      .needs_model = true,
      .needs_pack = false,
      .falsify = falsify_gguf_layout_byte_counts,
  };
  return kInfo;
}

}  // namespace refute
