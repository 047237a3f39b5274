#include "validators/catalogue_words.h"

namespace refute {

std::vector<CatalogueEntry> backend_words() {
  return {
      {"backend", "oracle", "float64 and plain loops: the reference", {}},
      {"backend", "cpu", "int8 activations, SIMD chosen at run time, threads", {}},
      {"backend", "cuda", "NVIDIA GPUs; not in this build", {}},
      {"backend", "wgpu", "GPUs through WebGPU; not in this build", {}},
  };
}

std::vector<CatalogueEntry> status_meanings() {
  const char* const kNext = "what gets it further";
  return {
      {"status",
       "PENDING",
       "an acceptance that the stage needs has no record",
       {{kNext, "refute run with the backends that its falsifiers list"}}},
      {"status",
       "REFUTED",
       "a falsifier that the stage needs was tried and did not hold",
       {{kNext, "mend what the reason names, then refute run"}}},
      {"status",
       "STALE",
       "records exist, but of another contract, falsifier block, source tree or set of "
       "expectations",
       {{kNext, "refute run again"}}},
      {"status",
       "PARTIAL",
       "every acceptance has a record, but some backend that a falsifier lists has none",
       {{kNext, "refute run --backend with the one that is missing"}}},
      {"status",
       "DISCHARGED",
       "every falsifier that the stage needs held on every backend, and all hashes match; or the "
       "stage is proved by validation and its contract validates",
       {{kNext, "discharge the stages it comes after"}}},
      {"status", "SHIPPED", "discharged, and every stage it comes after is shipped", {}},
  };
}

std::vector<CatalogueEntry> verdict_words() {
  return {
      {"verdict",
       "held",
       "tried at least once, and every gate was met; the only one that passes",
       {}},
      {"verdict", "refuted", "a gate was broken, or a counterexample found", {}},
      {"verdict",
       "gave_up",
       "the generator could not meet its guard often enough, so nothing was shown",
       {}},
      {"verdict", "not_run", "not tried; the reason says why", {}},
      {"verdict", "error", "the attempt itself failed, so nothing was shown", {}},
  };
}

std::vector<CatalogueEntry> exit_code_words() {
  return {
      {"exit-code", "0", "everything required held", {}},
      {"exit-code", "1", "something was refuted or gave up, or a contract is invalid", {}},
      {"exit-code", "2", "wrong usage, or input that cannot be read", {}},
      {"exit-code", "3", "an attempt itself failed or ran out of time: a fault of the tool", {}},
      {"exit-code", "4", "nothing was selected: an empty run is never a pass", {}},
      {"exit-code", "5", "something required was skipped, not run or stale", {}},
      {"exit-code", "130", "interrupted", {}},
  };
}

}  // namespace refute
