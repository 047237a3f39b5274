include(falsifiers/op_tests.cmake)
include(falsifiers/model_tests.cmake OPTIONAL)
refute_test(falsifiers
  falsifiers/fault_catalogue_test.cc
  falsifiers/memory_fits_device_test.cc
  falsifiers/memory_refuses_what_does_not_fit_test.cc
  falsifiers/throughput_share_of_bandwidth_test.cc
  ${REFUTE_OP_FALSIFIER_TESTS}
  ${REFUTE_MODEL_FALSIFIER_TESTS}
)
target_link_libraries(falsifiers_tests PRIVATE falsifiers rapidcheck)
# gcc 12 at -O1 takes the destructor of a Result that is never an error for one of a string on the stack.
set_source_files_properties(
  falsifiers/stage_replay_test.cc falsifiers/trace_comparison_test.cc falsifiers/traced_run_test.cc
  PROPERTIES COMPILE_OPTIONS -Wno-free-nonheap-object)
