// Which trace points of a run are kept: by name and by layer.
#pragma once

#include <cstddef>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "engine/trace.h"
#include "kernels/result.h"

namespace refute {

class TraceSelection {
 public:
  // `points` are globs over a point's name ("expert_*") or a site's ("blk.3.moe_out"), `layers`
  // numbers and ranges ("0", "4-7"); none of either selects all. With layers given, points outside
  // of layers are left out. kUnsupported, with a suggestion, for a glob that fits nothing, and for
  // layers that are none of the model's.
  static Result<TraceSelection> create(std::span<const std::string> points,
                                       std::span<const std::string> layers,
                                       std::size_t num_hidden_layers);

  bool contains(TraceSite site) const { return sites_.contains(site); }
  std::size_t size() const { return sites_.size(); }
  const std::set<TraceSite>& sites() const { return sites_; }

 private:
  std::set<TraceSite> sites_;
};

}  // namespace refute
