// Claim: a session that the device has no memory for is refused as OutOfMemory, with the bytes that
//   it needs and those that there are, before a byte of the weights is uploaded; a session that
//   fits opens afterwards.
// Why it must hold: an upload of many GB that ends in a failed allocation costs minutes and leaves
//   memory taken.
// Catches: checks of the weights alone, or none at all; a need that is not what is allocated.
// Misses: memory that another process takes between the check and the allocation.
// Source: AC_GPU_MOE_016.
#include "falsifiers/memory_refuses_what_does_not_fit.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "engine/backend.h"
#include "falsifiers/judge.h"
#include "falsifiers/synthetic_model.h"
#include "kernels/check.h"

namespace refute {
namespace {

// Of 700 bytes each in the synthetic model: more than any device has.
constexpr std::size_t kTooManyPositions = std::size_t{1} << 30;
constexpr std::size_t kFewPositions = 64;
// Enough rows that the weights show among the bytes held: tens of MB.
constexpr std::size_t kVocabSize = 65536;

constexpr std::array<MetricInfo, 1> kMetrics = {{
    {"bytes_left_behind", "bytes held after a refusal that were not held before; fewer than one",
     false, 0.5},
}};

constexpr std::array<BackendId, 1> kBackends = {BackendId::kCuda};

// The number that a text starts with; 0 when it starts with none.
double leading_number(const std::string& text) { return std::strtod(text.c_str(), nullptr); }

void judge_refusal(const Error& error, Judge* judge) {
  if (error.kind != ErrorKind::kOutOfMemory) {
    judge->refute("the refusal is no OutOfMemory: " + error.message());
    return;
  }
  const double needed = leading_number(error.expected);
  const double free = leading_number(error.found);
  if (!(needed > free)) {
    judge->refute("a refusal that does not say how the need is above what is free: " +
                  error.message());
  }
}

}  // namespace

Verdict falsify_memory_refuses_what_does_not_fit(const Subject& subject,
                                                 const Criterion& criterion) {
  Judge judge(kMetrics, criterion);
  SynthOptions options = synthetic_options(SyntheticShape::kWide, criterion.seed);
  options.config.vocab_size = kVocabSize;
  options.config.max_position_embeddings = kTooManyPositions;
  const auto file = SyntheticFile::make(options);
  CHECK(file);
  const auto model = file->load();
  CHECK(model);
  const Backend& backend = subject.backend;
  // Weights of an earlier session may be kept: a small model takes their place, so that what is
  // held before is little.
  const auto small = SyntheticFile::make(synthetic_options(SyntheticShape::kWide, criterion.seed));
  CHECK(small);
  const auto small_model = small->load();
  CHECK(small_model);
  if (const auto session = backend.open_session(*small_model, kFewPositions); !session) {
    return Verdict::error(session.error().message());
  }
  const auto before = backend.memory_held();
  if (!before) return Verdict::not_run(backend.description() + " has no memory of its own");
  const auto too_large = backend.open_session(*model, kTooManyPositions);
  if (too_large) {
    judge.refute("a session of 2^30 positions was opened");
    return judge.verdict();
  }
  judge_refusal(too_large.error(), &judge);
  const std::size_t after = backend.memory_held().value_or(0);
  const std::size_t left = after > *before ? after - *before : 0;
  const bool clean =
      judge.measure("bytes_left_behind", static_cast<double>(left),
                    std::to_string(*before) + " bytes before, " + std::to_string(after) + " after");
  auto session = backend.open_session(*model, kFewPositions);
  const std::vector<std::int32_t> tokens = {1, 2, 3};
  if (!session) {
    judge.refute("a session that fits was refused after one that does not: " +
                 session.error().message());
  } else if (const auto logits = (*session)->forward(tokens, {}); !logits) {
    judge.refute("a session that fits fails after one that does not: " + logits.error().message());
  }
  judge.count_case(!clean);
  return judge.verdict();
}

const FalsifierInfo& memory_refuses_what_does_not_fit_info() {
  static constexpr FalsifierInfo kInfo = {
      .id = "memory.refuses_what_does_not_fit",
      .claim =
          "A session that the device has no memory for is refused before anything is uploaded, "
          "with what it needs and what there is.",
      .why = "An upload that ends in a failed allocation costs minutes and leaves memory taken.",
      .catches = "Checks of the weights alone, or none.",
      .misses = "Memory that another process takes between the check and the allocation.",
      .source = "AC_GPU_MOE_016.",
      .metrics = kMetrics,
      .backends = kBackends,
      .needs_model = false,
      .needs_pack = false,
      .falsify = falsify_memory_refuses_what_does_not_fit,
  };
  return kInfo;
}

}  // namespace refute
