#include "validators/contract_keys.h"

namespace refute {

std::span<const KeyInfo> contract_keys() {
  static constexpr KeyInfo kKeys[] = {
      {"id", ValueType::kId, true, "Names the contract; records bind to it."},
      {"version", ValueType::kVersion, true, "MAJOR.MINOR.PATCH; records bind to it."},
      {"kind", ValueType::kText, false,
       "What the contract is about: kernel, layer, model, format."},
      {"status", ValueType::kStatus, false,
       "The claimed status of the whole contract; an error when above the derived one."},
      {"description", ValueType::kText, true, "What must hold, for people."},
      {"references", ValueType::kTextList, false, "Papers, issues and files it rests on."},
      {"depends_on", ValueType::kTextList, false, "Ids of contracts it builds on."},
      {"shapes", ValueType::kShapes, false, "Constraints on the dimensions it speaks of."},
      {"stages", ValueType::kStages, true, "The steps to get there, each with a derived status."},
      {"acceptance", ValueType::kAcceptance, true, "The predictions."},
      {"falsifiers", ValueType::kFalsifiers, true, "What tries to break them."},
  };
  return kKeys;
}

std::span<const KeyInfo> stage_keys() {
  static constexpr KeyInfo kKeys[] = {
      {"id", ValueType::kId, true, "Names the stage."},
      {"title", ValueType::kText, true, "What is there once the stage is discharged."},
      {"needs", ValueType::kIdList, false, "Acceptance ids that must hold."},
      {"backends", ValueType::kBackendList, false,
       "Only evidence on these counts; by default on all that the falsifiers list."},
      {"evidence", ValueType::kEvidence, false,
       "`validation`: the stage needs no run, only that this contract is valid."},
      {"after", ValueType::kTextList, false, "Ids of stages that come first."},
      {"status", ValueType::kStatus, false,
       "The claimed status; an error when above the derived one."},
      {"description", ValueType::kText, false, "More about it, for people."},
  };
  return kKeys;
}

std::span<const KeyInfo> acceptance_keys() {
  static constexpr KeyInfo kKeys[] = {
      {"id", ValueType::kId, true, "Names the criterion."},
      {"property", ValueType::kText, true, "One sentence."},
      {"formal", ValueType::kText, true, "The same as a formula."},
  };
  return kKeys;
}

std::span<const KeyInfo> falsifier_keys() {
  static constexpr KeyInfo kKeys[] = {
      {"id", ValueType::kId, true, "Names this use of a falsifier; records bind to it."},
      {"falsifier", ValueType::kId, true, "The registered name of the code that runs."},
      {"acceptance", ValueType::kIdList, true, "The criteria that it tries to break."},
      {"backends", ValueType::kBackendList, true, "Where it must hold."},
      {"subjects", ValueType::kIdList, true,
       "Models: embedded, packs, synthetic, or the path of a GGUF file."},
      {"cases", ValueType::kCount, false, "Property cases per property; 100 by default."},
      {"gates", ValueType::kGates, false,
       "Bounds by metric; a metric that is not named has its compiled ceiling."},
      {"must_kill", ValueType::kIdList, true, "Fault ids that it must refute when seeded."},
      {"blind_to", ValueType::kReasons, false, "Fault ids that it cannot see, and why."},
      {"if_refuted", ValueType::kText, true, "Where to look first."},
  };
  return kKeys;
}

std::span<const std::string_view> dialect_keys() {
  static constexpr std::string_view kKeys[] = {
      "metadata",
      "equations",
      "proof_obligations",
      "falsification_tests",
      "kernel_structure",
      "simd_dispatch",
      "enforcement",
      "kani_harnesses",
      "qa_gate",
      "implementation_stages",
      "amendment_history",
      "binds_to",
      "name",
      "version",
      "kind",
      "status",
      "scope",
      "target_crate",
      "bindings",
  };
  return kKeys;
}

std::span<const std::string_view> shape_symbols() {
  static constexpr std::string_view kSymbols[] = {
      "hidden_size",
      "num_hidden_layers",
      "num_attention_heads",
      "num_key_value_heads",
      "head_dim",
      "num_experts",
      "num_experts_per_tok",
      "moe_intermediate_size",
      "vocab_size",
      "max_position_embeddings",
      "num_tokens",
      "position",
      "kv_len",
  };
  return kSymbols;
}

std::span<const std::string_view> shape_relations() {
  static constexpr std::string_view kRelations[] = {"eq", "ge",          "le",     "gt",
                                                    "lt", "multiple_of", "divides"};
  return kRelations;
}

std::vector<std::string_view> key_names(std::span<const KeyInfo> keys) {
  std::vector<std::string_view> names;
  names.reserve(keys.size());
  for (const KeyInfo& key : keys) names.push_back(key.name);
  return names;
}

}  // namespace refute
