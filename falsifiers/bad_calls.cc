#include "falsifiers/bad_calls.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <span>
#include <utility>

#include "falsifiers/bad_op_calls.h"
#include "falsifiers/call_recorder.h"

namespace refute {
namespace {

constexpr auto kInvalidShape = ErrorKind::kInvalidShape;
constexpr std::size_t kHuge = std::numeric_limits<std::size_t>::max() / 2;

// Lengths that are not `right`.
std::array<std::size_t, 3> wrong_lengths(std::size_t right) { return {right - 1, right + 1, 0}; }

void add_expert_byte_slice(const CallMaterial& material, CallRecorder* calls) {
  const ExpertStack good = material.layer.gate_proj.view();
  const auto add = [&](std::string name, std::optional<ErrorKind> expected, ExpertStack stack,
                       std::size_t expert) {
    calls->add(
        "expert_byte_slice: " + std::move(name), expected,
        [stack, expert, expected](const Backend& backend, std::span<double>) -> Result<void> {
          const auto slice = backend.expert_byte_slice(stack, expert);
          if (!slice) return slice.error();
          const std::size_t size = stack.bytes_per_expert();
          const bool right =
              slice->data() == stack.data.data() + expert * size && slice->size() == size;
          if (expected || right) return {};
          return Error{kInvalidShape, "slice", "the expert's bytes", "others"};
        });
  };
  add("first expert", std::nullopt, good, 0);
  add("last expert", std::nullopt, good, good.num_experts - 1);
  add("expert num_experts", kInvalidShape, good, good.num_experts);
  add("expert far outside", kInvalidShape, good, kHuge);
  ExpertStack bad = good;
  bad.data = good.data.first(good.data.size() - 1);
  add("last slice one byte short", kInvalidShape, bad, good.num_experts - 1);
  add("slice before the missing byte", std::nullopt, bad, 0);
  bad.data = {};
  add("no data", kInvalidShape, bad, 0);
  bad = good;
  bad.num_experts = kHuge;
  add("offset that wraps", kInvalidShape, bad, kHuge - 1);
  bad = good;
  bad.rows = 0;
  add("no rows", kInvalidShape, bad, 0);
  bad = good;
  bad.columns -= 1;
  bad.type = TensorType::kQ8_0;
  add("columns within a block", kInvalidShape, bad, 0);
  bad = good;
  bad.type = TensorType::kI32;
  add("integers for weights", kInvalidShape, bad, 0);
}

void add_matvec(const CallMaterial& material, CallRecorder* calls) {
  const auto add = [&](const std::string& name, std::optional<ErrorKind> expected,
                       WeightView weight, std::size_t x_size, std::size_t y_size) {
    calls->add("matvec " + std::string(tensor_type_info(weight.type).name) + ": " + name, expected,
               [=, &material](const Backend& backend, std::span<double> out) {
                 return backend.matvec(weight, std::span(material.numbers).first(x_size),
                                       out.first(y_size));
               });
  };
  for (const OwnedWeight& owned : material.weights) {
    WeightView good = owned.view();
    good.rows = kCallRows;
    add("good", std::nullopt, good, kCallColumns, kCallRows);
    for (const std::size_t size : wrong_lengths(kCallColumns)) {
      add("x of " + std::to_string(size), kInvalidShape, good, size, kCallRows);
    }
    for (const std::size_t size : wrong_lengths(kCallRows)) {
      add("y of " + std::to_string(size), kInvalidShape, good, kCallColumns, size);
    }
    WeightView bad = good;
    bad.rows = 0;
    add("no rows", kInvalidShape, bad, kCallColumns, 0);
    bad = good;
    bad.columns = 0;
    add("no columns", kInvalidShape, bad, 0, kCallRows);
    bad = good;
    bad.data = nullptr;
    add("no data", kInvalidShape, bad, kCallColumns, kCallRows);
    const std::size_t block_size = tensor_type_info(good.type).block_size;
    if (block_size == 1) continue;
    for (const std::size_t columns : {kCallColumns - 1, kCallColumns + 1, block_size / 2}) {
      bad = good;
      bad.columns = columns;
      add("columns of " + std::to_string(columns), kInvalidShape, bad, columns, kCallRows);
    }
  }
  WeightView integers = material.weights.front().view();
  integers.type = TensorType::kI32;
  integers.rows = kCallRows;
  add("integers for weights", kInvalidShape, integers, kCallColumns, kCallRows);
}

// q4k_matvec and q6k_gemv: bytes without a view.
void add_typed(const CallMaterial& material, TensorType type, const std::string& function,
               CallRecorder* calls) {
  const auto owned = std::ranges::find(material.weights, type, &OwnedWeight::type);
  const std::span<const std::byte> bytes = owned->bytes;
  const auto add = [&](const std::string& name, std::optional<ErrorKind> expected,
                       std::size_t weight_bytes, std::size_t rows, std::size_t columns,
                       std::size_t x_size, std::size_t y_size) {
    calls->add(function + ": " + name, expected,
               [=, &material](const Backend& backend, std::span<double> out) {
                 const auto weight = bytes.first(weight_bytes);
                 const auto x = std::span(material.numbers).first(x_size);
                 const auto y = out.first(y_size);
                 return type == TensorType::kQ4_K ? backend.q4k_matvec(weight, rows, columns, x, y)
                                                  : backend.q6k_gemv(weight, rows, columns, x, y);
               });
  };
  constexpr std::size_t kRows = kCallRows;
  constexpr std::size_t kColumns = kCallColumns;
  const std::size_t row_size = row_bytes(type, kColumns);
  const std::size_t size = kRows * row_size;
  add("good", std::nullopt, size, kRows, kColumns, kColumns, kRows);
  for (const std::size_t wrong :
       {size - 1, size + 1, std::size_t{0}, size - row_size, size + row_size}) {
    add("weight of " + std::to_string(wrong) + " bytes", kInvalidShape, wrong, kRows, kColumns,
        kColumns, kRows);
  }
  for (const std::size_t wrong : {kRows - 1, kRows + 1, std::size_t{0}, kHuge}) {
    add(std::to_string(wrong) + " rows", kInvalidShape, size, wrong, kColumns, kColumns, kRows);
  }
  for (const std::size_t wrong :
       {kColumns - 1, kColumns + 1, kColumns / 2, std::size_t{128}, std::size_t{0}}) {
    add(std::to_string(wrong) + " columns", kInvalidShape, size, kRows, wrong, wrong, kRows);
  }
  for (const std::size_t wrong : wrong_lengths(kColumns)) {
    add("x of " + std::to_string(wrong), kInvalidShape, size, kRows, kColumns, wrong, kRows);
  }
  for (const std::size_t wrong : wrong_lengths(kRows)) {
    add("y of " + std::to_string(wrong), kInvalidShape, size, kRows, kColumns, kColumns, wrong);
  }
}

void add_expert_swiglu(const CallMaterial& material, CallRecorder* calls) {
  const WeightView gate = material.layer.gate_proj.expert(0);
  const WeightView up = material.layer.up_proj.expert(0);
  const WeightView down = material.layer.down_proj.expert(0);
  const std::size_t hidden_size = gate.columns;
  const auto add = [&](const std::string& name, std::optional<ErrorKind> expected, WeightView g,
                       WeightView u, WeightView d, std::size_t x_size, std::size_t y_size) {
    calls->add("expert_swiglu: " + name, expected,
               [=, &material](const Backend& backend, std::span<double> out) {
                 return backend.expert_swiglu(g, u, d, std::span(material.numbers).first(x_size),
                                              out.first(y_size));
               });
  };
  add("good", std::nullopt, gate, up, down, hidden_size, hidden_size);
  for (const std::size_t size : wrong_lengths(hidden_size)) {
    const std::string text = std::to_string(size);
    add("x of " + text, kInvalidShape, gate, up, down, size, hidden_size);
    add("y of " + text, kInvalidShape, gate, up, down, hidden_size, size);
  }
  const auto with = [](WeightView weight, std::size_t rows, std::size_t columns) {
    weight.rows = rows;
    weight.columns = columns;
    return weight;
  };
  add("gate_proj a row short", kInvalidShape, with(gate, gate.rows - 1, gate.columns), up, down,
      hidden_size, hidden_size);
  add("up_proj a row short", kInvalidShape, gate, with(up, up.rows - 1, up.columns), down,
      hidden_size, hidden_size);
  add("up_proj too narrow", kInvalidShape, gate, with(up, up.rows, up.columns / 2), down,
      hidden_size, hidden_size);
  add("down_proj a row short", kInvalidShape, gate, up, with(down, down.rows - 1, down.columns),
      hidden_size, hidden_size);
  add("down_proj transposed", kInvalidShape, gate, up, with(down, down.columns, down.rows),
      hidden_size, hidden_size);
  add("no rows", kInvalidShape, with(gate, 0, gate.columns), with(up, 0, up.columns), down,
      hidden_size, hidden_size);
  WeightView missing = up;
  missing.data = nullptr;
  add("up_proj without data", kInvalidShape, gate, missing, down, hidden_size, hidden_size);
}

}  // namespace

CallMaterial::CallMaterial() : numbers(4 * kCallColumns, 0.5) {
  for (const TensorType type : kWeightTypes) {
    weights.push_back(make_weight(type, 2 * kCallRows, 2 * kCallColumns, WeightKind::kPlain, 1));
    // The same bytes as twice as many rows of half the width.
    weights.back().columns = kCallColumns;
    weights.back().rows = 2 * kCallRows;
  }
  LayerShape shape;
  shape.hidden_size = 64;
  shape.moe_intermediate_size = 32;
  shape.num_experts = 4;
  shape.num_experts_per_tok = 2;
  shape.gate_proj = shape.up_proj = shape.down_proj = TensorType::kQ8_0;
  layer = make_layer(shape, 2);
}

std::vector<BadCall> make_bad_calls(const CallMaterial& material) {
  CallRecorder calls;
  add_expert_byte_slice(material, &calls);
  add_matvec(material, &calls);
  add_typed(material, TensorType::kQ4_K, "q4k_matvec", &calls);
  add_typed(material, TensorType::kQ6_K, "q6k_gemv", &calls);
  add_expert_swiglu(material, &calls);
  add_moe_calls(material, &calls);
  add_op_calls(material, &calls);
  return std::move(calls).take();
}

std::vector<BadCall> make_capacity_calls(const Model& model) {
  CallRecorder calls;
  const auto add = [&](const std::string& name, std::optional<ErrorKind> expected,
                       std::size_t capacity) {
    calls.add("open_session: " + name, expected,
              [&model, capacity](const Backend& backend, std::span<double>) -> Result<void> {
                const auto session = backend.open_session(model, capacity);
                if (!session) return session.error();
                return {};
              });
  };
  add("one position", std::nullopt, 1);
  add("no positions", kInvalidShape, 0);
  add("one position past the context", ErrorKind::kContextFull,
      model.config().max_position_embeddings + 1);
  add("far past the context", ErrorKind::kContextFull, kHuge);
  return std::move(calls).take();
}

std::vector<SessionCall> make_session_calls(std::size_t vocab_size) {
  std::vector<SessionCall> calls;
  const auto forward = [&](std::string name, std::optional<ErrorKind> expected,
                           std::size_t length_after, std::vector<std::int32_t> tokens) {
    calls.push_back({"forward: " + std::move(name), expected, length_after,
                     [tokens = std::move(tokens)](Session& session) {
                       const auto logits = session.forward(tokens, {});
                       return logits ? CallOutcome{} : CallOutcome{logits.error(), false};
                     }});
  };
  const auto rollback = [&](std::string name, std::optional<ErrorKind> expected,
                            std::size_t length) {
    calls.push_back({"rollback: " + std::move(name), expected, length, [length](Session& session) {
                       const auto done = session.rollback(length);
                       return done ? CallOutcome{} : CallOutcome{done.error(), false};
                     }});
  };
  const auto past_vocabulary = static_cast<std::int32_t>(vocab_size);
  forward("no tokens", kInvalidShape, 0, {});
  forward("token -1", ErrorKind::kInvalidToken, 0, {-1});
  forward("token vocab_size", ErrorKind::kInvalidToken, 0, {0, past_vocabulary});
  forward("more tokens than positions", ErrorKind::kContextFull, 0, {0, 0, 0, 0, 0});
  rollback("past an empty session", kInvalidShape, 1);
  forward("three good tokens", std::nullopt, 3, {0, past_vocabulary - 1, 0});
  forward("two tokens for one position", ErrorKind::kContextFull, 0, {0, 0});
  forward("a bad token after good ones", ErrorKind::kInvalidToken, 0, {-2147483647});
  rollback("past the length", kInvalidShape, 4);
  forward("the last position", std::nullopt, 4, {0});
  forward("past the last position", ErrorKind::kContextFull, 0, {0});
  rollback("to one position", std::nullopt, 1);
  forward("after the rollback", std::nullopt, 2, {0});
  rollback("to nothing", std::nullopt, 0);
  return calls;
}

}  // namespace refute
