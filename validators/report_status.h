// What `refute status` prints: the stage board.
#pragma once

#include <span>
#include <string>

#include "validators/report.h"
#include "validators/status.h"

namespace refute {

std::string render_status(const StatusBoard& board, std::span<const Contract> contracts,
                          Format format, Style style);

// "12 stages: 3 SHIPPED, 4 DISCHARGED, 2 PARTIAL, 0 STALE, 0 REFUTED, 3 PENDING", of one contract
// or of all when it is null.
std::string status_summary(const StatusBoard& board, const Contract* contract);

}  // namespace refute
