#include "falsifiers/registry.h"

#include <algorithm>
#include <vector>

#include "falsifiers/activation_quantization_matches_definition.h"
#include "falsifiers/attention_closed_forms.h"
#include "falsifiers/attention_matches_float64.h"
#include "falsifiers/decode_replay_equals_launches.h"
#include "falsifiers/dequantize_matches_textbook.h"
#include "falsifiers/determinism_repeats.h"
#include "falsifiers/determinism_threads.h"
#include "falsifiers/determinism_traced_equals_untraced.h"
#include "falsifiers/expert_matches_emulated_oracle.h"
#include "falsifiers/expert_power_of_two.h"
#include "falsifiers/fidelity_local_stages.h"
#include "falsifiers/fidelity_logits.h"
#include "falsifiers/forward_chained_parity.h"
#include "falsifiers/forward_chunked_prefill.h"
#include "falsifiers/forward_closed_forms.h"
#include "falsifiers/forward_cosine_per_row.h"
#include "falsifiers/forward_decode_equals_prefill.h"
#include "falsifiers/forward_finite.h"
#include "falsifiers/forward_is_causal.h"
#include "falsifiers/forward_local_parity.h"
#include "falsifiers/forward_matches_textbook.h"
#include "falsifiers/forward_output_dimensions.h"
#include "falsifiers/forward_row_alone_equals_batch.h"
#include "falsifiers/gguf_layout_byte_counts.h"
#include "falsifiers/greedy_continues_identically.h"
#include "falsifiers/kv_cache_overflow_is_error.h"
#include "falsifiers/matmul_byte_influence.h"
#include "falsifiers/matmul_matches_emulated_oracle.h"
#include "falsifiers/matmul_one_hot_reads_columns.h"
#include "falsifiers/matmul_row_alone_equals_batch.h"
#include "falsifiers/memory_fits_device.h"
#include "falsifiers/memory_refuses_what_does_not_fit.h"
#include "falsifiers/metadata_required_keys.h"
#include "falsifiers/moe_byte_influence.h"
#include "falsifiers/moe_invariances.h"
#include "falsifiers/moe_matches_emulated_oracle.h"
#include "falsifiers/moe_shards_sum_to_whole.h"
#include "falsifiers/nll_fast_within_budget.h"
#include "falsifiers/nll_oracle_matches_expectation.h"
#include "falsifiers/oracle_pack_trace_points.h"
#include "falsifiers/provenance_executed_backend.h"
#include "falsifiers/rms_norm_closed_form_near_epsilon.h"
#include "falsifiers/rms_norm_matches_float64.h"
#include "falsifiers/rope_matches_golden.h"
#include "falsifiers/router_matches_float64.h"
#include "falsifiers/router_order_and_ties.h"
#include "falsifiers/router_pairs_weights_with_ids.h"
#include "falsifiers/router_rejects_non_finite.h"
#include "falsifiers/router_renormalises_top_k.h"
#include "falsifiers/router_shift_invariant.h"
#include "falsifiers/router_weights_sum_to_one.h"
#include "falsifiers/session_ends_at_context.h"
#include "falsifiers/session_resets_cleanly.h"
#include "falsifiers/shape_rejects_bad_arguments.h"
#include "falsifiers/swiglu_goldens.h"
#include "falsifiers/swiglu_matches_float64.h"
#include "falsifiers/throughput_share_of_bandwidth.h"
#include "falsifiers/trace_points_complete_and_ordered.h"

namespace refute {

std::span<const FalsifierInfo> falsifier_registry() {
  // One line a falsifier, sorted by id.
  static const std::vector<FalsifierInfo> registry = {
      activation_quantization_matches_definition_info(),
      attention_closed_forms_info(),
      attention_matches_float64_info(),
      decode_replay_equals_launches_info(),
      dequantize_matches_textbook_info(),
      determinism_repeats_info(),
      determinism_threads_info(),
      determinism_traced_equals_untraced_info(),
      expert_matches_emulated_oracle_info(),
      expert_power_of_two_info(),
      fidelity_local_stages_info(),
      fidelity_logits_info(),
      forward_chained_parity_info(),
      forward_chunked_prefill_info(),
      forward_closed_forms_info(),
      forward_cosine_per_row_info(),
      forward_decode_equals_prefill_info(),
      forward_finite_info(),
      forward_is_causal_info(),
      forward_local_parity_info(),
      forward_matches_textbook_info(),
      forward_output_dimensions_info(),
      forward_row_alone_equals_batch_info(),
      gguf_layout_byte_counts_info(),
      greedy_continues_identically_info(),
      kv_cache_overflow_is_error_info(),
      matmul_byte_influence_info(),
      matmul_matches_emulated_oracle_info(),
      matmul_one_hot_reads_columns_info(),
      matmul_row_alone_equals_batch_info(),
      memory_fits_device_info(),
      memory_refuses_what_does_not_fit_info(),
      metadata_required_keys_info(),
      moe_byte_influence_info(),
      moe_invariances_info(),
      moe_matches_emulated_oracle_info(),
      moe_shards_sum_to_whole_info(),
      nll_fast_within_budget_info(),
      nll_oracle_matches_expectation_info(),
      oracle_pack_trace_points_info(),
      provenance_executed_backend_info(),
      rms_norm_closed_form_near_epsilon_info(),
      rms_norm_matches_float64_info(),
      rope_matches_golden_info(),
      router_matches_float64_info(),
      router_order_and_ties_info(),
      router_pairs_weights_with_ids_info(),
      router_rejects_non_finite_info(),
      router_renormalises_top_k_info(),
      router_shift_invariant_info(),
      router_weights_sum_to_one_info(),
      session_ends_at_context_info(),
      session_resets_cleanly_info(),
      shape_rejects_bad_arguments_info(),
      swiglu_goldens_info(),
      swiglu_matches_float64_info(),
      throughput_share_of_bandwidth_info(),
      trace_points_complete_and_ordered_info(),
  };
  return registry;
}

const FalsifierInfo* find_falsifier(std::string_view id) {
  const auto registry = falsifier_registry();
  const auto found = std::ranges::find(registry, id, &FalsifierInfo::id);
  return found == registry.end() ? nullptr : &*found;
}

}  // namespace refute
