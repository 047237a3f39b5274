// Claim: Keys or values that do not fit into the float16 cache (a gain of k_norm, one element of it
//   alone too, down to a single key, or v_proj times 2^40) are a NonFinite error of the forward
//   pass that leaves the session's length, and never a finite answer; k_norm times 100 fits and is
//   answered.
// Why: Float16 ends at 65504. An Inf in a key can make a score of -Inf, which softmax turns into a
//   weight of 0: attention silently forgets that position.
// Catches: A cache that overflows without a check, one that saturates, and a session that counts
//   the token all the same.
// Misses: Values that lose precision before they overflow.
// Source: Fault 101 of the catalogue; kernels/attention.h.
#include "falsifiers/kv_cache_overflow_is_error.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <string>
#include <string_view>

#include "engine/backend.h"
#include "falsifiers/judge.h"
#include "falsifiers/parity.h"
#include "falsifiers/property.h"
#include "falsifiers/synthetic_run.h"

namespace refute {
namespace {

constexpr std::string_view kId = "kv_cache.overflow_is_error";

constexpr std::array<MetricInfo, 2> kMetrics = {{
    {"finite_answers", "Overflows that are answered, or count as positions; fewer than one.", false,
     0.5},
    {"refused", "Large keys that fit and are refused; fewer than one.", false, 0.5},
}};

constexpr float kFits = 100.0f;
constexpr float kTooLarge = 0x1p40f;
constexpr double kLeastInf = 65520.0;  // The least number that float16 rounds to Inf.

// Multiplies one element of a norm of F32.
SyntheticFile::TensorChange one_element_times(std::size_t index, float factor) {
  return [=](TensorType, std::span<std::byte> bytes) {
    float value = 0.0f;
    std::memcpy(&value, bytes.data() + index * sizeof(value), sizeof(value));
    value *= factor;
    std::memcpy(bytes.data() + index * sizeof(value), &value, sizeof(value));
  };
}

enum class Site { kOneGain, kAllGains, kValues, kOneKey };
// The last one is what goes unnoticed, every second or third time.
constexpr std::array<Site, 6> kSites = {Site::kAllGains, Site::kOneGain, Site::kValues,
                                        Site::kOneKey,   Site::kOneKey,  Site::kOneKey};
std::string site_name(Site site) {
  switch (site) {
    case Site::kOneGain:
      return "one element of k_norm";
    case Site::kAllGains:
      return "k_norm";
    case Site::kValues:
      return "v_proj";
    case Site::kOneKey:
      return "one element of k_norm, for one position";
  }
  return "unknown";
}

SyntheticFile enlarged(const SyntheticFile& file, Site site, std::size_t element, float factor) {
  switch (site) {
    case Site::kOneGain:
    case Site::kOneKey:
      return file.with_tensor(TensorRole::kKNorm, 0, one_element_times(element, factor)).value();
    case Site::kAllGains:
      return file.with_tensor(TensorRole::kKNorm, 0, multiplied_by(factor)).value();
    case Site::kValues:
      break;
  }
  return file.with_tensor(TensorRole::kVProj, 0, multiplied_by(factor)).value();
}

double largest_of(const Matrix<double>& keys) {
  double largest = 0.0;
  for (const double key : keys.flat()) largest = std::max(largest, std::abs(key));
  return largest;
}

void overflow(const Backend& backend, PropertyCase& property_case) {
  // With a single head no other one makes an Inf of the other sign, and so a NaN.
  SynthOptions options = synthetic_options(SyntheticShape::kNarrow, property_case.seed("model"));
  options.config.num_attention_heads = options.config.num_key_value_heads = 1;
  options.config.head_dim = 32;
  const SyntheticFile file = SyntheticFile::make(options).value();
  const Site site = property_case.pick("site", kSites, site_name);
  const std::size_t element = property_case.integer("element", 0, 31);
  const std::size_t num_tokens = property_case.integer("num_tokens", 1, 9);
  const std::uint64_t seed = property_case.seed("tokens");
  const std::string name = site_name(site);

  const SyntheticFile large = enlarged(file, site, element, kFits);
  const Model fitting = large.load().value();
  const auto tokens = random_tokens(fitting.config(), seed, num_tokens);
  const auto control = run_traced(backend, fitting, tokens);
  property_case.measure("refused", control ? 0.0 : 1.0,
                        name + " times 100" + (control ? "" : ": " + control.error().message()));
  if (!control || !require_all_traced(fitting.config(), *control, property_case)) return;

  float factor = kTooLarge;
  if (site == Site::kOneKey) {
    // The largest key times 100 is mostly the enlarged element, so that another factor of 1.05 past
    // what fits makes it an Inf, and those next to it not.
    const double largest = largest_of(control->trace.at({TracePoint::kKRope, 0}).values);
    if (largest < 100.0) return property_case.discard();
    factor = static_cast<float>(1.05 * kLeastInf / largest) * kFits;
    if (num_tokens > 1) property_case.mark_interesting();
  }
  const Model model = enlarged(file, site, element, factor).load().value();
  const auto session = backend.open_session(model, num_tokens);
  if (!property_case.require_ok(session, "open_session")) return;
  const auto logits = (*session)->forward(tokens, {});
  const bool refused =
      !logits && logits.error().kind == ErrorKind::kNonFinite && (*session)->length() == 0;
  property_case.measure("finite_answers", refused ? 0.0 : 1.0,
                        name + " times " + std::to_string(factor));
}

}  // namespace

Verdict falsify_kv_cache_overflow_is_error(const Subject& subject, const Criterion& criterion) {
  Judge judge(kMetrics, criterion);
  check_property({kId, "overflow", 0.2}, with_fewer_cases(criterion, 4), &judge,
                 [&](PropertyCase& property_case) { overflow(subject.backend, property_case); });
  return judge.verdict();
}

const FalsifierInfo& kv_cache_overflow_is_error_info() {
  static const FalsifierInfo info = {
      .id = kId,
      .claim =
          "Keys or values that do not fit into the float16 cache are a NonFinite error of the "
          "forward pass that leaves the session's length, never a finite answer; k_norm times 100 "
          "fits and is answered.",
      .why =
          "Float16 ends at 65504. An Inf in a key can make a score of -Inf, which softmax turns "
          "into a weight of 0: attention silently forgets that position.",
      .catches =
          "A cache that overflows without a check, one that saturates, and a session that counts "
          "the token all the same.",
      .misses = "Values that lose precision before they overflow.",
      .source = "Fault 101 of the catalogue; kernels/attention.h.",
      .metrics = kMetrics,
      .backends = kFastBackends,
      .needs_model = false,
      .needs_pack = false,
      .falsify = falsify_kv_cache_overflow_is_error,
  };
  return info;
}

}  // namespace refute
