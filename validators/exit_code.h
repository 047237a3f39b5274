// The exit codes of every command.
#pragma once

namespace refute {

enum class ExitCode : int {
  kHeld = 0,
  kRefutedOrInvalid = 1,   // A claim was refuted, or a contract is invalid.
  kUsageOrUnreadable = 2,  // Wrong usage, or input that cannot be read.
  kInternal = 3,           // A fault of the tool itself.
  kNothingSelected = 4,    // Nothing was selected: an empty run is never a pass.
  kRequiredNotRun = 5,     // Something required was skipped, not run or stale.
  kInterrupted = 130,
};

}  // namespace refute
