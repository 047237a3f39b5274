// The table of bad arguments: calls of the engine's public functions and ops, each with the error
// it must give, and good calls beside them.
#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "engine/backend.h"
#include "engine/model.h"
#include "falsifiers/owned_weights.h"
#include "kernels/error.h"
#include "kernels/matrix.h"

namespace refute {

struct CallOutcome {
  std::optional<Error> error;
  bool wrote = false;  // The output buffer changed although the call was refused.
};

struct BadCall {
  std::string name;                   // "matvec Q4_K: x of 511"
  std::optional<ErrorKind> expected;  // Empty for a good call.
  std::function<CallOutcome(const Backend&)> run;
};

// Weights and inputs that the calls borrow. Every buffer is longer than any call says, so that a
// backend that fails to check reads memory that exists.
struct CallMaterial {
  CallMaterial();

  std::vector<OwnedWeight>
      weights;  // One of each type, [kCallRows, kCallColumns], with spare rows.
  OwnedLayer layer;
  std::vector<double> numbers;
};

inline constexpr std::size_t kCallRows = 9;
inline constexpr std::size_t kCallColumns = 512;

std::vector<BadCall> make_bad_calls(const CallMaterial& material);

// open_session with capacities around the model's limits.
std::vector<BadCall> make_capacity_calls(const Model& model);

inline constexpr std::size_t kSessionCapacity = 4;

struct SessionCall {
  std::string name;
  std::optional<ErrorKind> expected;
  std::size_t length_after = 0;  // Of a good call; a refused one leaves the length.
  std::function<CallOutcome(Session&)> run;
};

// To be made one after the other on a new session of kSessionCapacity positions.
std::vector<SessionCall> make_session_calls(std::size_t vocab_size);

}  // namespace refute
