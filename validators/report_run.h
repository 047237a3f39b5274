// What `refute run` prints.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "validators/report.h"
#include "validators/run.h"

namespace refute {

struct RunReport {
  std::span<const Contract> contracts;
  std::vector<Outcome> outcomes;
  std::vector<WaivedItem> waived;
  std::string subject;  // Name of the model.
  std::string subject_sha256;
  std::string expectations;           // Name of the pack, or why there is none.
  std::vector<std::string> backends;  // Descriptions of those that there are.
  std::uint64_t seed = 0;
  std::uint64_t duration_us = 0;
  std::string record;  // File written; empty when none was.
  // What a command has to say to get the same subject: " --subject M.gguf", or nothing.
  std::string subject_arguments;
  bool has_pack = false;
};

std::string render_run(const RunReport& report, Format format, Style style);

// "47 of 61 criteria held, 0 refuted, 14 not run (cuda 9, wgpu 5)": every criterion on every
// backend that its contract lists, whatever the options left out.
std::string run_summary(const RunReport& report);
// Cases that were tried, of all results that were computed; and how many a second of computing.
std::size_t cases_run(const RunReport& report);
double cases_per_second(const RunReport& report);

// What the run says nothing about, one line each.
std::vector<std::string> stays_unverified(const RunReport& report);

}  // namespace refute
