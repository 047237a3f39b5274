// Falsifiers of whole synthetic models against backends whose sessions are faulty.
#pragma once

#include <gtest/gtest.h>

#include <string_view>
#include <utility>

#include "tests/falsifiers/broken_session.h"
#include "tests/falsifiers/falsifier_expectations.h"
#include "tests/falsifiers/pack_fixture.h"

namespace refute {

// Refuted by `metric` around the CPU backend, and the replay token repeats it.
inline void expect_faults_refuted(const FalsifierInfo& info, SessionFaults faults,
                                  std::string_view metric, const Model* model = nullptr) {
  const auto cpu = cpu_backend();
  expect_refuted(info, FaultySessionBackend(*cpu, std::move(faults)), metric, model);
}

// The same around the exact oracle.
inline void expect_oracle_faults_refuted(const FalsifierInfo& info, SessionFaults faults,
                                         std::string_view metric, const Model* model = nullptr) {
  const auto oracle = exact_oracle();
  expect_refuted(info, FaultySessionBackend(*oracle, std::move(faults)), metric, model);
}

}  // namespace refute
