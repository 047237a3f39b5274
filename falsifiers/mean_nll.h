// The mean negative log likelihood of a pack's windows on one backend.
#pragma once

#include "engine/backend.h"
#include "engine/model.h"
#include "falsifiers/oracle_pack.h"
#include "kernels/result.h"

namespace refute {

// In nats a token, over every token but the first of every window; each window is a sequence of its
// own.
Result<double> mean_nll(const Backend& backend, const Model& model,
                        const NllExpectation& expectation);

}  // namespace refute
