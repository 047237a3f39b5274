// A backend under observation: every call is passed on, and what came back is kept account of for
// the record. Falsifiers cannot tell it from the backend itself, and need not do anything for it.
#pragma once

#include <cstddef>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "engine/backend.h"
#include "validators/sha256.h"

namespace refute {

// What was seen of one falsifier's attempt.
class WitnessLog {
 public:
  // Raw float64 outputs, in the order of the calls.
  void saw(std::span<const double> outputs);
  // The backends that one call of a session names for its layers.
  void saw_layers(std::span<const BackendId> executed);

  // Of all outputs; empty when there was none.
  std::string outputs_sha256() const;
  // One entry a layer: "cpu", or "cpu+oracle" where calls differ. Empty when no session ran.
  std::vector<std::string> executed() const;

 private:
  Sha256 hash_;
  bool any_ = false;
  std::vector<std::set<BackendId>> layers_;
};

// Borrows both, which must outlive it and its sessions.
std::unique_ptr<Backend> make_witness(const Backend& backend, WitnessLog& log);

}  // namespace refute
