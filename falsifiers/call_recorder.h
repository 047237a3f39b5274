// Builds a table of calls with an output buffer that tells whether it was written to.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "engine/backend.h"
#include "falsifiers/bad_calls.h"
#include "kernels/result.h"

namespace refute {

class CallRecorder {
 public:
  // Makes the call with room for its output; a part of it, or a longer part, is the output
  // argument.
  using Call = std::function<Result<void>(const Backend& backend, std::span<double> out)>;

  void add(std::string name, std::optional<ErrorKind> expected, Call call);
  std::vector<BadCall> take() && { return std::move(calls_); }

 private:
  std::vector<BadCall> calls_;
};

}  // namespace refute
