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
