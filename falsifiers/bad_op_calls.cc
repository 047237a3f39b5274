#include "falsifiers/bad_op_calls.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "kernels/rope.h"

namespace refute {
namespace {

constexpr auto kInvalidShape = ErrorKind::kInvalidShape;

// Everything that moe_ffn_forward_layer is called with, good until changed.
struct MoeArguments {
  Config config;
  LayerWeights layer;
  std::size_t layer_index = 0;
  std::size_t first_position = 0;
  std::size_t x_rows = 2, x_columns = 0;
  std::size_t y_rows = 2, y_columns = 0;
  std::optional<ForcedRoutes> routes;
};

ForcedRoutes good_routes(const Config& config) {
  ForcedRoutes routes;
  routes.ids.emplace_back(2, config.num_experts_per_tok, std::vector<std::int32_t>{0, 1, 3, 2});
  return routes;
}

Result<void> call_moe(const Backend& backend, const CallMaterial& material,
                      const MoeArguments& arguments, std::span<double> out) {
  ForwardOptions options;
  if (arguments.routes) options.forced_routes = &*arguments.routes;
  return backend.moe_ffn_forward_layer(
      arguments.config, arguments.layer, arguments.layer_index, arguments.first_position,
      {material.numbers.data(), arguments.x_rows, arguments.x_columns}, options,
      {out.data(), arguments.y_rows, arguments.y_columns});
}

class MoeCalls {
 public:
  MoeCalls(const CallMaterial& material, CallRecorder* calls)
      : material_(material), calls_(*calls) {}

  void add(const std::string& name, std::optional<ErrorKind> expected,
           const std::function<void(MoeArguments&)>& change) {
    MoeArguments arguments;
    arguments.config = material_.layer.config;
    arguments.layer = material_.layer.view();
    arguments.x_columns = arguments.y_columns = arguments.config.hidden_size;
    change(arguments);
    calls_.add("moe_ffn_forward_layer: " + name, expected,
               [&material = material_, arguments](const Backend& backend, std::span<double> out) {
                 return call_moe(backend, material, arguments, out);
               });
  }
  void bad(const std::string& name, const std::function<void(MoeArguments&)>& change) {
    add(name, kInvalidShape, change);
  }
  void bad_routes(const std::string& name, const std::function<void(ForcedRoutes&)>& change) {
    bad("forced routes " + name, [&](MoeArguments& a) {
      a.routes = good_routes(a.config);
      change(*a.routes);
    });
  }

 private:
  const CallMaterial& material_;
  CallRecorder& calls_;
};

void add_stack_calls(MoeCalls* calls, const std::string& name, ExpertStack LayerWeights::*stack) {
  calls->bad(name + " of an expert less", [=](MoeArguments& a) { --(a.layer.*stack).num_experts; });
  calls->bad(name + " a row short", [=](MoeArguments& a) { --(a.layer.*stack).rows; });
  calls->bad(name + " a byte short", [=](MoeArguments& a) {
    (a.layer.*stack).data = (a.layer.*stack).data.first((a.layer.*stack).data.size() - 1);
  });
  calls->bad(name + " without data", [=](MoeArguments& a) { (a.layer.*stack).data = {}; });
  calls->bad(name + " of another width", [=](MoeArguments& a) { (a.layer.*stack).columns += 32; });
}

template <typename T>
Result<void> without_value(const Result<T>& result) {
  if (!result) return result.error();
  return {};
}

// Ops return their output, so only the error is looked at.
class OpCalls {
 public:
  OpCalls(const CallMaterial& material, CallRecorder* calls)
      : material_(material), calls_(*calls) {}

  MatrixView<const double> x(std::size_t rows, std::size_t columns) const {
    return {material_.numbers.data(), rows, columns};
  }
  template <typename Op>
  void add(std::string name, std::optional<ErrorKind> expected, Op op) {
    calls_.add(std::move(name), expected, [op](const Backend& backend, std::span<double>) {
      return without_value(op(backend));
    });
  }

 private:
  const CallMaterial& material_;
  CallRecorder& calls_;
};

void add_routes(OpCalls* calls) {
  for (const std::size_t k : {1u, 8u}) {
    const auto logits = calls->x(2, 8);
    calls->add("route: k of " + std::to_string(k), std::nullopt,
               [=](const Backend& backend) { return backend.route(logits, k, true); });
  }
  for (const std::size_t k : {0u, 9u}) {
    const auto logits = calls->x(2, 8);
    calls->add("route: k of " + std::to_string(k), kInvalidShape,
               [=](const Backend& backend) { return backend.route(logits, k, true); });
  }
}

void add_elementwise(OpCalls* calls) {
  const auto good = calls->x(2, 32);
  const std::array<std::pair<MatrixView<const double>, std::optional<ErrorKind>>, 3> others = {
      {{good, std::nullopt}, {calls->x(2, 31), kInvalidShape}, {calls->x(3, 32), kInvalidShape}}};
  for (const auto& [other, expected] : others) {
    const std::string shape =
        " of [" + std::to_string(other.rows) + ", " + std::to_string(other.columns) + "]";
    calls->add("swiglu: up" + shape, expected, [good, other = other](const Backend& backend) {
      return backend.swiglu(good, other);
    });
    calls->add("add: b" + shape, expected,
               [good, other = other](const Backend& backend) { return backend.add(good, other); });
  }
  for (const std::size_t rows : {5u, 6u, 7u}) {
    const auto expected = rows == 6 ? std::nullopt : std::optional(kInvalidShape);
    const auto out = calls->x(rows, 32);
    const auto weight = calls->x(2, 3);
    calls->add("combine: " + std::to_string(rows) + " rows for 2 tokens of 3", expected,
               [=](const Backend& backend) { return backend.combine(out, weight); });
  }
  static const std::vector<float> gain(33, 1.0f);
  for (const std::size_t size : {31u, 32u, 33u, 0u}) {
    const auto expected = size == 32 ? std::nullopt : std::optional(kInvalidShape);
    calls->add("rms_norm: weight of " + std::to_string(size), expected,
               [=](const Backend& backend) {
                 return backend.rms_norm(good, std::span(gain).first(size), 1e-6f);
               });
  }
}

void add_rope(OpCalls* calls) {
  static const RopeTable table(1e4, 16, 8);
  const auto rope = [&](const std::string& name, std::optional<ErrorKind> expected,
                        std::size_t first, std::size_t rows, std::size_t columns) {
    const auto x = calls->x(rows, columns);
    calls->add("rope: " + name, expected,
               [=](const Backend& backend) { return backend.rope(table, 2, first, x); });
  };
  rope("up to the last position", std::nullopt, 6, 2, 32);
  rope("one row past the table", kInvalidShape, 7, 2, 32);
  rope("first position past the table", kInvalidShape, 9, 1, 32);
  rope("one column less", kInvalidShape, 0, 1, 31);
  rope("one head less", kInvalidShape, 0, 1, 16);
}

void add_attention(OpCalls* calls) {
  const auto attention = [&](const std::string& name, std::optional<ErrorKind> expected,
                             AttentionShape shape, std::size_t q_columns, std::size_t k_rows,
                             std::size_t v_rows, std::size_t first) {
    const auto q = calls->x(2, q_columns);
    const auto k = calls->x(k_rows, 16);
    const auto v = calls->x(v_rows, 16);
    calls->add("attention: " + name, expected,
               [=](const Backend& backend) { return backend.attention(shape, q, k, v, first); });
  };
  const AttentionShape good = {4, 2, 8};
  attention("good", std::nullopt, good, 32, 5, 5, 3);
  attention("q a column short", kInvalidShape, good, 31, 5, 5, 3);
  attention("cache a row short", kInvalidShape, good, 32, 4, 4, 3);
  attention("v a row short", kInvalidShape, good, 32, 5, 4, 3);
  attention("heads that do not divide", kInvalidShape, {4, 3, 8}, 32, 5, 5, 3);
  attention("no key-value heads", kInvalidShape, {4, 0, 8}, 32, 5, 5, 3);
  attention("another head_dim", kInvalidShape, {4, 2, 4}, 32, 5, 5, 3);
}

void add_weights(const CallMaterial& material, OpCalls* calls) {
  for (const OwnedWeight& owned : material.weights) {
    const WeightView weight = owned.view();
    const std::string type(tensor_type_info(weight.type).name);
    for (const std::size_t columns : {kCallColumns, kCallColumns - 1, kCallColumns + 1}) {
      const auto expected = columns == kCallColumns ? std::nullopt : std::optional(kInvalidShape);
      const auto x = calls->x(1, columns);
      calls->add("matmul " + type + ": x of " + std::to_string(columns), expected,
                 [=](const Backend& backend) { return backend.matmul(weight, x); });
    }
    const auto last = static_cast<std::int32_t>(weight.rows - 1);
    for (const std::int32_t token : {0, last, last + 1, -1}) {
      const bool good = token >= 0 && token <= last;
      calls->add("embed " + type + ": token " + std::to_string(token),
                 good ? std::nullopt : std::optional(ErrorKind::kInvalidToken),
                 [=](const Backend& backend) {
                   return backend.embed(weight, std::array<std::int32_t, 2>{0, token});
                 });
    }
  }
}

}  // namespace

void add_moe_calls(const CallMaterial& material, CallRecorder* recorder) {
  MoeCalls calls(material, recorder);
  calls.add("good", std::nullopt, [](MoeArguments&) {});
  calls.add("good with forced routes", std::nullopt,
            [](MoeArguments& a) { a.routes = good_routes(a.config); });
  calls.bad("no tokens", [](MoeArguments& a) { a.x_rows = a.y_rows = 0; });
  calls.bad("x a column short", [](MoeArguments& a) { --a.x_columns; });
  calls.bad("x a column long", [](MoeArguments& a) { ++a.x_columns; });
  calls.bad("y a column short", [](MoeArguments& a) { --a.y_columns; });
  calls.bad("y a row short", [](MoeArguments& a) { --a.y_rows; });
  calls.bad("y a row long", [](MoeArguments& a) { ++a.y_rows; });
  calls.bad("k of 0", [](MoeArguments& a) { a.config.num_experts_per_tok = 0; });
  calls.bad("k above num_experts", [](MoeArguments& a) { a.config.num_experts_per_tok = 5; });
  calls.bad("no experts", [](MoeArguments& a) { a.config.num_experts = 0; });
  calls.bad("one expert more", [](MoeArguments& a) { ++a.config.num_experts; });
  calls.bad("another hidden_size", [](MoeArguments& a) { a.config.hidden_size += 32; });
  calls.bad("another moe_intermediate_size",
            [](MoeArguments& a) { a.config.moe_intermediate_size += 32; });
  calls.bad("router a row short", [](MoeArguments& a) { --a.layer.router.rows; });
  calls.bad("router a column short", [](MoeArguments& a) { --a.layer.router.columns; });
  calls.bad("router without data", [](MoeArguments& a) { a.layer.router.data = nullptr; });
  add_stack_calls(&calls, "gate_proj", &LayerWeights::gate_proj);
  add_stack_calls(&calls, "up_proj", &LayerWeights::up_proj);
  add_stack_calls(&calls, "down_proj", &LayerWeights::down_proj);
  calls.bad_routes("without this layer", [](ForcedRoutes& routes) { routes.ids.clear(); });
  calls.bad_routes("of another k", [](ForcedRoutes& routes) { routes.ids[0] = {2, 1}; });
  calls.bad_routes("of one token", [](ForcedRoutes& routes) { routes.ids[0] = {1, 2}; });
  calls.bad_routes("that start later", [](ForcedRoutes& routes) { routes.first_position = 1; });
  calls.bad_routes("to expert num_experts", [](ForcedRoutes& routes) { routes.ids[0](1, 1) = 4; });
  calls.bad_routes("to expert -1", [](ForcedRoutes& routes) { routes.ids[0](0, 0) = -1; });
}

void add_op_calls(const CallMaterial& material, CallRecorder* recorder) {
  OpCalls calls(material, recorder);
  add_weights(material, &calls);
  add_elementwise(&calls);
  add_rope(&calls);
  add_attention(&calls);
  add_routes(&calls);
}

}  // namespace refute
