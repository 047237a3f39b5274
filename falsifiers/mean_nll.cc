#include "falsifiers/mean_nll.h"

#include <algorithm>
#include <cmath>
#include <span>

namespace refute {
namespace {

double negative_log_likelihood(std::span<const double> logits, std::int32_t token) {
  const double maximum = *std::ranges::max_element(logits);
  double sum = 0.0;
  for (const double logit : logits) sum += std::exp(logit - maximum);
  return maximum + std::log(sum) - logits[static_cast<std::size_t>(token)];
}

}  // namespace

Result<double> mean_nll(const Backend& backend, const Model& model,
                        const NllExpectation& expectation) {
  double total = 0.0;
  std::size_t count = 0;
  for (const std::span<const std::int32_t> window : expectation.windows) {
    const auto context = window.first(window.size() - 1);
    auto session = backend.open_session(model, context.size());
    if (!session) return session.error();
    ForwardOptions options;
    options.logit_rows = LogitRows::kAll;
    const auto logits = (*session)->forward(context, options);
    if (!logits) return logits.error();
    for (std::size_t t = 0; t < context.size(); ++t) {
      total += negative_log_likelihood(logits->row(t), window[t + 1]);
      ++count;
    }
  }
  return total / static_cast<double>(count);
}

}  // namespace refute
