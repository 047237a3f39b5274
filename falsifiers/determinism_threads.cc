// Claim: the CPU backend gives the same bits with 1, 2 and 3 threads and on every instruction set
//   that this machine has, at every trace point, as the subject does.
// Why it must hold: every output element is computed by one thread in one documented order
//   (kernels/*.h), and no instruction set contracts or reorders.
// Catches: reductions over threads, tiles that depend on the number of threads, a vector kernel
//   that adds in another order, saturates or rounds differently from the portable one.
// Misses: instruction sets that this machine lacks; the note says which were tried.
// Source: comparison class E.
#include "falsifiers/determinism_threads.h"

#include <array>
#include <string>
#include <utility>

#include "engine/backend.h"
#include "falsifiers/parity.h"
#include "falsifiers/traced_run.h"
#include "kernels/cpu/context.h"

namespace refute {
namespace {

constexpr std::size_t kNumTokens = 24;
constexpr std::array<std::size_t, 3> kThreads = {1, 2, 3};

constexpr std::array<MetricInfo, 1> kMetrics = {{kDifferingElements}};
constexpr std::array kBackends = {BackendId::kCpu};

}  // namespace

Verdict falsify_determinism_threads(const Subject& subject, const Criterion& criterion) {
  Judge judge(kMetrics, criterion);
  const Config& config = subject.model->config();
  const auto tokens = random_tokens(config, criterion.seed, kNumTokens);
  const auto expected = run_traced(subject.backend, *subject.model, tokens);
  if (!expected) {
    judge_subject_error(expected.error(), "forward", &judge);
    return judge.verdict();
  }
  std::string tried = "tried:";
  for (const cpu::Isa isa : cpu::supported_isas()) {
    for (const std::size_t threads : kThreads) {
      if (judge.is_settled()) break;
      auto context = cpu::Context::create(threads, isa);
      if (!context) {
        judge_reference_error(context.error(), cpu::isa_name(isa), &judge);
        continue;
      }
      const auto backend = make_cpu_backend(std::move(*context));
      const std::string where = backend->description();
      tried += " " + where;
      const auto run = run_traced(*backend, *subject.model, tokens);
      if (!run) {
        judge_subject_error(run.error(), where, &judge);
        continue;
      }
      measure_differing_elements(config, *expected, *run, tokens.size(), "differing_elements",
                                 where, &judge);
    }
  }
  judge.note(tried);
  return judge.verdict();
}

const FalsifierInfo& determinism_threads_info() {
  static constexpr FalsifierInfo kInfo = {
      .id = "determinism.threads",
      .claim =
          "The CPU backend gives the same bits with 1, 2 and 3 threads and on every instruction "
          "set of this machine.",
      .why = "Every output element is computed by one thread in one documented order.",
      .catches =
          "Reductions over threads, vector kernels that add in another order or round differently.",
      .misses = "Instruction sets that this machine lacks.",
      .source = "Comparison class E.",
      .metrics = kMetrics,
      .backends = kBackends,
      .needs_model = true,
      .needs_pack = false,
      .falsify = falsify_determinism_threads,
  };
  return kInfo;
}

}  // namespace refute
