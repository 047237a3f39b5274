#include "falsifiers/call_recorder.h"

#include <algorithm>
#include <utility>

namespace refute {

void CallRecorder::add(std::string name, std::optional<ErrorKind> expected, Call call) {
  calls_.push_back({std::move(name), expected, [call = std::move(call)](const Backend& backend) {
                      constexpr double kUntouched = -12345.0;
                      std::vector<double> out(4 * kCallColumns, kUntouched);
                      const auto result = call(backend, out);
                      CallOutcome outcome;
                      if (result) return outcome;
                      outcome.error = result.error();
                      outcome.wrote = std::ranges::any_of(
                          out, [](double value) { return value != kUntouched; });
                      return outcome;
                    }});
}

}  // namespace refute
