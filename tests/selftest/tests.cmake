# The selftest, in the build with fault sites.
if(REFUTE_FAULTS)
  refute_test(selftest
    selftest/attempts_test.cc
    selftest/cli_selftest_test.cc
    selftest/compare_names_fault_test.cc
    selftest/selftest_test.cc
    selftest/worker_pool_test.cc
  )
  target_link_libraries(selftest_tests PRIVATE selftest)
  target_compile_definitions(selftest_tests PRIVATE REFUTE_BINARY="$<TARGET_FILE:refute-selftest>")
  add_dependencies(selftest_tests refute-selftest)

  # The whole matrix, measured again and held against the committed one: fails when a fault survives
  # or is not reached, when an equivalent one is refuted, and when any kill is lost. Takes both cores.
  add_test(NAME selftest.kill_matrix COMMAND refute-selftest selftest ${PROJECT_SOURCE_DIR}/contracts)
  set_tests_properties(selftest.kill_matrix PROPERTIES RUN_SERIAL TRUE TIMEOUT 1500 COST 1000)
endif()
