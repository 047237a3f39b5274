// What every test of a falsifier shows: held on the real backends, refuted on a broken one.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/backend.h"
#include "falsifiers/falsifier.h"
#include "falsifiers/property.h"

namespace refute {

inline Verdict run_falsifier(const FalsifierInfo& info, const Backend& backend,
                             const Model* model = nullptr, const Criterion& criterion = {}) {
  return info.falsify(Subject{backend, model, nullptr}, criterion);
}

// On the emulated oracle (which any fast backend's claims fit) and on every real backend that the
// falsifier lists, every metric measured.
inline void expect_held(const FalsifierInfo& info, const Model* model = nullptr) {
  auto context = cpu::Context::create(2);
  ASSERT_TRUE(context) << context.error().message();
  std::vector<std::unique_ptr<Backend>> backends;
  backends.push_back(make_oracle_backend(ActivationScheme::kEmulatedInt8));
  backends.push_back(make_cpu_backend(*std::move(context)));
  if (std::ranges::find(info.backends, BackendId::kOracle) != info.backends.end()) {
    backends.push_back(make_oracle_backend(ActivationScheme::kExact));
  }
  for (const auto& backend : backends) {
    const Verdict verdict = run_falsifier(info, *backend, model);
    EXPECT_TRUE(verdict.held()) << backend->description() << ": " << verdict.reason << " ["
                                << verdict.counterexample << "] " << verdict.replay_token;
    EXPECT_EQ(verdict.metrics.size(), info.metrics.size());
    EXPECT_GT(verdict.cases_run, 0u);
  }
}

// Refuted by `metric` (or by a counterexample outside of any metric when it is empty), and the
// replay token repeats it.
inline void expect_refuted(const FalsifierInfo& info, const Backend& broken,
                           std::string_view metric, const Model* model = nullptr) {
  const Verdict verdict = run_falsifier(info, broken, model);
  EXPECT_EQ(verdict.kind, VerdictKind::kRefuted) << verdict.reason;
  EXPECT_FALSE(verdict.counterexample.empty());
  if (!metric.empty()) {
    const auto reading = std::ranges::find(verdict.metrics, metric, &MetricReading::metric);
    ASSERT_NE(reading, verdict.metrics.end()) << metric;
    EXPECT_FALSE(reading->passed()) << metric << " " << reading->worst << ": " << verdict.reason;
  }
  Criterion replay;
  replay.replay = verdict.replay_token;
  const Verdict again = run_falsifier(info, broken, model, replay);
  EXPECT_EQ(again.kind, VerdictKind::kRefuted) << verdict.replay_token << ": " << again.reason;
  EXPECT_EQ(again.cases_run, 1u);
}

}  // namespace refute
