#include "validators/mutant_catalogue.h"

namespace refute {

std::span<const MutantInfo> mutant_catalogue() {
  static constexpr MutantInfo kMutants[] = {
      {"G1", "a threshold times 100",
       "rule RF409 in a contract; in the code, against the threshold of the kill matrix"},
      {"G2", "> for < in a gate", "every reading without a fault fails the turned gate"},
      {"G3", "NaN in a result", "no metric of any falsifier holds on NaN; comparisons refuse it"},
      {"G4", "an empty tensor", "comparisons refuse it; no falsifier holds on no case"},
      {"G5", "both inputs are the same buffer", "comparisons refuse it"},
      {"G6", "the reference is computed by the code under test",
       "the falsifier kills nothing any more, and the kill matrix loses its kills"},
      {"G7", "an exception is swallowed", "the attempt is an error and the run exits non-zero"},
      {"G8", "the process is killed by a signal, or hangs",
       "the attempt crashed or timed out, which is no verdict and no kill"},
      {"G9", "a skip counts as a pass", "not_run is not held, and the run exits with 5"},
      {"G10", "zero cases", "a property without a case gives up; rule RF406 in a contract"},
      {"G11", "evidence of another contract file", "the record is stale: other bytes"},
      {"G12", "a stale record",
       "the record is stale: other sources, another block, or fewer cases"},
      {"C1", "a required field is dropped", "an error with line and column"},
      {"C2", "a key is written twice", "an error with line and column"},
      {"C3", "a tolerance of .inf", "RF408 at the number"},
      {"C4", "a tolerance of .nan", "RF408 at the number"},
      {"C5", "a negative tolerance", "RF408 at the number"},
      {"C6", "a tolerance of 1e9", "RF409 or RF410 at the number"},
      {"C7", "a tolerance that is a text", "RF408 at the text"},
      {"C8", "an unknown falsifier", "RF401 at the name"},
      {"C9", "an unknown stage", "an error at the name"},
      {"C10", "a shape of 0", "RF203 at the number"},
      {"C11", "an alias that contains itself", "an error at the alias"},
  };
  return kMutants;
}

}  // namespace refute
