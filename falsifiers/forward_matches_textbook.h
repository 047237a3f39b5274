// forward.matches_textbook: see the first comment of the source file.
#pragma once

#include "falsifiers/falsifier.h"

namespace refute {

Verdict falsify_forward_matches_textbook(const Subject& subject, const Criterion& criterion);

const FalsifierInfo& forward_matches_textbook_info();

}  // namespace refute
