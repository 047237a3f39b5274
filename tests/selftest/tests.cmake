# The selftest, in the build with fault sites. The matrix itself is a test too: it fails when a kill of
# contracts/kill-matrix.json is lost, a fault survives or is not reached, or a mutant stays green.
if(REFUTE_FAULTS)
  refute_test(selftest
    selftest/attempts_test.cc
    selftest/cli_selftest_test.cc
    selftest/selftest_test.cc
    selftest/worker_pool_test.cc
  )
  target_link_libraries(selftest_tests PRIVATE selftest)
  target_compile_definitions(selftest_tests PRIVATE REFUTE_BINARY="$<TARGET_FILE:refute-selftest>")
  add_dependencies(selftest_tests refute-selftest)

  add_test(NAME selftest.kill_matrix
    COMMAND refute-selftest selftest ${PROJECT_SOURCE_DIR}/contracts)
  set_tests_properties(selftest.kill_matrix PROPERTIES RUN_SERIAL ON TIMEOUT 1200)
endif()
